"""How many runs have each status, for `GET /runs` and `GET /system`.

Those that live are counted at each look. Those that have ended may be millions: while it takes a
moment they are counted at each look, too; beyond that the count is good for twenty times as long as
it took, so that however many pages ask, counting takes at most a twentieth of a core.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from stepflow.model.views import RunCounts

if TYPE_CHECKING:
    from stepflow.clock import Clock
    from stepflow.engine.postgres.database import Database

__all__ = ["Counting"]

_AT_ONCE_S: Final = 0.02
"""A count that took no longer is made again at each look."""
_AGAIN: Final = 20
_KEPT: Final = 1000
"""So many workflows' counts are kept."""
_LIVE: Final = ("pending", "running")
_ENDED: Final = ("completed", "failed", "cancelled")
_ALL: Final = """
select status, count(*) from stepflow.runs where status = any(%s) group by status"""
_OF: Final = """
select status, count(*) from stepflow.runs
 where workflow = %s and status = any(%s) group by status"""

_Found = dict[str, int]


class Counting:
    """The counts as this process knows them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, _Found]] = OrderedDict()
        """Those that have ended, by workflow (the empty text: all), and until when it is good."""

    async def of(self, workflow_id: str = "") -> RunCounts:
        """Return the counts of one workflow's runs, or of all."""
        ended = await self._ended(workflow_id)
        found = {**await self._count(workflow_id, _LIVE), **ended}
        return RunCounts(**{status: found.get(status, 0) for status in (*_LIVE, *_ENDED)})

    async def _ended(self, workflow_id: str) -> _Found:
        began_s = self._clock.monotonic_s()
        until_s, found = self._kept.get(workflow_id, (0.0, None))
        if found is not None and began_s < until_s:
            return found
        found = await self._count(workflow_id, _ENDED)
        now_s = self._clock.monotonic_s()
        took_s = now_s - began_s
        self._kept.pop(workflow_id, None)
        if took_s > _AT_ONCE_S:
            self._kept[workflow_id] = now_s + _AGAIN * took_s, found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    async def _count(self, workflow_id: str, statuses: tuple[str, ...]) -> _Found:
        if workflow_id:
            rows = await self._database.rows(_OF, workflow_id, list(statuses))
        else:
            rows = await self._database.rows(_ALL, list(statuses))
        return {str(status): int(count) for status, count in rows}
