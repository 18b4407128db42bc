"""One life after another under one schedule: counts the records, and stops the world at a move.

The journal of each life is watched at its `append`: there every decision becomes a record, and a
**group** of records is on disk whole or not at all. When a move's place has come, the process is
**dying**: what is appended from then on is thrown away, no step's body begins, and whoever drives
the exploration kills the engine as soon as what was appended before is on disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepflow.journal.system import is_system
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from stepflow.testing.story import elapsed, words_of
from stepflow.testing.stubs import TestSeams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.journal.api import Journal
    from stepflow.runtime.calls import StepAsk
    from stepflow.testing.schedule import Move, Schedule

__all__ = ["Due", "Hands"]


@dataclass(frozen=True, slots=True)
class Due:
    """Something the driver must do now: kill, send an event, cancel."""

    kind: str
    event: str = ""


class Hands(TestSeams):
    """The seams of one schedule. `due` holds what the driver is to do, `woken` wakes it."""

    def __init__(self, schedule: Schedule, waited: Callable[[str], str | None], most: int) -> None:
        replays = any(move.kind == "replay" for move in schedule)
        super().__init__(replays_always=replays, threads=False)
        self.moves: deque[Move] = deque(move for move in schedule if move.at)
        self._waited = waited
        """Given an event id that is waited for, the label of the event to send."""
        self._most = most
        self.woken = asyncio.Event()
        self.due: deque[Due] = deque()
        self.dying = False
        self.too_many = False
        self.asked = 0
        """How many of the schedule's sends and cancels the driver was given."""
        self.count = 0
        """How many records the runs have written, in all lives."""
        self.groups: list[int] = []
        """The number of the last record of each group."""
        self.story: list[str] = []
        self._began_ms = 0
        self._real_lsn = 0
        """The last record that goes to the disk of this life."""
        self.journal: Journal | None = None

    # ------------------------------------------------------------ the runtime's questions

    def opened(self, journal: Journal) -> None:
        append, hurry = journal.append, journal.hurry
        self.journal = journal
        self.dying = False
        self._real_lsn = 0

        def appended(records: Sequence[bytes], *, strict: bool = True) -> int:
            if is_system(records[0]):
                return append(records, strict=strict)
            if not self.dying and not self._stops_before(len(records)):
                last = append(records, strict=strict)
                self._real_lsn = last
                self._wrote(records)
                return last
            if self.due and self.due[-1].kind == "kill":
                self._lost(records)
            # Decided by a process that is dead: it has a number, and never reaches the disk.
            journal.next_lsn += len(records)
            return journal.next_lsn - 1

        def hurried(lsn: int) -> None:
            hurry(min(lsn, self._real_lsn) if self.dying else lsn)

        # The engine of a test: its journal has no other user.
        journal.append = appended  # type: ignore[method-assign]
        journal.hurry = hurried  # type: ignore[method-assign]

    def body_of(self, ask: StepAsk) -> Callable[..., Any]:
        return _never if self.dying else super().body_of(ask)

    # ------------------------------------------------------------ moves

    def _stops_before(self, count: int) -> bool:
        move = self.moves[0] if self.moves else None
        if move is None or move.kind != "kill-before":
            return False
        if not self.count < move.at <= self.count + count:
            return False
        self._die()
        self._told_lost = False
        return True

    def _wrote(self, records: Sequence[bytes]) -> None:
        self.groups.append(self.count + len(records))
        waited: dict[str, str] = {}
        for data in records:
            self.count += 1
            record = decode_record(data)
            if record is not None:
                self._began_ms = self._began_ms or record.ts
                time = elapsed(record.ts - self._began_ms)
                self.story.append(f"{self.count:>5}  {time:<12}  {words_of(record)}")
            if isinstance(record, rec.WaitStarted):
                waited[record.key] = record.event
            elif isinstance(record, rec.WaitResolved | rec.WaitTimedOut):
                # A fork keeps a wait with what came of it.
                waited.pop(record.key, None)
        self.look()
        for event in dict.fromkeys(waited.values()):
            label = self._waited(event)
            if label is not None:
                self.do(Due("send", label))
        if self.count >= self._most and not self.too_many:
            self.too_many = True
            self._die()

    def look(self) -> None:
        """Do what is due now that so many records are written."""
        while self.moves and not self.dying and self.moves[0].at <= self.count:
            move = self.moves[0]
            if move.kind == "kill-before":
                return
            if move.kind == "kill-after":
                self._die()
                self.tell("the process is killed here, and starts again")
                return
            self.moves.popleft()
            self.asked += 1
            self.do(Due(move.kind, move.event))

    def _die(self) -> None:
        if self.moves and not self.too_many:
            self.moves.popleft()
        self.dying = True
        self.do(Due("kill"))

    def do(self, due: Due) -> None:
        """Give the driver something to do."""
        self.due.append(due)
        self.woken.set()

    def _lost(self, records: Sequence[bytes]) -> None:
        """Tell of the first group that does not reach the disk because of a `kill before`."""
        if self._told_lost:
            return
        self._told_lost = True
        found = [record for data in records if (record := decode_record(data)) is not None]
        what = ", ".join(map(words_of, found))
        self.tell(f"the process is killed here, and starts again; never on disk: {what}")

    _told_lost = True

    def tell(self, what: str) -> None:
        """Put a line of its own into the story."""
        self.story.append(f"     ── {what}")

    async def on_disk(self) -> None:
        """Return when what was appended before the death is on disk."""
        journal, lsn = self.journal, self._real_lsn
        if journal is None or journal.durable_lsn >= lsn:
            return
        there = asyncio.Event()
        journal.when_durable(lsn, lambda _: there.set())
        journal.hurry(lsn)
        await there.wait()


async def _never(*_args: Any) -> None:
    """Stand in for a body that a dead process does not begin."""
    await asyncio.get_running_loop().create_future()
