"""Some lives of a real engine on a traced disk, as small as they can be and still do everything.

A first start, triggers, kept events, segments that fill, snapshots while runs go on, compaction, a
purge, a clean stop; then starts after `kill -9` before a sync, after a power cut that tore a batch,
after kills inside a snapshot and inside a compaction. All file work is done on the loop, so the
trace is the same every time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.engine import local
from stepflow.engine.local import LocalEngine
from stepflow.errors import StepflowError
from stepflow.journal.api import Journal
from stepflow.runtime.snapshotter import Snapshotter
from stepflow.testing.clock import VirtualClock
from tests.recovery.power_cuts import DiskModel
from tests.recovery.recovered import recover
from tests.recovery.traced_disk import History, Op, TracedDisk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from stepflow.journal.api import SnapshotWriter

__all__ = ["TINY", "record_lives"]

KIB = 1024
TINY = Settings(
    segment_bytes_first=4 * KIB,
    segment_bytes_max=8 * KIB,
    frame_bytes_max=4 * KIB,
    room_reserve_bytes=KIB,
    reserve_file_bytes=4 * KIB,
    free_bytes_min=8 * KIB,
    snapshot_slice_runs=2,
    lock_wait_s=0.0,
    threads=1,
)


def record_lives(seed: int = 1) -> list[Op]:
    """Return the trace of all lives."""
    with _silent():
        return asyncio.run(_record(seed))


async def _record(seed: int) -> list[Op]:
    lives = Lives(seed)
    with lives.listening(), lives.clock.driving():
        await lives.play()
    return lives.disk.ops


@contextmanager
def _silent() -> Generator[None]:
    """A disk that dies under an engine is nothing to tell the operator of here."""
    logger = logging.getLogger("stepflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


class Lives:
    """The engine of the present life, and what its callers were told in all of them."""

    def __init__(self, seed: int) -> None:
        self.disk = TracedDisk()
        self.disk.promised = self.promised
        self.clock: Any = VirtualClock()
        self.random = random.Random(seed)
        self.varied = seed != 1
        self.told = 0
        self.flow = Stepflow(MEMORY, settings=TINY)
        self.gate = asyncio.Event()
        _register(self)
        self._engine: LocalEngine | None = None
        self._journal: Journal | None = None

    @property
    def engine(self) -> LocalEngine:
        assert self._engine is not None
        return self._engine

    def promised(self) -> int:
        """Return the highest LSN that anyone outside can know of now."""
        if self._engine is not None and self._engine.state in {"ready", "read-only"}:
            self.told = max(self.told, self._engine.sup.journal.durable_lsn)
        return self.told

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hear of every record that any life appends, the journal's own included."""
        real = Journal.append
        lives = self

        def append(journal: Journal, records: Sequence[bytes], *, strict: bool = True) -> int:
            lives.appending(journal, records)
            return real(journal, records, strict=strict)

        patched: Any = Journal
        patched.append = append
        # The store's id too, so that two traces are the same byte for byte.
        there: Any = local
        open_journal = there.open_journal
        there.open_journal = partial(open_journal, entropy=self.random.randbytes)
        try:
            yield
        finally:
            patched.append = real
            there.open_journal = open_journal

    def appending(self, journal: Journal, records: Sequence[bytes]) -> None:
        """Take note of records that are about to be appended."""
        disk, first = self.disk, journal.next_lsn
        if journal is not self._journal:
            self._journal = journal
            read = {lsn: row for lsn, row in disk.history.records.items() if lsn < first}
            disk.history = History(read, disk.history.number + 1)
        for lsn, record in enumerate(records, first):
            disk.history.records[lsn] = bytes(record)
        disk.appended = first + len(records) - 1

    # ------------------------------------------------------------ life and death

    async def start(self) -> None:
        self._engine = LocalEngine(
            self.flow.registry,
            MEMORY,
            settings=TINY,
            clock=self.clock,
            disk=self.disk,
            entropy=self.random,
            threads=False,
        )
        await self.engine.start()

    async def stop(self) -> None:
        await self.engine.stop()
        self._engine = None

    async def die(self, during: Awaitable[Any], at: Callable[[Op], bool]) -> None:
        """Do something and be killed by it, before the operation that `at` says yes to."""
        self.disk.die_at = at
        with suppress(StepflowError, OSError):
            await during
        assert self.disk.dead, "the process lived on"
        engine, self._engine = self.engine, None
        await engine.crash()

    def killed(self) -> None:
        """It was `kill -9`: the page cache is still there."""
        self.disk.revive()

    def cut(self, message: str) -> None:
        """It was a power cut; take the first disk that it may leave and whose start says so."""
        model = DiskModel()
        for op in self.disk.ops:
            model.do(op)
        for image in model.images():
            found = recover(image)
            if any(line.startswith(message) for line in found.messages):
                self.disk.reboot(image)
                return
        raise AssertionError(f"no power cut here gives {message}")

    # ------------------------------------------------------------ what callers do

    async def trigger(self, workflow: str, value: Any = None, key: str | None = None) -> str:
        body = msgspec.json.encode(value)
        run_id = await self.engine.trigger(workflow, body, idempotency_key=key)
        self.told = max(self.told, self.engine.sup.runs[run_id].start_lsn)
        return run_id

    async def echo(self, size: int) -> str:
        """Run a whole run whose input has so many letters, or about so many."""
        if self.varied:
            size = self.random.randint(size // 3, size * 2)
        run_id = await self.trigger("echo", "".join(self.random.choices("abcdef", k=size)))
        await self.engine.wait(run_id)
        return run_id

    async def snapshot(self) -> None:
        assert await Snapshotter(self.engine.sup).run()

    async def early_snapshot(self) -> None:
        """Write one whose last line includes a record that is not on disk yet."""
        assert await _EarlySnapshotter(self.engine.sup).run()

    async def try_snapshot(self) -> None:
        await Snapshotter(self.engine.sup).run()

    # ------------------------------------------------------------ the lives

    async def play(self) -> None:
        """Live all kinds of lives: with seed 1 once each, else ordered as it says, and more."""
        between = [
            self.killed_before_a_sync,
            self.torn_by_a_cut,
            self.killed_in_a_snapshot,
            self.killed_in_a_compaction,
        ]
        if self.varied:
            between += self.random.choices(between, k=self.random.randint(0, 2))
            self.random.shuffle(between)
        await self.first()
        for life in between:
            await life()
        await self.last()

    async def first(self) -> None:
        await self.start()
        old = await self.echo(300)
        waits = await self.trigger("keeps", {"id": "a"}, key="once")
        await self.engine.notify("kept-a", b'"one"')
        await self.engine.notify("kept-a", b'"two"', run_id=waits)
        await self.trigger("gated", 1)
        await asyncio.gather(self.snapshot(), self.echo(900), self.trigger("gated", 2))
        for size in (1200, 700, 100):
            await self.echo(size)
        await self.engine.purge(old)
        await self.early_snapshot()
        await self.engine.notify("kept-a", b'"three"')
        await self.trigger("gated", 3)
        await asyncio.gather(self.snapshot(), self.echo(500))
        await self.echo(1500)
        await self.stop()

    async def killed_before_a_sync(self) -> None:
        await self.start()
        await self.trigger("keeps", {"id": "b"})
        await self.echo(800)
        await self.die(self.echo(700), _nth(1, "sync", "wal-0"))
        self.killed()

    async def torn_by_a_cut(self) -> None:
        await self.start()
        await self.echo(400)
        await self.die(self.echo(1400), _nth(1, "sync", "wal-0"))
        self.cut("SFW101")

    async def killed_in_a_snapshot(self) -> None:
        await self.start()
        await self.engine.notify("kept-a", b'"four"')
        await self.snapshot()
        await self.echo(600)
        await self.die(self.try_snapshot(), _nth(2, "write", "snap-"))
        self.killed()

    async def killed_in_a_compaction(self) -> None:
        await self.start()
        await self.echo(200)
        await self.die(self.try_snapshot(), _nth(2, "unlink", ""))
        self.cut("recovered")

    async def last(self) -> None:
        await self.start()
        await self.trigger("gated", 4)
        await self.snapshot()
        await self.echo(300)
        await self.snapshot()
        await self.stop()


class _EarlySnapshotter(Snapshotter):
    """Appends a record in the same turn in which it writes the line that includes it."""

    async def _write(self, writer: SnapshotWriter) -> None:
        await super()._write(writer)
        workflow = self._sup.workflow("echo")
        assert workflow is not None
        actor = self._sup.start_run(workflow, b'"late"')
        await writer.write([(actor.lsn, actor.line())])


def _nth(count: int, kind: str, name: str) -> Callable[[Op], bool]:
    """Return what says yes to the `count`-th operation of the kind on a file named like that."""
    left = count

    def at(op: Op) -> bool:
        nonlocal left
        if op.kind == kind and op.name.startswith(name):
            left -= 1
        return left <= 0

    return at


def _register(lives: Lives) -> None:
    async def wait_for_ever() -> None:
        await lives.gate.wait()

    async def length(text: str) -> int:
        return len(text)

    @lives.flow.workflow("echo")
    async def echo(ctx: Context, text: str) -> int:
        return await ctx.step("length", length, text)

    @lives.flow.workflow("gated")
    async def gated(ctx: Context, number: int) -> None:
        # Its start is a lazy record: a snapshot meets it before it is on disk.
        await ctx.step("wait", wait_for_ever)

    @lives.flow.workflow("keeps", events=["kept-{id}"])
    async def keeps(ctx: Context, job: dict[str, str]) -> Any:
        await ctx.wait_for_event("kept", f"kept-{job['id']}", timeout=None)
        await ctx.wait_for_event("never", "never", timeout=None)
