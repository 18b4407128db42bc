"""Which events a reader of all runs wants. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

import msgspec

from stepflow.errors import InvalidInputError
from stepflow.model.ids import is_run_id
from stepflow.model.run import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EVERYTHING", "STATUSES", "EventFilter", "wanted_events"]

STATUSES: Final[tuple[str, ...]] = get_args(RunStatus)


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is empty leaves out nothing; but `run_ids`, where given, name all there is to see."""

    status: frozenset[str] = frozenset()
    """The run's status, as the event leaves it."""
    workflow_id: str = ""
    tags: frozenset[str] = frozenset()
    """The run bears all of them."""
    run_ids: frozenset[str] | None = None

    @property
    def takes_all(self) -> bool:
        """Whether it leaves out nothing."""
        return self == EVERYTHING

    def takes(self, run_id: str, workflow_id: str, tags: tuple[str, ...], status: str) -> bool:
        """Whether an event of that run is wanted."""
        return (
            (self.run_ids is None or run_id in self.run_ids)
            and (not self.workflow_id or workflow_id == self.workflow_id)
            and (not self.status or status in self.status)
            and self.tags.issubset(tags)
        )


EVERYTHING = EventFilter()


def wanted_events(
    status: Iterable[str], workflow_id: str, tags: Iterable[str], run_ids: Iterable[str] | None
) -> EventFilter:
    """Return the filter. Raises `InvalidInputError` for what is no status or no run id."""
    statuses = frozenset(status)
    unknown = statuses.difference(STATUSES)
    if unknown:
        raise InvalidInputError(f"status: {min(unknown)!r} is none of {', '.join(STATUSES)}")
    runs = None if run_ids is None else frozenset(run_ids)
    if runs is not None and not all(map(is_run_id, runs)):
        raise InvalidInputError("runId: a run id is run_ and 8 to 64 letters or digits")
    return EventFilter(status=statuses, workflow_id=workflow_id, tags=frozenset(tags), run_ids=runs)
