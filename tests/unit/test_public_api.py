"""The public names are those that are published, with their parameters, and no more.

What is fixed stands in the tables below: it may be added to, with a line in ADDED and in the docs,
but a name or a parameter that clients rely on never goes and never changes its place.
"""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import pytest

import stepflow
import stepflow.client
import stepflow.testing
from stepflow import (
    Context,
    Endpoints,
    RetryPolicy,
    RunHandle,
    StepFailedError,
    Stepflow,
    current_step,
)
from stepflow.cli.main import main
from stepflow.client import Client, SyncClient
from stepflow.runtime.current import StepInfo
from stepflow.testing import WorkflowTest

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = "\n".join(
    path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
)

PUBLISHED: Final = """
MEMORY Context Stepflow RetryPolicy RunHandle Settings Endpoints allow_all current_step
StepflowError StepFailedError EventTimeoutError StepInterruptedError NonRetryableError
RetryAfterError RunCancelledError RunFailedError WorkflowNotFoundError RunNotFoundError
EventNotFoundError UnauthorizedError ForbiddenError InvalidInputError ConflictError
PayloadTooLargeError RateLimitedError UnavailableError OutcomeUnknownError DataDirLockedError
JournalCorruptError DivergenceError
"""

OPTIONS: Final = (
    "id= * retry= timeout= events= on= schedule= concurrency= rate_limit= retention= tags= "
    "aliases= renamed= on_divergence=park description="
)

# `name` before `*`: by place or by name. Behind it: by name alone. `name=` has a default.
SIGNATURES: Final[dict[str, tuple[Any, str]]] = {
    "Stepflow": (Stepflow, "data_dir= * settings= engine= on_fatal="),
    "Stepflow.workflow": (
        Stepflow.workflow,
        OPTIONS,
    ),
    "Stepflow.trigger": (
        Stepflow.trigger,
        "workflow input= * run_id= idempotency_key= tags= delay=",
    ),
    "Stepflow.trigger_many": (Stepflow.trigger_many, "workflow inputs"),
    "Stepflow.notify": (Stepflow.notify, "event_id payload= * run_id="),
    "Stepflow.get_run": (Stepflow.get_run, "run_id"),
    "Stepflow.list_runs": (Stepflow.list_runs, "* status= workflow_id= tag= limit= cursor="),
    "Stepflow.stream": (Stepflow.stream, "run_id after=0"),
    "Stepflow.cancel": (Stepflow.cancel, "run_id"),
    "Stepflow.retry": (Stepflow.retry, "run_id"),
    "Stepflow.fork": (Stepflow.fork, "run_id from_step * input= results="),
    "Stepflow.pause": (Stepflow.pause, "run_id"),
    "Stepflow.resume": (Stepflow.resume, "run_id"),
    "Stepflow.purge": (Stepflow.purge, "run_id"),
    "Stepflow.asgi": (
        Stepflow.asgi,
        "* endpoints=all auth=None on_auth_failure=None health_check=None cors_origins=() ui=True",
    ),
    "Stepflow.routes": (Stepflow.routes, "* endpoints=all auth=None"),
    "Stepflow.lifespan": (Stepflow.lifespan, "app="),
    "Stepflow.mount": (Stepflow.mount, "app path="),
    "Stepflow.wrap": (Stepflow.wrap, "host path="),
    "Stepflow.begin_shutdown": (Stepflow.begin_shutdown, ""),
    "RunHandle.result": (RunHandle.result, ""),
    "RunHandle.get": (RunHandle.get, ""),
    "RunHandle.stream": (RunHandle.stream, "after=0"),
    "RunHandle.cancel": (RunHandle.cancel, ""),
    "Context.step": (
        Context.step,
        "name fn * key=None retry=None timeout=None compensate=None at_most_once= durability=",
    ),
    "Context.map": (Context.map, "name fn items * key=None limit=None"),
    "Context.sleep": (Context.sleep, "name duration"),
    "Context.sleep_until": (Context.sleep_until, "name when"),
    "Context.wait_for_event": (
        Context.wait_for_event,
        "name event_id=None * timeout=24h type= default=",
    ),
    "Context.notify": (Context.notify, "event_id payload="),
    "Context.call": (Context.call, "workflow input= name=None"),
    "Context.start": (Context.start, "workflow input="),
    "Context.first": (Context.first, ""),
    "Context.emit": (Context.emit, "name data="),
    "Context.restart": (Context.restart, "input="),
    "Context.now": (Context.now, ""),
    "Context.random": (Context.random, ""),
    "Context.uuid": (Context.uuid, ""),
    "Context.progress": (Context.progress, "done total= message="),
    "Context.version": (Context.version, "name n"),
    "RetryPolicy": (
        RetryPolicy,
        "max_attempts=4 initial=1s factor=2.0 max_delay=1m jitter=True non_retryable=()",
    ),
    "Endpoints": (Endpoints, "* trigger= notify= runs= runs_stream= health="),
    "current_step": (current_step, ""),
    "WorkflowTest": (WorkflowTest, "flow * strict=True replay="),
    "WorkflowTest.advance": (WorkflowTest.advance, "duration"),
    "WorkflowTest.stub": (WorkflowTest.stub, "step"),
    "WorkflowTest.crash": (WorkflowTest.crash, ""),
    "Client": (Client, "url api_key="),
    "SyncClient": (SyncClient, "url api_key="),
    "Client.stream": (Client.stream, "run_id"),
}

ATTRIBUTES: Final[dict[type, str]] = {
    Context: "run_id workflow_id attempt tags log",
    RunHandle: "id public_access_token",
    StepInfo: "run_id name key attempt idempotency_key emit",
    Stepflow: "schedules data_dir",
}

ADDED: Final[dict[type, str]] = {
    Stepflow: (
        "audit authenticate blocking bulk check export_run handlers start_background stream_all why"
    ),
    RunHandle: "fork pause resume retry",
    Context: "scheduled_at wait_for_all wait_for_any",
}
"""Beyond what was published first. Each is in the docs."""

INNER: Final[dict[type, str]] = {
    # `serve`, the hosts and the test kit are other rooms of the same package.
    Stepflow: "auth_chain engine swap_engine use_data_dir",
    RunHandle: "",
    Context: "",
}

COMMANDS: Final[dict[str, str]] = {
    "serve": "TARGET --data --host --port --base-path --endpoints --no-auth --reload",
    "trigger": "WORKFLOW INPUT_ --follow",
    "notify": "EVENT PAYLOAD",
    "runs": "list show watch why cancel retry fork purge",
    "keys": "create list revoke",
    "token": "RUN",
    "verify": "DIRECTORY",
    "dump": "DIRECTORY",
    "backup": "DIRECTORY TO",
    "repair": "DIRECTORY",
    "check": "TARGET --data",
    "new": "DIRECTORY",
    "bench": "",
    "openapi": "",
}


def public(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", PUBLISHED.split())
def test_a_published_name_is_there(name: str) -> None:
    assert name in stepflow.__all__
    assert getattr(stepflow, name) is not None


def test_all_is_sorted_whole_and_without_repeats() -> None:
    def order(name: str) -> tuple[int, str]:
        # As ruff sorts it: constants, classes, functions.
        return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

    for module in (stepflow, stepflow.testing, stepflow.client):
        names = list(module.__all__)
        assert names == sorted(names, key=order), module.__name__
        assert len(names) == len(set(names))
        assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", [stepflow, stepflow.client, stepflow.testing])
def test_nothing_else_is_public_but_rooms_and_modules(module: types.ModuleType) -> None:
    others = public(vars(module)) - set(module.__all__)
    assert [name for name in others if not isinstance(vars(module)[name], types.ModuleType)] == []


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_published_signature_holds(name: str) -> None:
    function, text = SIGNATURES[name]
    found = parameters(function)
    placed = [
        p.name
        for p in found.values()
        if p.kind in {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}
    ]
    by_place, _, by_name = text.partition("*")
    if "*" not in text:
        by_place, by_name = text, ""
    first = by_place.split()
    # Those by place are the first ones, in this order.
    assert placed[: len(first)] == [each.partition("=")[0] for each in first]
    for each in first + by_name.split():
        parameter, equals, default = each.partition("=")
        assert parameter in found, f"{name} has no {parameter}"
        has_default = found[parameter].default is not inspect.Parameter.empty
        assert has_default == bool(equals), f"{name}: {parameter}"
        if default:
            assert str(found[parameter].default) == default, f"{name}: {parameter}"
    for each in by_name.split():
        parameter = each.partition("=")[0]
        assert found[parameter].kind is inspect.Parameter.KEYWORD_ONLY, f"{name}: {parameter}"
    # Whatever was added has a default: calls of before go on.
    known = {each.partition("=")[0] for each in first + by_name.split()}
    for parameter in found.values():
        variable = parameter.kind in {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }
        if parameter.name not in known and not variable and text:
            assert parameter.default is not inspect.Parameter.empty, f"{name}: {parameter.name}"


@pytest.mark.parametrize("owner", ATTRIBUTES, ids=lambda owner: owner.__name__)
def test_published_attributes_are_there(owner: type) -> None:
    fields = set(getattr(owner, "__dataclass_fields__", {})) | set(dir(owner))
    assert set(ATTRIBUTES[owner].split()) <= fields


def test_a_failed_step_says_which_why_and_how_often() -> None:
    error = StepFailedError("charge", "ValueError", "declined", 4)
    assert (error.name, error.error_type, error.message, error.attempts) == (
        *("charge", "ValueError", "declined"),
        4,
    )


@pytest.mark.parametrize("owner", ADDED, ids=lambda owner: owner.__name__)
def test_no_name_is_public_by_accident(owner: type) -> None:
    published = {
        name.partition(".")[2] for name in SIGNATURES if name.startswith(f"{owner.__name__}.")
    }
    known = published | set(ATTRIBUTES[owner].split())
    known |= set(ADDED[owner].split()) | set(INNER[owner].split())
    assert public(vars(owner)) == known


@pytest.mark.parametrize("name", [name for names in ADDED.values() for name in names.split()])
def test_what_was_added_is_in_the_docs(name: str) -> None:
    assert re.search(rf"\b(?:flow|ctx|handle|run|background|blocking)\.{name}\b|`{name}[`(]", DOCS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_published_command_has_its_words(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    words = {
        option.upper() if isinstance(param, click.Argument) else option
        for param in command.params
        for option in (param.opts if isinstance(param, click.Option) else [str(param.name)])
    }
    if isinstance(command, click.Group):
        words |= set(command.list_commands(click.Context(command)))
    assert set(COMMANDS[name].split()) <= words
