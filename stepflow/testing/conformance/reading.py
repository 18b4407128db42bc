"""What claims read of a run, and how they wait for what they need to see: never by time."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.model.views import RunEvent
    from stepflow.testing.conformance.callers import Caller

__all__ = ["ENDS", "NO_RUN", "decoded", "fresh", "read_events", "rows_of", "until_asking"]
__all__ += ["until_event", "until_waiting"]

NO_RUN: Final = "run_0000000000000000000000"
"""The id of no run."""
ENDS: Final = frozenset({"complete", "error"})
"""The events that end a stream."""


def fresh() -> str:
    """Return a text that no other claim uses: the engine, and its store, may be shared."""
    return uuid.uuid4().hex[:16]


async def read_events(caller: Caller, run_id: str, after: int | None = None) -> list[RunEvent]:
    """Return the run's events to its end."""
    async with aclosing(caller.stream(run_id, after)) as stream:
        return [event async for event in stream]


async def until_event(caller: Caller, run_id: str, is_it: Callable[[RunEvent], bool]) -> None:
    """Return once the run has told the event that is looked for."""
    async with aclosing(caller.stream(run_id)) as stream:
        async for event in stream:
            if is_it(event):
                return
    raise AssertionError(f"{run_id} ended and never told what was looked for")


async def until_asking(caller: Caller, run_id: str, kind: str = "event", times: int = 1) -> None:
    """Return once the run is seen to have asked for so many calls of the kind."""
    seen: set[str] = set()

    def is_it(event: RunEvent) -> bool:
        if event.event == "status" and event.json().get("kind") == kind:
            seen.add(event.json()["key"])
        return len(seen) == times

    await until_event(caller, run_id, is_it)


async def until_waiting(caller: Caller, run_id: str) -> None:
    """Return once the run is seen to wait for an event."""
    await until_asking(caller, run_id)


def rows_of(events: Sequence[RunEvent]) -> list[tuple[int, str, Any]]:
    """Return what two streams that tell the same have in common."""
    return [(event.id, event.event, event.json()) for event in events]


def decoded(raw: Any) -> Any:
    """Return the value of a JSON text that a view holds."""
    return msgspec.json.decode(bytes(raw))
