"""What an author can set on a workflow and on a step, checked and in the engine's units.

`workflow_options` and `step_options` take what the author wrote and return the frozen result, or
raise `AuthoringError` naming the option. Names are `[A-Za-z0-9._:-]{1,64}`; a key is any text of 1
to 256 bytes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from stepflow.authoring.limits import Concurrency, Limit, RateLimit, limits_of, member_path
from stepflow.authoring.retention import Kept, Retention, kept_of
from stepflow.authoring.schedule import Planned, Schedule, schedules_of
from stepflow.authoring.signature import check_event_template
from stepflow.errors import AuthoringError
from stepflow.model.durations import Duration, parse_duration_ms
from stepflow.model.retry import RetryPolicy

__all__ = [
    "DEFAULT_STEP",
    "KNOWN_NAMES",
    "UNDO",
    "Durability",
    "OnDivergence",
    "StepOptions",
    "WorkflowOptions",
    "check_event_id",
    "check_key",
    "check_name",
    "check_tags",
    "default_id",
    "step_options",
    "workflow_options",
]

Durability = Literal["strict", "relaxed"]
OnDivergence = Literal["park", "fail"]

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_KEY_BYTES_MAX: Final = 256
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TAGS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class StepOptions:
    """How one step runs. `retry=None` is the workflow's policy, `timeout_ms=None` no limit."""

    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    compensate: Callable[..., Any] | None = None
    durability: Durability = "strict"
    at_most_once: bool = False
    key: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowOptions:
    """How one workflow is registered.

    `events` and `on` are event ids, `schedules` when runs start by themselves, `limits` what
    `concurrency=` and `rate_limit=` come to, `priority` the part of the input that says who goes
    first, `retention` which of its finished runs are kept. `renamed` maps a step's former function
    to the present one.
    """

    id: str
    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    events: tuple[str, ...] = ()
    on: str | None = None
    schedules: tuple[Planned, ...] = ()
    limits: tuple[Limit, ...] = ()
    priority: tuple[str, ...] | None = None
    retention: Kept | None = None
    tags: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    on_divergence: OnDivergence = "park"
    description: str = ""


DEFAULT_STEP: Final = StepOptions()
_NOTHING: Final = (None, None, None, None)


def step_options(
    *,
    key: str | None = None,
    retry: RetryPolicy | None = None,
    timeout: Duration | None = None,
    compensate: Callable[..., Any] | None = None,
    durability: str = "strict",
    at_most_once: bool = False,
) -> StepOptions:
    """Return the options of one call of `ctx.step`."""
    if durability not in {"strict", "relaxed"}:
        raise AuthoringError(f'durability={durability!r} is neither "strict" nor "relaxed"')
    if compensate is not None and not callable(compensate):  # pyright: ignore[reportUnnecessaryComparison]
        raise AuthoringError(f"compensate={compensate!r} is not a function")
    chosen = (key, retry, timeout, compensate)
    if chosen == _NOTHING and durability == "strict" and not at_most_once:
        return DEFAULT_STEP
    return StepOptions(
        retry=_retry(retry),
        timeout_ms=_timeout_ms(timeout),
        compensate=compensate,
        durability=cast("Durability", durability),
        at_most_once=at_most_once,
        key=None if key is None else check_key(key),
    )


def workflow_options(  # noqa: PLR0913  as many as the decorator has
    fn: Callable[..., Any],
    id: str | None = None,
    *,
    retry: RetryPolicy | None = None,
    timeout: Duration | None = None,
    events: Sequence[str] = (),
    on: str | None = None,
    schedule: str | Schedule | Sequence[str | Schedule] | None = None,
    concurrency: int | Concurrency | Sequence[Concurrency] | None = None,
    rate_limit: str | RateLimit | Sequence[RateLimit] | None = None,
    priority: str | None = None,
    retention: Duration | Retention | None = None,
    tags: Sequence[str] = (),
    aliases: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    on_divergence: str = "park",
    description: str | None = None,
) -> WorkflowOptions:
    """Return the options of one `@flow.workflow`; the id and description default to `fn`'s own."""
    workflow_id = check_name(default_id(fn) if id is None else id, "workflow id")
    return WorkflowOptions(
        id=workflow_id,
        retry=_retry(retry),
        timeout_ms=_timeout_ms(timeout),
        events=_events(events),
        on=_on(on),
        schedules=schedules_of(workflow_id, schedule),
        limits=limits_of(workflow_id, concurrency, rate_limit),
        priority=None if priority is None else member_path("priority", priority),
        retention=kept_of(retention),
        tags=check_tags(tags),
        aliases=tuple(check_name(alias, "alias") for alias in _sequence("aliases", aliases)),
        renamed=_renamed(renamed),
        on_divergence=_on_divergence(on_divergence),
        description=_description(fn) if description is None else description,
    )


# ---------------------------------------------------------------- names


UNDO: Final = "undo:"
"""What the names of the steps begin with that undo others; no other step may be called so."""
KNOWN_NAMES: Final[set[str]] = set()
"""Names that were found good: a program has few, and uses each often."""
_KNOWN_MAX: Final = 4096


def check_name(name: object, what: str = "name") -> str:
    """Return `name` if it is letters, digits and `._:-`, 1 to 64 of them."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        if len(KNOWN_NAMES) < _KNOWN_MAX and not name.startswith(UNDO):
            KNOWN_NAMES.add(name)
        return name
    raise AuthoringError(
        f"{what} {name!r:.100} is not 1 to 64 letters, digits or . _ : - "
        "(data that varies goes into key=)"
    )


def check_key(key: object) -> str:
    """Return `key` if it is text of 1 to 256 bytes in UTF-8."""
    if not isinstance(key, str):
        raise AuthoringError(f"key={key!r:.100} is not a str; write str(…)")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise AuthoringError(f"key={key!r:.100} has a lone surrogate, so it is not UTF-8") from None
    if not 1 <= size <= _KEY_BYTES_MAX:
        raise AuthoringError(
            f"key={key!r:.100} has {size} bytes; 1 to {_KEY_BYTES_MAX} are allowed"
        )
    return key


def check_event_id(event: object) -> str:
    """Return `event` if it is text of 1 to 256 bytes without control characters."""
    if isinstance(event, str) and not _CONTROL.search(event):
        try:
            size = len(event.encode())
        except UnicodeEncodeError:
            size = 0
        if 1 <= size <= _KEY_BYTES_MAX:
            return event
    raise AuthoringError(
        f"event id {event!r:.100} is not text of 1 to {_KEY_BYTES_MAX} bytes without control "
        "characters"
    )


def check_tags(tags: object) -> tuple[str, ...]:
    """Return the tags, each once; at most 16, each under the rule for keys."""
    found = tuple(dict.fromkeys(_tag(tag) for tag in _sequence("tags", tags)))
    if len(found) > _TAGS_MAX:
        raise AuthoringError(f"{len(found)} tags; at most {_TAGS_MAX} are allowed")
    return found


def _tag(tag: object) -> str:
    try:
        return check_key(tag)
    except AuthoringError as error:
        raise AuthoringError(str(error).replace("key=", "tag ", 1)) from None


# ---------------------------------------------------------------- one option each


def default_id(fn: Callable[..., Any]) -> str:
    """Return the id of a workflow that was given none."""
    return str(getattr(fn, "__name__", "")).replace("_", "-")


def _description(fn: Callable[..., Any]) -> str:
    return (inspect.getdoc(fn) or "").partition("\n\n")[0].replace("\n", " ")


def _sequence(option: str, value: object) -> Sequence[object]:
    # A lone str is a sequence of letters: the usual slip.
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise AuthoringError(f"{option}={value!r} is not a list; write [{value!r}]")
    return cast("Sequence[object]", value)


def _retry(value: object) -> RetryPolicy | None:
    if value is None or isinstance(value, RetryPolicy):
        return value
    raise AuthoringError(f"retry={value!r} is not a RetryPolicy; write RetryPolicy(max_attempts=…)")


def _ms(option: str, value: Duration) -> int:
    try:
        ms = parse_duration_ms(value)
    except ValueError as error:
        raise AuthoringError(f"{option}: {error}") from None
    if ms == 0:
        raise AuthoringError(f"{option}={value!r} is no time at all; None is no limit")
    return ms


def _timeout_ms(value: Duration | None) -> int | None:
    return None if value is None else _ms("timeout", value)


def _events(value: object) -> tuple[str, ...]:
    found = _sequence("events", value)
    for template in found:
        check_event_template(template)
    return cast("tuple[str, ...]", tuple(found))


def _on(value: object) -> str | None:
    if value is None:
        return None
    check_event_template(value)
    if "{" in cast("str", value):
        raise AuthoringError(f"on={value!r}: a run that is not there yet has no input to fill in")
    return cast("str", value)


def _renamed(value: object) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AuthoringError(f"renamed={value!r} is not a dict of former to present names")
    pairs = cast("Mapping[object, object]", value)
    if not all(isinstance(name, str) for pair in pairs.items() for name in pair):
        raise AuthoringError(f"renamed={value!r}: write the functions' names as text")
    return dict(cast("Mapping[str, str]", pairs))


def _on_divergence(value: str) -> OnDivergence:
    if value not in {"park", "fail"}:
        raise AuthoringError(f'on_divergence={value!r} is neither "park" nor "fail"')
    return cast("OnDivergence", value)
