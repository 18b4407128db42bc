"""What a caller put into a run does not command the terminal of the operator who looks at it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
import pytest

from stepflow import MEMORY, Context, NonRetryableError, Stepflow
from stepflow.auth.handlers import allow_all
from tests.cli_kit import run_cli
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

# A screen wiped and a title set, in 7 and in 8 bits; a line begun anew; a text turned round.
TEXT: Final = "a\x1b[2J\x1b]0;b\x07c\x9b2J\x9d0;d\x9c\re\x7f\b\u202ef\u2028g\x85h\vi"
CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


async def fail(text: str) -> None:
    raise NonRetryableError(text)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    flow = Stepflow(MEMORY)

    @flow.workflow("hostile")
    async def hostile(ctx: Context, value: dict[str, Any]) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Say the text everywhere."""
        text: str = value["text"]
        await ctx.emit("said", {"text": text})
        ctx.progress(1, 2, text)
        if value["waits"]:
            await ctx.wait_for_event("go", f"go-{text}", timeout="1h")
        if value["fails"]:
            await ctx.step("failing", fail, text)
        return {"text": text}

    with served(flow, auth=allow_all) as at:
        yield at


def a_run(url: str, **how: bool) -> str:
    given = {"text": TEXT, "waits": False, "fails": False} | how
    run: str = httpx.post(f"{url}/trigger/hostile", json=given, timeout=60).json()["runId"]
    return run


@pytest.mark.parametrize("how", ["completes", "fails", "waits"])
def test_no_command_prints_a_control_character(url: str, tmp_path: Path, how: str) -> None:
    run = a_run(url, fails=how == "fails", waits=how == "waits")
    if how != "waits":
        httpx.get(f"{url}/runs/{run}/stream", timeout=60)
    commands = {
        "completes": [["runs", "show", run], ["runs", "watch", run], ["runs", "list", "--json"]],
        "fails": [["runs", "show", run], ["runs", "watch", run, "--json"]],
        "waits": [["runs", "show", run], ["runs", "list"]],
    }[how]
    for words in commands:
        done = run_cli(*words, cwd=tmp_path, STEPFLOW_URL=url)
        assert not CONTROL.search(done.out + done.err), (words, done)
        if words[-1] == "--json":
            parsed = [json.loads(line) for line in done.out.splitlines()]
            # It means what it meant: a reader of JSON gets the text itself.
            assert any(TEXT in values(each) for each in parsed)


def values(value: object) -> list[object]:
    """Return every text in a JSON value."""
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value)
        return [text for each in inner.values() for text in values(each)]
    if isinstance(value, list):
        return [text for each in cast("list[object]", value) for text in values(each)]
    return [value]


def test_a_refusal_prints_no_control_character(url: str, tmp_path: Path) -> None:
    for words in (["runs", "show", f"run_{TEXT}"], ["trigger", TEXT], ["notify", TEXT]):
        done = run_cli(*words, cwd=tmp_path, STEPFLOW_URL=url)
        assert done.code != 0
        assert not CONTROL.search(done.out + done.err), (words, done)
