"""Event ids that somebody sent and no run took: what a run that waits may have been meant to get.

Lives in memory: it helps to explain, nothing rests on it, and a restart forgets it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from stepflow.model.likeness import alike

__all__ = ["Sent", "Unheard"]

_IDS_MAX: Final = 256
_ID_BYTES_MAX: Final = 256
_WHY_MAX: Final = 200


class Sent(NamedTuple):
    """One id: how often, when last, and why it was refused, where runs did not want its payload."""

    event_id: str
    times: int
    last_ms: int
    refused: str


class Unheard:
    """The 256 ids that were sent last."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Sent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, event_id: str, now_ms: int, refused: str = "") -> None:
        """The event reached nobody, or was refused."""
        if len(event_id) > _ID_BYTES_MAX:
            return
        known = self._rows.pop(event_id, None)
        times = known.times + 1 if known is not None else 1
        self._rows[event_id] = Sent(event_id, times, now_ms, refused[:_WHY_MAX])
        if len(self._rows) > _IDS_MAX:
            self._rows.popitem(last=False)

    def get(self, event_id: str) -> Sent | None:
        """Return what is known of this very id."""
        return self._rows.get(event_id)

    def like(self, event_id: str) -> list[Sent]:
        """Return the ids that are most like this one."""
        return [self._rows[name] for name in alike(event_id, self._rows)]
