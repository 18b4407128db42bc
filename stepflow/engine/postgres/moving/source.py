"""Reads a data directory under its lock, as a start would, and writes nothing there.

Each pass reads the files anew, so that what is verified is what is on the disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepflow.engine.postgres.acts import row_of
from stepflow.engine.postgres.moving.rows import rows_of_run
from stepflow.errors import ConfigurationError
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_failed, read_store
from stepflow.runtime.restore import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepflow.journal.disk import Disk
    from stepflow.journal.recovery import Recovered
    from stepflow.model.rates import RateRow
    from stepflow.model.run import RunState
    from stepflow.model.schedules import ScheduleRow

    Tell = Callable[[str, int, int], None]

__all__ = ["LEFT_OUT", "Source", "Survey"]

LEFT_OUT: Final[dict[str, str]] = {
    "set-aside": "runs whose records cannot be applied (SFW401)",
}
"""What the PostgreSQL engine has no place for, by the name under which it is left out."""


@dataclass(slots=True)
class Survey:
    """What there is to move."""

    store: str
    lsn: int
    by_status: Counter[str] = field(default_factory=Counter[str])
    runs: int = 0
    records: int = 0
    lacking: dict[str, int] = field(default_factory=dict[str, int])
    """How much there is of what the other engine has not."""
    acts: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    """Who did what, oldest first, as rows of the audit."""
    schedules: list[ScheduleRow] = field(default_factory=list["ScheduleRow"])
    rates: list[RateRow] = field(default_factory=list["RateRow"])
    """Starts that a rate limit still counts."""
    messages: list[str] = field(default_factory=list[str])
    """What a start would say of the directory."""


class Source:
    """A directory that the caller has locked. Blocking."""

    def __init__(self, disk: Disk, now_ms: int, tell: Tell) -> None:
        self._disk = disk
        self._now_ms = now_ms
        self._tell = tell
        try:
            store = read_store(disk)
        except OSError as error:
            raise read_failed(disk, error) from error
        if store is None:
            raise ConfigurationError(f"{disk.path} has no runs: it is no data directory")
        self._store = store

    def _read(self) -> tuple[Restorer, Recovered]:
        restorer = Restorer()
        found = Recovery(
            self._disk,
            self._store,
            self._now_ms,
            restorer.on_line,
            restorer.on_record,
            lambda seen: self._tell(f"reading the {seen.phase}", seen.bytes_done, seen.bytes_total),
            read_only=True,
        ).run()
        return restorer, found

    def states(self) -> Iterator[RunState]:
        """Yield the runs that move in the order of their creation."""
        restorer, _ = self._read()
        for found in restorer.runs():
            state = found.state
            found.forget()
            if not state.failure:
                yield state

    def survey(self) -> Survey:
        """Count what there is."""
        restorer, found = self._read()
        survey = Survey(self._store.hex_id, found.lsn, messages=found.messages[1:])
        newest = restorer.audit.page(1 << 62, "", len(restorer.audit))
        survey.acts = [row_of(act) for act in reversed(newest)]
        aside = 0
        for run in restorer.runs():
            state = run.state
            run.forget()
            if state.failure:
                aside += 1
                continue
            survey.runs += 1
            survey.by_status[state.status] += 1
            survey.records += len(state.records)
            # What cannot become rows is to be known before anything is copied.
            rows_of_run(state)
        survey.schedules = list(restorer.schedules.rows.values())
        for row in restorer.rates.rows.values():
            row.prune(self._now_ms)
            if row.times:
                survey.rates.append(row)
        lacking = {"set-aside": aside}
        survey.lacking = {name: count for name, count in lacking.items() if count}
        return survey
