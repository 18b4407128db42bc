"""Why a run waits: in one sentence, and as data. PURE: what it is made of is handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from stepflow.clock import rfc3339
from stepflow.model.shown import Shown
from stepflow.model.views import call_error

if TYPE_CHECKING:
    from stepflow.model.run import CallState

__all__ = [
    "HeldThread",
    "NearMiss",
    "WaitKind",
    "WaitingFor",
    "WhyView",
    "of_call",
    "sentence",
    "since",
    "span",
]

WaitKind = Literal[
    "event",
    "sleep",
    "retry",
    "step",
    "thread",
    "child",
    "notify",
    "code",
    "delay",
    "queue",
    "pause",
    "cancelling",
    "divergence",
    "missing-workflow",
    "quarantine",
    "disk",
    "wake",
]
_SHOWN_MAX = 100
"""So many things that it waits for are listed; a sentence names three."""
_NAMED_MAX = 3


class NearMiss(msgspec.Struct, rename="camel", kw_only=True):
    """An event that was sent and reached nobody, or was refused."""

    event_id: str
    times: int
    last_at: str
    refused: str | UnsetType = UNSET


class HeldThread(msgspec.Struct, rename="camel", kw_only=True):
    """A thread whose sync step timed out, or was given up, and goes on: it holds its place."""

    run_id: str
    workflow_id: str
    key: str
    attempt: int
    since: str


class WaitingFor(msgspec.Struct, rename="camel", kw_only=True):
    """One thing that the run waits for."""

    kind: WaitKind
    name: str
    key: str | UnsetType = UNSET
    event_id: str | UnsetType = UNSET
    due_at: str | UnsetType = UNSET
    since: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    """Of the last attempt."""
    near_misses: list[NearMiss] | UnsetType = UNSET
    run_id: str | UnsetType = UNSET
    """Of a child."""
    position: int | UnsetType = UNSET
    ahead: int | UnsetType = UNSET
    limit: str | UnsetType = UNSET
    held_by: tuple[str, ...] | UnsetType = UNSET
    zombies: int | UnsetType = UNSET
    """Of a step that waits for a free thread: how many are held by steps that timed out."""
    held_threads: list[HeldThread] | UnsetType = UNSET
    """Ten of those at most, oldest first."""
    by: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    circle: tuple[str, ...] | UnsetType = UNSET
    """Runs that wait for each other, each for the next one: none goes on by itself."""
    names: list[str] | UnsetType = UNSET
    """Of a missing workflow: registered ones with a name like it."""
    says: str = ""
    """The sentence about this one."""


class WhyView(Shown, rename="camel", kw_only=True):
    """What `GET /runs/{runId}/why` answers."""

    summary: str
    waiting_for: list[WaitingFor]
    more: int | UnsetType = UNSET
    """How many further calls it waits for that are not listed."""


def span(ms: int) -> str:
    """Return a time for people: `12s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    seconds = max(0, ms) // 1000
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def since(started_ms: int, now_ms: int) -> str:
    """Return `since 3m 05s`."""
    return f"since {span(now_ms - started_ms)}"


def of_call(call: CallState, now_ms: int) -> WaitingFor:
    """Return what the call waits for, as its records tell it."""
    kind: WaitKind = call.kind
    if kind == "step" and call.due:
        kind = "retry"
    found = WaitingFor(kind=kind, name=call.name, key=call.key, since=rfc3339(call.started_ms))
    if call.due:
        found.due_at = rfc3339(call.due)
    if call.kind == "step":
        found.attempts = max(call.attempt, 1)
        if call.error is not None:
            found.error = Raw(call_error(call))
    if call.event:
        found.event_id = call.event
    if call.child:
        found.run_id = call.child
    found.says = _say_call(call, found, now_ms)
    return found


def _say_call(call: CallState, found: WaitingFor, now_ms: int) -> str:
    began = since(call.started_ms, now_ms)
    match found.kind:
        case "sleep":
            return f"it sleeps in {call.name!r}, for {span(call.due - now_ms)} more"
        case "event":
            ends = f", for {span(call.due - now_ms)} more" if call.due else ""
            return f"it waits for the event {call.event!r} {began}{ends}"
        case "retry":
            left = span(call.due - now_ms)
            error = msgspec.json.decode(bytes(found.error or b"{}"))
            told = f"{error.get('type', 'Error')}: {error.get('message', '')}"[:200]
            return (
                f"step {call.name!r} is tried again in {left}: "
                f"attempt {call.attempt} failed with {told}"
            )
        case "child":
            return f"it waits for its child {call.child} {began}"
        case _:
            return f"step {call.name!r} runs {began}, in attempt {max(call.attempt, 1)}"


def sentence(found: list[WaitingFor], more: int = 0) -> str:
    """Return what is waited for in one sentence."""
    named = [row.says for row in found[:_NAMED_MAX]]
    left = len(found) + more - len(named)
    if left:
        named.append(f"and for {left} more")
    text = "; ".join(named)
    return f"{text[:1].upper()}{text[1:]}."
