"""One seed: some lives of a service on one disk, each ended by an accident, and what must hold.

::

    life 1 … n   start, look, clients act, then: power cut, kill or stop, at a moment or at the
                 N-th operation of the disk
    last life    nothing goes wrong any more: whatever waits is let go, every run must end
    one more     what a power cut leaves of that must look the same
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import logging
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Raw

from stepflow.config import MEMORY, Settings
from stepflow.engine import local
from stepflow.engine.protocol import RunFilter
from stepflow.errors import DiskFailedError, OutcomeUnknownError, StepflowError, UnavailableError
from stepflow.journal import api, opening
from stepflow.runtime import steps
from tests.sim.answers import Answers
from tests.sim.clients import Clients
from tests.sim.disk import SimDisk
from tests.sim.ledger import Ledger
from tests.sim.loop import SimBackground, SimClock, SimLoop, SimStepThreads, SimWriter
from tests.sim.patching import replaced
from tests.sim.plan import Action, Ending, Life
from tests.sim.program import REGISTRY, Scene, enter

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepflow.model.views import RunView
    from tests.sim.plan import Plan

__all__ = ["Report", "run_plan", "simulating"]

KIB: Final = 1024
_SETTINGS: Final = Settings(
    room_reserve_bytes=2 * KIB,
    reserve_file_bytes=4 * KIB,
    free_bytes_min=4 * KIB,
    lock_wait_s=0.0,
)
_ROUNDS_MAX: Final = 200
_IDLE_ROUNDS: Final = 3
_ROUND_S: Final = 30.0
_QUIET: Final = Life((), Ending("cut", 0.0, chance=0.0))


@dataclass(slots=True)
class Report:
    """What came of a seed."""

    violations: list[str]
    digest: str
    lives: int = 0
    cuts: int = 0
    kills: int = 0
    recoveries: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    story: list[str] = field(default_factory=list[str])


class _Complaints(logging.Handler):
    """Errors that the engine logs though nothing is wrong with its disk."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in _SERIOUS:
            error = record.exc_info[1] if record.exc_info else None
            self.heard.append(f"{record.name}: {record.getMessage()} {error!r}")


_SERIOUS: Final = frozenset(
    {"stepflow.supervisor", "stepflow.recovery", "stepflow.journal", "stepflow.run"}
)
_EXPECTED: Final = ("ended by force", "disk full", "compensation", "was refused", "never retrieved")


class World:
    """One seed under way."""

    def __init__(self, plan: Plan, *, story: bool = False) -> None:
        self.plan = plan
        self.clock = SimClock()
        self.disk = SimDisk(random.Random(f"{plan.seed} disk"))
        self.ledger = Ledger(self.clock, plan.programs, story=story)
        settings = replace(_SETTINGS, **plan.knobs)
        self.settings = settings
        self.ledger.timers_per_second = settings.timers_per_second
        self.answers = Answers(self.ledger, retention=settings.finished_bytes_max < 1 << 20)
        self.report = Report([], "")
        self._hash = hashlib.sha256()
        self._complaints = _Complaints()
        self._failed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------ lives

    def run(self) -> Report:
        """Live all lives and return what came of it."""
        enter(Scene(self.plan.programs, self.ledger))
        logger = logging.getLogger("stepflow")
        logger.addHandler(self._complaints)
        try:
            for life in self.plan.lives:
                if self.ledger.violations:
                    break
                self._live(life, self._act(life))
            self._last_lives()
        finally:
            logger.removeHandler(self._complaints)
        self._hash.update(self.ledger.digest())
        report = self.report
        report.violations = self.ledger.violations
        report.digest = self._hash.hexdigest()
        report.counts = self.ledger.counts
        report.story = self.ledger.story or []
        return report

    def _last_lives(self) -> None:
        if not self.ledger.violations:
            self._live(_QUIET, self._let_go())
        if not self.ledger.violations:
            self._live(_QUIET, self._look_again())

    def _live(self, life: Life, work: Any) -> None:
        """One life: from the start to what its end leaves of the disk."""
        ending = life.ending
        self.report.lives += 1
        self.ledger.begin_life()
        self._failed = False
        disk = self.disk
        disk.begin_life()
        disk.die_at, disk.die_on, disk.die_when = ending.operation, ending.on, ending.when
        disk.fail_at = life.fail_operation
        disk.full = self.ledger.stalls = life.full
        disk.short_writes = self.plan.short_writes
        number = self.report.lives
        loop = SimLoop(self.clock, random.Random(f"{self.plan.seed} {number} loop"))
        disk.on_death = partial(self._die, loop)
        self.engine = local.LocalEngine(
            REGISTRY,
            MEMORY,
            settings=self.settings,
            clock=self.clock,
            disk=disk,
            entropy=random.Random(f"{self.plan.seed} {number} entropy"),
            threads=False,
            on_fatal=self._fatal,
        )
        self.clients = Clients(self.engine, self.ledger, self.answers, self.clock, disk)
        self.loop = loop
        end = loop.do(work)
        if end in {"idle", "spinning"}:
            self.ledger.wrong(f"the service is {end}")
        self._hear(loop)
        self.ledger.muted = True
        loop.bury()
        self._complaints.heard.clear()
        self._over(life, ending)

    def _die(self, loop: SimLoop) -> None:
        loop.dead = True
        self.ledger.muted = True

    def _over(self, life: Life, ending: Ending) -> None:
        if ending.kind == "cut":
            self.report.cuts += 1
            self.disk.power_cut(ending.chance)
        elif ending.kind == "kill":
            self.report.kills += 1
        self.disk.digest(self._hash)
        self.clock.now_s += life.pause
        if life.jump_ms:
            self.clock.jump(life.jump_ms)

    def _fatal(self, error: BaseException) -> None:
        self._failed = True
        self.ledger.note("fatal", error)
        if not self.disk.failed and not self.ledger.muted:
            self.ledger.wrong(f"the engine stopped for good, though the disk is well: {error!r}")

    def _hear(self, loop: SimLoop) -> None:
        if self.disk.failed:
            self._complaints.heard.clear()
        for complaint in [*self._complaints.heard, *loop.errors]:
            if not any(expected in complaint for expected in _EXPECTED):
                self.ledger.wrong(complaint)
        self._complaints.heard.clear()

    # ------------------------------------------------------------ what happens in a life

    async def _start(self) -> bool:
        """Start the engine; False when a disk that fails did not let it."""
        try:
            await self.engine.start()
        except DiskFailedError as error:
            # A store cannot be made where there is no room for it; one that is there is shown.
            nothing_yet = self.disk.full and "FORMAT" not in self.disk.names
            if not (self.disk.failed or nothing_yet):
                self.ledger.wrong(f"the start failed: {error}")
            return False
        except StepflowError as error:
            self.ledger.wrong(f"the start was refused: {error}")
            return False
        self.report.recoveries += 1
        self.ledger.note("started", self.engine.recovery and self.engine.recovery.lsn)
        return True

    async def _act(self, life: Life) -> None:
        loop, begin_s = self.loop, self.clock.now_s
        if not await self._start():
            return
        for action in life.actions:
            loop.call_at(begin_s + action.at, self._begin, action)
        try:
            await self._see()
        except (UnavailableError, OutcomeUnknownError):
            if not (self.disk.failed or life.full):
                raise
        rest_s = max(0.0, begin_s + life.ending.at - self.clock.now_s)
        await asyncio.sleep(rest_s)
        if life.ending.kind == "stop":
            await self.engine.stop()

    def _begin(self, action: Action) -> None:
        self._spawn(self.clients.act(action))

    def _spawn(self, coro: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self.loop)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.wrong(f"a client met {error!r}")

    async def _see(self) -> dict[str, RunView]:
        """What was seen before is to be seen now; streams too."""
        views = await self.clients.look()
        for run_id in views:
            run = self.ledger.runs[run_id]
            if run.last_row:
                await self.clients.stream(run_id, 0, follow=False)
        return views

    async def _let_go(self) -> None:
        """Let everything end that lives."""
        if not await self._start():
            return
        await self._see()
        followed: list[asyncio.Task[None]] = []
        for run_id in self.answers.order:
            run = self.ledger.runs[run_id]
            run.touched = True
            if not run.gone:
                followed.append(self._spawn(self.clients.stream(run_id, run.last_row)))
        lsn, idle = 0, 0
        for _ in range(_ROUNDS_MAX):
            await asyncio.sleep(_ROUND_S)
            if not await self._let_go_once():
                break
            last = self.engine.sup.journal.last_lsn
            lsn, idle = last, idle + 1 if last == lsn else 0
            if idle == _IDLE_ROUNDS:
                live = [(run.id, run.state) for run in await self._live_runs()]
                self.ledger.wrong(f"nothing happens any more, and these have not ended: {live}")
                break
        else:
            self.ledger.wrong(f"something goes on after {_ROUNDS_MAX} rounds")
        await asyncio.sleep(1.0)
        if any(not task.done() for task in followed):
            self.ledger.wrong("every run has ended, and a stream goes on")
        # Twice: the first look meets the runs that nobody was told of.
        await self.clients.look()
        self._count_payloads(await self.clients.look())

    async def _let_go_once(self) -> bool:
        """Send every event that is waited for; say whether anything lives."""
        events = await self.engine.waiting_events()
        for row in events:
            if await self.clients.notify(row.event_id) is None:
                # Somebody keeps too many: those who wait are told one by one.
                for run_id in row.run_ids:
                    await self.clients.notify(row.event_id, run_id)
        return bool(events or await self._live_runs())

    async def _live_runs(self) -> list[RunView]:
        where = RunFilter(status=frozenset({"pending", "running"}))
        return (await self.engine.list_runs(where, limit=100, cursor=None)).runs

    def _count_payloads(self, views: dict[str, RunView]) -> None:
        """An acknowledged event has reached as many runs as its sender was told."""
        if self.answers.retention or any(r.gone for r in self.ledger.runs.values()):
            return
        takers: dict[str, set[str]] = {}
        for view in views.values():
            for step in view.steps or ():
                if step.kind == "event" and isinstance(step.result, Raw):
                    takers.setdefault(bytes(step.result).decode().strip('"'), set()).add(view.id)
        # What has given its wait up in that very moment keeps the event, and never asks for it.
        gave_up = {v.id for v in views.values() if self._may_give_up(v)}
        for payload, notice in self.ledger.notices.items():
            if notice.count is None or notice.event.startswith("kept") or notice.to:
                continue
            got = takers.get(payload, set())
            if not notice.count - len(gave_up - got) <= len(got) <= notice.count:
                self.ledger.wrong(f"{payload!r} reached {notice.count}, and {sorted(got)} have it")

    def _may_give_up(self, view: RunView) -> bool:
        """Whether the run may have cancelled waits of its own."""
        return view.status != "completed" or self.ledger.races(self.ledger.runs[view.id])

    async def _look_again(self) -> None:
        if await self._start():
            await self._see()


@contextmanager
def simulating() -> Generator[None]:
    """Put the simulation's parts in place of threads and true randomness."""
    logger = logging.getLogger("stepflow")
    level, propagate, enabled = logger.level, logger.propagate, gc.isenabled()
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    # Whoever listens has a handler of its own; nothing else is to be said.
    silence = logging.NullHandler()
    logger.addHandler(silence)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with ExitStack() as stack:
            for module, name, part in _parts():
                stack.enter_context(replaced(module, name, part))
            yield
    finally:
        gc.unfreeze()
        logger.removeHandler(silence)
        logger.setLevel(level)
        logger.propagate = propagate
        if enabled:
            gc.enable()


def _parts() -> list[tuple[Any, str, Any]]:
    opened = partial(vars(local)["open_journal"], entropy=_store_bytes)
    return [
        (api, "InlineWriter", SimWriter),
        (api, "InlineBackground", SimBackground),
        (steps, "StepThreads", SimStepThreads),
        (local, "open_journal", opened),
        # It reads the package's metadata from the real disk, at each start.
        (api, "version", _version),
        (opening, "version", _version),
    ]


def _version() -> str:
    return "0"


def _store_bytes(count: int) -> bytes:
    """Every simulated store has the same id: it is to differ in nothing that is not planned."""
    return bytes(range(1, count + 1))


_COLLECT_EVERY: Final = 8
_runs = itertools.count()


def run_plan(plan: Plan, *, story: bool = False) -> Report:
    """Run one plan inside `simulating()`."""
    for part in (SimWriter, SimBackground, SimStepThreads):
        part.latency_s = plan.latencies
    report = World(plan, story=story).run()
    if next(_runs) % _COLLECT_EVERY == 0:
        # Between seeds, so that no finalizer runs at a moment that nobody planned.
        gc.collect()
    return report
