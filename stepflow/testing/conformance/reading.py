"""What claims read of a run, and how they wait for what they need to see: never by time."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.model.views import RunEvent
    from stepflow.testing.conformance.callers import Caller

__all__ = ["ENDS", "NO_RUN", "decoded", "fresh", "read_events", "rows_of", "until_waiting"]

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


async def until_waiting(caller: Caller, run_id: str) -> None:
    """Return once the run is seen to wait for an event."""
    async with aclosing(caller.stream(run_id)) as stream:
        async for event in stream:
            if event.event == "status" and event.json().get("kind") == "event":
                return
    raise AssertionError(f"{run_id} ended and never waited")


def rows_of(events: Sequence[RunEvent]) -> list[tuple[int, str, Any]]:
    """Return what two streams that tell the same have in common."""
    return [(event.id, event.event, event.json()) for event in events]


def decoded(raw: Any) -> Any:
    """Return the value of a JSON text that a view holds."""
    return msgspec.json.decode(bytes(raw))
