"""The power fails after every single disk operation: what was acknowledged or seen is there.

A journal lives a whole life on a `MemoryDisk`: appends, segments, snapshots, compaction, starts.
After each operation the disk is cut, with all (when they are few) or many of the choices of what
had reached it: each unsynced 512-byte sector and each unsynced directory entry, or not. Each of
those disks is recovered and compared with what was acknowledged at that moment.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass, field

import pytest

from stepflow.errors import JournalCorruptError, OperatorError
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import Recovery
from stepflow.journal.segment import segment_lsn
from stepflow.journal.store import read_store
from tests.journal_kit import KIB, StillClock, opened, passes

pytestmark = pytest.mark.asyncio

ROWS = 5
TINY = {
    "segment_bytes_first": 4 * KIB,
    "segment_bytes_max": 8 * KIB,
    "frame_bytes_max": 4 * KIB,
    "reserve_file_bytes": 4 * KIB,
}


@dataclass
class Life:
    """What a caller knows: what it wrote, what it was promised, its rows."""

    history: dict[int, bytes] = field(default_factory=dict)
    rows: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    acked: int = 0

    def write(self, journal, size, *, strict=True):
        lsn = journal.next_lsn
        data = json.dumps({"t": "row", "lsn": lsn, "k": lsn % ROWS, "d": "x" * size}).encode()
        self.history[lsn] = data
        self.rows[lsn % ROWS] = (lsn, data)
        journal.append((data,), strict=strict)
        journal.when_durable(lsn, lambda error: self.ack(lsn) if error is None else None)

    def ack(self, lsn):
        self.acked = max(self.acked, lsn)

    def rows_at(self, last):
        """The rows as they were after record `last`."""
        rows = {}
        for lsn, data in self.history.items():
            if lsn <= last:
                rows[lsn % ROWS] = (lsn, data)
        return rows


def recovered(disk):
    """Recover as a caller would: lines first, then only what is newer than each row's line."""
    rows: dict[int, tuple[int, bytes]] = {}
    seen: list[int] = []

    def on_line(lsn, line):
        rows[json.loads(line)["k"]] = (lsn, line)

    def on_record(lsn, data):
        seen.append(lsn)
        key = json.loads(data)["k"]
        if lsn > rows.get(key, (0, b""))[0]:
            rows[key] = (lsn, data)

    store = read_store(disk)
    if store is None:
        return 0, {}
    found = Recovery(disk, store, 0, on_line, on_record).run()
    assert seen == sorted(set(seen))
    return found.lsn, rows


class Choices:
    """Answers `power_cut`'s questions from a list of bits, and counts them."""

    def __init__(self, bits):
        self.bits = bits
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return next(self.bits)


def cuts(disk, dice, many):
    """All disks that a cut may leave, or `many` of them when there are more."""
    none = Choices(itertools.repeat(False))
    yield disk.power_cut(none)
    yield disk.power_cut(lambda: True)
    if none.asked <= 4:
        for bits in itertools.product((False, True), repeat=none.asked):
            yield disk.power_cut(Choices(itertools.chain(bits, itertools.repeat(True))))
    else:
        for _ in range(many):
            yield disk.power_cut(lambda: dice.random() < 0.5)


class Watcher:
    """Cuts the power after each operation and counts what goes wrong."""

    def __init__(self, disk, life, *, many=4, seed=1):
        self.disk, self.life, self.many = disk, life, many
        self.dice = random.Random(seed)
        self.states = 0
        self.wrong: list[str] = []
        disk.after = self.look

    def look(self, operation, name):
        if operation in {"read", "pread", "listdir", "open"}:
            return
        acked = self.life.acked
        for cut in cuts(self.disk, self.dice, self.many):
            self.states += 1
            problem = self.judge(cut, acked)
            if problem:
                self.wrong.append(f"after {operation} {name}: {problem}")

    def judge(self, cut, acked):
        try:
            lsn, rows = recovered(cut)
        except OperatorError as error:
            return str(error)
        if lsn < acked:
            return f"acknowledged up to {acked}, recovered up to {lsn}"
        if rows != self.life.rows_at(lsn):
            return "rows differ"
        # What this recovery showed must survive the next cut too.
        try:
            again, same = recovered(cut.power_cut())
        except OperatorError as error:
            return f"second cut: {error}"
        return None if (again, same) == (lsn, rows) else "a second cut took back what was seen"


async def live(disk, life, *, starts=2, steps=14, seed=1):
    """A life of a journal: some starts, each with appends, snapshots and an end."""
    dice = random.Random(seed)
    for start in range(starts):
        session = await opened(disk, clock=StillClock(), **TINY)
        journal = session.journal
        for step in range(steps):
            for _ in range(dice.randrange(1, 4)):
                life.write(journal, dice.randrange(500), strict=dice.random() < 0.7)
            if dice.random() < 0.8:
                await passes(4)
            if step % 5 == 4:
                await snapshot(journal, life)
        await journal.durable(journal.last_lsn)
        await journal.close(clean=start % 2 == 0)


async def snapshot(journal, life):
    base = await journal.rotate()
    writer = journal.open_snapshot(base, 0)
    for key, (lsn, data) in sorted(life.rows.items()):
        await writer.write([(lsn, data)])
        if key == 2:
            life.write(journal, 10)  # a record from behind the base, in a later line
    await writer.finish()


@pytest.mark.parametrize("seed", range(4))
async def test_after_every_operation_a_power_cut_loses_nothing(seed):
    disk, life = MemoryDisk(), Life()
    watcher = Watcher(disk, life, many=8, seed=seed)
    await live(disk, life, seed=seed)
    assert watcher.wrong == []
    assert watcher.states > 1000
    assert len([n for n in disk.listdir() if segment_lsn(n)]) > 1


class Liar(MemoryDisk):
    """A disk whose driver skips one kind of sync."""

    def __init__(self, skipped):
        super().__init__()
        self.skipped = skipped

    def sync_dir(self, folder=""):
        if self.skipped != "sync_dir":
            super().sync_dir(folder)

    def open(self, name, *, create=False):
        file = super().open(name, create=create)
        if self.skipped in {"fsync", "fdatasync"}:
            return _LyingFile(file, self.skipped)
        return file


class _LyingFile:
    def __init__(self, file, skipped):
        self.file, self.skipped = file, skipped

    def __getattr__(self, name):
        if name == self.skipped:
            return lambda: None
        return getattr(self.file, name)


@pytest.mark.parametrize("skipped", ["sync_dir", "fsync", "fdatasync"])
async def test_this_check_finds_a_missing_sync(skipped):
    disk, life = Liar(skipped), Life()
    watcher = Watcher(disk, life, many=2)
    await live(disk, life, starts=1, steps=8)
    assert watcher.wrong


async def test_this_check_finds_an_acknowledgement_before_the_sync():
    disk, life = MemoryDisk(), Life()
    watcher = Watcher(disk, life, many=2)
    session = await opened(disk, **TINY)
    for _ in range(6):
        life.write(session.journal, 100)
        life.ack(session.journal.last_lsn)
        await passes(4)
    assert any("acknowledged up to" in wrong for wrong in watcher.wrong)
    await session.journal.close()


async def test_recovery_syncs_what_it_shows_before_anything_is_served():
    """After `kill -9` the cache has records that were never synced: shown, they must stay."""
    disk, life = MemoryDisk(), Life()
    session = await opened(disk, **TINY)
    life.write(session.journal, 100)
    await passes(4)

    killed = []

    def before(operation, _name):
        if operation == "fdatasync" and not killed:
            killed.append(disk.process_kill())

    disk.before = before
    life.write(session.journal, 100)
    await passes(4)
    acked_before_kill = 2
    (dead,) = killed
    lost, _ = recovered(dead.power_cut())
    assert lost == acked_before_kill
    seen, _ = recovered(dead)
    assert seen == acked_before_kill + 1
    assert recovered(dead.power_cut())[0] == seen
    await session.journal.close()


async def test_a_cut_in_the_middle_of_every_start_is_harmless():
    """Recover, write the start's record, tidy; cut and start again, many times over."""
    dice = random.Random(7)
    disk, life = MemoryDisk(), Life()
    session = await opened(disk, **TINY)
    for _ in range(20):
        life.write(session.journal, 200)
        await passes(4)
    await session.journal.durable(session.journal.last_lsn)
    promised = life.acked
    await session.journal.close(clean=False)
    for _ in range(30):
        alive = disk
        captured = []
        at = dice.randrange(1, 40)
        counter = itertools.count()

        def after(_operation, _name, alive=alive, captured=captured, at=at, counter=counter):
            if next(counter) == at:
                captured.append(alive.power_cut(lambda: dice.random() < 0.5))

        disk.after = after
        again = await opened(disk, **TINY)
        life.write(again.journal, 50)
        await passes(6)
        await again.journal.close(clean=False)
        disk.after = None
        disk = captured[0] if captured else disk.power_cut()
        lsn, rows = recovered(disk.process_kill())
        assert lsn >= promised
        # The record that was written in this round may be lost with the power: forget it then.
        life.history = {n: data for n, data in life.history.items() if n <= lsn}
        assert rows == life.rows_at(lsn)
        life.rows = dict(life.rows_at(lsn))
        life.acked = promised


async def test_damage_is_never_the_verdict_on_a_power_cut():
    """Thousands of cuts with sectors in any order: torn is torn, never SFW202 and the like."""
    disk, life = MemoryDisk(), Life()
    dice = random.Random(11)
    images = []

    def before(operation, _name):
        if operation == "fdatasync":
            images.extend(disk.power_cut(lambda: dice.random() < 0.7) for _ in range(10))

    disk.before = before
    session = await opened(disk, **(TINY | {"segment_bytes_first": 16 * KIB}))
    for _ in range(60):
        for _ in range(4):
            life.write(session.journal, dice.randrange(1500))
        await passes(4)
    await session.journal.close()
    assert len(images) > 500
    torn = 0
    for image in images:
        try:
            store = read_store(image)
            assert store is not None
            found = Recovery(image, store, 0, lambda *_: None, lambda *_: None).run()
        except JournalCorruptError as error:
            pytest.fail(str(error))
        torn += any(message.startswith("SFW101") for message in found.messages)
    assert torn > 250
