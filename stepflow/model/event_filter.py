"""Which events a reader of all runs wants. PURE."""

from __future__ import annotations

import msgspec

__all__ = ["EVERYTHING", "EventFilter"]


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
