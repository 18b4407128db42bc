"""A whole service in memory, on virtual time, whose journal can be cut after any record.

A `World` has workflows, a disk in memory and a clock. It is started, stopped, crashed and started
again; each start is a **life**. What the bodies `note` and which steps ran is kept by life, and
with each group that was appended how much had been noted by then: so a test can say what a replay
of a prefix of the journal must have seen.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import msgspec

from stepflow import Stepflow, current_step
from stepflow.authoring.registry import Registry
from stepflow.config import MEMORY, Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.system import is_system, system_record
from stepflow.model import records as rec
from stepflow.model.records import Record, decode_record
from stepflow.testing.clock import START_MS, VirtualClock
from tests.journal_kit import handmade

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stepflow.engine.protocol import Engine
    from stepflow.model.views import RunView
    from stepflow.runtime.actor import RunActor

DONE = (rec.StepCompleted, rec.StepFailed)
ENDS = (rec.RunCompleted, rec.RunFailed, rec.RunCancelled)
KIB = 1024
SMALL = Settings(
    segment_bytes_first=64 * KIB,
    segment_bytes_max=1024 * KIB,
    room_reserve_bytes=8 * KIB,
    reserve_file_bytes=32 * KIB,
    free_bytes_min=8 * KIB,
    lock_wait_s=0.0,
    threads=4,
)


@dataclass(frozen=True)
class Ran:
    """One start of a step's function."""

    key: str
    name: str
    attempt: int
    idempotency_key: str
    args: tuple[Any, ...]


@dataclass
class Life:
    """What happened between a start and the next crash or stop."""

    trace: list[Any] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    groups: list[list[bytes]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    """For each group, the length of the trace when it was appended."""

    def records(self) -> list[Record]:
        """Every record of this life, decoded."""
        return decoded(data for group in self.groups for data in group)


def decoded(rows: Iterable[bytes]) -> list[Record]:
    """Decode records, leaving out the journal's own."""
    return [record for data in rows if (record := decode_record(data)) is not None]


class World:
    """A service to be started, crashed and cut."""

    def __init__(
        self,
        *,
        disk: MemoryDisk | None = None,
        seed: int = 0,
        strict: bool = False,
        clock: Any = None,
        **changes: Any,
    ) -> None:
        self.settings = replace(SMALL, **changes)
        self.disk = disk or MemoryDisk()
        self.clock: Any = clock or VirtualClock()
        self.random = random.Random(seed)
        self.strict = strict
        self.before: list[list[bytes]] = []
        """The groups of earlier lives, as far as they count."""
        self.life = Life()
        self.flow = Stepflow(MEMORY, settings=self.settings)
        self._engine: LocalEngine | None = None

    # ------------------------------------------------------------ lives

    @property
    def engine(self) -> LocalEngine:
        assert self._engine is not None, "the world was not started"
        return self._engine

    async def start(self) -> World:
        """Begin a life on the present disk."""
        engine: LocalEngine = LocalEngine(
            self.flow.registry,
            MEMORY,
            settings=self.settings,
            clock=self.clock,
            disk=self.disk,
            entropy=self.random,
            strict=self.strict,
            threads=False,
        )
        self.life = Life()
        self._engine = engine
        as_engine: Engine = engine
        self.flow._engine = as_engine
        if isinstance(self.clock, VirtualClock):
            self.clock.watch(lambda: engine._sup is not None and engine._sup.steps.in_threads > 0)
        start = engine._adopt

        async def adopt(sup: Any, *rest: Any) -> Any:
            # Before any run goes on: every record of this life is seen.
            self._listen(sup.journal)
            return await start(sup, *rest)

        engine._adopt = adopt  # type: ignore[method-assign]
        await engine.start()
        return self

    def _listen(self, journal: Any) -> None:
        append = journal.append

        def appended(records: Sequence[bytes], *, strict: bool = True) -> int:
            if not is_system(records[0]):
                self.life.groups.append(list(records))
                self.life.marks.append(len(self.life.trace))
            return append(records, strict=strict)

        journal.append = appended

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the life as an orderly shutdown does."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await engine.stop()
            self._over()

    async def crash(self, *, keep_unsynced: bool = False) -> None:
        """End the life as `kill -9` or, unless `keep_unsynced`, a power cut does."""
        engine, self._engine = self.engine, None
        disk = self.disk.process_kill() if keep_unsynced else self.disk.power_cut()
        await engine.crash()
        self.disk = disk
        self._over()

    async def restart(self) -> World:
        """Cut the power, and start again on what is left."""
        await self.crash()
        return await self.start()

    def _over(self) -> None:
        self.before = [*self.before, *self.life.groups]

    def redeploy(self, *workflows: Callable[..., Any], **options: Any) -> None:
        """Put other code in place of all workflows; each is known by its function's name."""
        self.flow.registry = Registry()
        for function in workflows:
            self.flow.workflow(function.__name__, **options)(function)
        if self._engine is not None:
            self._engine.registry = self._engine.sup.registry = self.flow.registry

    def cut(self, groups: Sequence[list[bytes]]) -> World:
        """Go back: the journal holds exactly these groups at the next start."""
        assert self._engine is None, "stop or crash first"
        self.disk = disk_of(groups)
        self.before = list(groups)
        return self

    # ------------------------------------------------------------ what bodies and steps tell

    def note(self, *what: Any) -> None:
        """Put something the body has seen on the life's trace."""
        self.life.trace.append(what)

    def ran(self, *args: Any) -> Ran:
        """Note that the step's function runs; return who it is."""
        step = current_step()
        ran = Ran(step.key, step.name, step.attempt, step.idempotency_key, args)
        self.life.ran.append(ran)
        return ran

    def ran_keys(self) -> list[str]:
        return [ran.key for ran in self.life.ran]

    # ------------------------------------------------------------ runs

    async def trigger(self, workflow: str, value: Any = None, **options: Any) -> str:
        return await self.engine.trigger(workflow, msgspec.json.encode(value), **options)

    async def run(self, workflow: str, value: Any = None) -> RunView:
        """Trigger and wait for the end."""
        return await self.engine.wait(await self.trigger(workflow, value))

    async def result(self, workflow: str, value: Any = None) -> Any:
        view = await self.run(workflow, value)
        assert view.status == "completed", view
        return result_of(view)

    async def finished(self, run_id: str) -> RunView:
        return await self.engine.wait(run_id)

    def actor(self, run_id: str) -> RunActor:
        return self.engine.sup.runs[run_id]

    def state(self, run_id: str) -> str | None:
        return self.actor(run_id).condition

    async def ended_or_parked(self, run_id: str) -> str:
        """Return how the run ended, or `parked`; time passes until then."""
        ending = asyncio.ensure_future(self.engine.wait(run_id))
        actor = self.actor(run_id)
        step_s = 0.001
        while not ending.done() and actor.condition != "parked":
            await asyncio.sleep(step_s)
            step_s = min(60.0, 2 * step_s)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        return actor.condition or actor.summary().status

    async def until(self, condition: Callable[[], Any], passes: int = 20_000) -> None:
        """Let the loop go round, and time pass slowly, until the condition holds."""
        for count in range(passes):
            if condition():
                return
            await asyncio.sleep(0 if count < 300 else 0.001)
        message = "the condition did not come true"
        raise AssertionError(message)

    async def saved(self) -> None:
        """Return when all that was recorded is on disk."""
        journal = self.engine.sup.journal
        await journal.durable(journal.last_lsn)

    async def settle(self, passes: int = 60) -> None:
        """Let the loop go round; time does not move."""
        for _ in range(passes):
            await asyncio.sleep(0)

    def records(self, kind: type[Any] | None = None) -> list[Any]:
        """Records of this life, all or of one kind."""
        return [r for r in self.life.records() if kind is None or isinstance(r, kind)]


def result_of(view: RunView) -> Any:
    return msgspec.json.decode(bytes(view.result))  # type: ignore[arg-type]


def error_of(view: RunView) -> Any:
    return msgspec.json.decode(bytes(view.error))  # type: ignore[arg-type]


def disk_of(groups: Sequence[list[bytes]]) -> MemoryDisk:
    """Return a disk whose journal holds these groups and the system records between them."""
    disk = MemoryDisk()
    store = handmade(disk, size=64 * KIB)
    for group in groups:
        first = msgspec.json.decode(group[0])["lsn"]
        while store.next_lsn < first:
            store.add_records([system_record("open", store.next_lsn, START_MS)])
        store.add_records(group)
    return disk


# ---------------------------------------------------------------- a crash after every record


def without_end(groups: list[list[bytes]]) -> list[list[bytes]]:
    return [g for g in groups if not any(isinstance(decode_record(r), ENDS) for r in g)]


def results(groups: list[list[bytes]]) -> set[str]:
    """Return the keys of the steps that have their result."""
    records = (decode_record(data) for group in groups for data in group)
    return {record.key for record in records if isinstance(record, DONE)}


def check_continued(first: Life, cut: int, second: Life) -> None:
    """What the second life did fits the first `cut` groups of the first."""
    seen = first.trace[: first.marks[cut]] if cut < len(first.marks) else first.trace
    assert second.trace[: len(seen)] == seen
    done = results(first.groups[:cut])
    again = done & {ran.key for ran in second.ran}
    assert not again, f"recorded calls ran again: {again}"
    keys: dict[str, Any] = {}
    for ran in second.ran:
        call = (ran.key, ran.name, ran.args)
        assert keys.setdefault(ran.idempotency_key, call) == call
    used = {ran.idempotency_key for ran in first.ran if ran.key in done}
    assert not used & set(keys), "an idempotency key was used twice"


def check_replayed(
    log: list[list[bytes]], second: Life, view: RunView, third: Life, again: RunView
) -> None:
    """The third life replayed the whole `log` and saw what the second had seen."""
    assert third.trace == second.trace
    again_ran = results(log) & {ran.key for ran in third.ran}
    assert not again_ran, f"a whole replay ran recorded calls: {again_ran}"
    assert (again.status, again.result, again.error) == (view.status, view.result, view.error)


async def crash_everywhere(
    world: World,
    workflow: str,
    value: Any = None,
    *,
    between: Callable[[int], None] = lambda _: None,
    drive: Callable[[World], Any] | None = None,
) -> tuple[Life, list[tuple[Life, RunView]]]:
    """Run once to the end; then cut after every record, go on, and replay all that there is.

    `between(n)` is called before each life, to vary its timings; `drive` acts from outside.
    Returns the first life and what followed each cut. Waits last less than 5 s: a body that is
    passivated runs again, and notes again what it has noted.
    """
    between(0)
    first, _ = await _live(world, workflow, value, drive)
    later: list[tuple[Life, RunView]] = []
    for cut in range(1, len(without_end(first.groups)) + 1):
        between(cut)
        world.cut(first.groups[:cut])
        second, view = await _live(world, workflow, value, drive)
        check_continued(first, cut, second)
        log = without_end([*first.groups[:cut], *second.groups])
        world.cut(log)
        third, again = await _live(world, workflow, value, drive)
        check_replayed(log, second, view, third, again)
        later.append((second, view))
    return first, later


async def _live(
    world: World, workflow: str, value: Any, drive: Callable[[World], Any] | None
) -> tuple[Life, RunView]:
    async with world:
        runs = list(world.engine.sup.runs)
        run_id = runs[0] if runs else await world.trigger(workflow, value)
        acting = None if drive is None else asyncio.ensure_future(drive(world))
        view = await world.finished(run_id)
        if acting is not None:
            acting.cancel()
            await asyncio.gather(acting, return_exceptions=True)
        life = world.life
    return life, view
