"""Limits and schedules through simulated lives: own workflows, own actions, own rules.

One seed: some lives on one simulated disk, each ended by a power cut, a kill or a stop; then one in
which all must end. What is believed is what a start finds on the disk, not what memory said. Rules:

- of runs that are under way no limit and no key ever has more, after a crash neither;
- no window of a rate limit has more beginnings, purged runs included;
- what was acknowledged is there, runs of a key begin in their order, and in the end all have ended;
- every time of a schedule up to the last decided one has one run, and no other time has any.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stepflow import Concurrency, Context, RateLimit, Schedule, Stepflow
from stepflow.config import MEMORY, Settings
from stepflow.engine import local
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ApiError, ConflictError, OutcomeUnknownError, UnavailableError
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from tests.sim.disk import SimDisk
from tests.sim.loop import (
    START_MS,
    SimBackground,
    SimClock,
    SimLoop,
    SimStepThreads,
    SimWriter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AdmissionWorld", "run_seed"]

_SLOTS: Final = 3
_EACH: Final = 1
_STARTS: Final = 3
_PER_MS: Final = 2000
_EVERY_MS: Final = 60_000
_AUTUMN: Final = [1_792_888_200_000, 1_792_978_200_000, 1_793_064_600_000]
"""Half past two in Berlin from 2026-10-25 on; that night the clock passes it twice."""
_AUTUMN_START_MS: Final = 1_792_875_600_000
_SETTINGS: Final = Settings(
    segment_bytes_first=64 * 1024,
    segment_bytes_max=256 * 1024,
    room_reserve_bytes=2048,
    reserve_file_bytes=4096,
    free_bytes_min=4096,
    lock_wait_s=0.0,
    passivate_after_s=0.2,
    cancel_grace_s=0.5,
)
_WEIGHTS: Final = {
    "limited": 8,
    "batch": 2,
    "rated": 6,
    "tree": 2,
    "cancel": 3,
    "purge": 4,
    "pause": 1,
    "snapshot": 1,
    "look": 3,
}
_LATENCIES: Final = ((0.0,), (0.0, 0.003), (0.0, 0.001, 0.05))
_NOTHING: Final = (UnavailableError, OutcomeUnknownError, ConflictError)


class Stage:
    """Where the bodies tell what they do."""

    wrong: Callable[[str], None]
    inside: dict[str, str]
    """Runs whose work is under way in this life, with their tenants."""
    worked: set[str]
    """Runs that have done something that anyone could notice."""


async def _work(tenant: str, run_id: str, ms: int) -> None:
    Stage.worked.add(run_id)
    Stage.inside[run_id] = tenant
    inside = Counter(Stage.inside.values())
    if inside.total() > _SLOTS or max(inside.values()) > _EACH:
        Stage.wrong(f"at work at once: {dict(inside)}")
    try:
        await asyncio.sleep(ms / 1000)
    finally:
        Stage.inside.pop(run_id, None)


async def _nothing() -> None:
    return


def _registry() -> Any:
    flow = Stepflow(MEMORY, settings=Settings())

    @flow.workflow(
        "limited", concurrency=[Concurrency(_SLOTS), Concurrency(_EACH, key="input.tenant")]
    )
    async def limited(ctx: Context, given: dict[str, Any]) -> None:
        await ctx.step("work", _work, given["tenant"], ctx.run_id, given["ms"])
        if given["nap"]:
            await ctx.sleep("nap", given["nap"] / 1000)

    @flow.workflow("rated", rate_limit=RateLimit(_STARTS, per=_PER_MS / 1000))
    async def rated(ctx: Context, given: dict[str, Any]) -> None:
        await ctx.step("work", _nothing)

    @flow.workflow("tree", concurrency=2)
    async def tree(ctx: Context, depth: int) -> int:
        await ctx.step("work", _nothing)
        if depth <= 0:
            return 0
        both = [ctx.call("tree", depth - 1, f"c{n}") for n in range(2)]
        return 1 + max(await asyncio.gather(*both))

    @flow.workflow(
        "ticks",
        schedule=Schedule(
            every=_EVERY_MS / 1000, overlap="allow", catch_up="all", catch_up_max=1000
        ),
    )
    async def ticks(ctx: Context) -> None:
        await ctx.step("work", _nothing)

    @flow.workflow("nightly", schedule=Schedule("30 2 * * *", tz="Europe/Berlin", catch_up="all"))
    async def nightly(ctx: Context) -> None:
        await ctx.step("work", _nothing)

    return flow.registry


REGISTRY: Final = _registry()


class AdmissionWorld:
    """One seed under way."""

    def __init__(self, seed: int, focus: tuple[str, ...] = ()) -> None:
        self.focus = focus
        self.dice = random.Random(f"admission {seed}")
        self.seed = seed
        self.clock = SimClock()
        self.clock.skew_ms = _AUTUMN_START_MS - START_MS
        self.pauses = (0.0, 0.0, 5.0, 30.0, 3600.0, 5400.0, 30_000.0)
        if "autumn" in focus:
            self.clock.skew_ms = _AUTUMN[0] - 600_000 - START_MS
            self.pauses = (1200.0, 1800.0, 3600.0)
        self.disk = SimDisk(random.Random(f"admission {seed} disk"))
        self.violations: list[str] = []
        self.settings = replace(
            _SETTINGS,
            finished_bytes_max=self.dice.choice((1 << 30, 4096)),
            snapshot_interval_s=self.dice.choice((900.0, 3.0)),
        )
        self.latencies = self.dice.choice(_LATENCIES)
        if "crash" in focus:
            self.latencies = (0.05,)
        self.lives = self.cuts = self.kills = 0
        self.acknowledged: dict[str, str] = {}
        self.gone: set[str] = set()
        self.starts: dict[str, int] = {}
        """Durable beginnings of rated runs: run and time, for ever."""
        self.times: dict[str, Counter[int]] = {"ticks": Counter(), "nightly": Counter()}
        self.seen: set[str] = set()
        self.paused: set[str] = set()
        self.from_ms: dict[str, int] = {}

    @property
    def promised(self) -> int:
        """How many things clients were promised."""
        return len(self.acknowledged) + len(self.gone)

    def wrong(self, what: str) -> None:
        self.violations.append(f"life {self.lives}: {what}")

    def run(self) -> list[str]:
        Stage.wrong = self.wrong
        Stage.worked = set()
        for part in (SimWriter, SimBackground, SimStepThreads):
            part.latency_s = self.latencies
        for _ in range(self.dice.randrange(2, 5)):
            self._live(self._act(), self.dice.choice(("cut", "cut", "kill", "stop")))
            self.clock.now_s += self.dice.choice(self.pauses)
            if self.dice.random() < 0.15:
                self.clock.jump(self.dice.choice((-3_600_000, 10_000, 3_600_000)))
        self._live(self._let_go(), "cut")
        self._live(self._look_again(), "cut")
        return self.violations

    # ------------------------------------------------------------ lives

    def _live(self, work: Any, ending: str) -> None:
        if self.violations:
            work.close()
            return
        self.lives += 1
        Stage.inside = {}
        disk = self.disk
        disk.begin_life()
        loop = SimLoop(self.clock, random.Random(f"admission {self.seed} {self.lives}"))
        if ending != "stop" and self.dice.random() < 0.7:
            disk.die_at = self.dice.randrange(20, 400)
            disk.die_on = ""
            if "crash" in self.focus or self.dice.random() < 0.3:
                # At a sync: what was written and not synced may be there or not.
                disk.die_at, disk.die_on = self.dice.randrange(6, 60), "fdatasync"
        disk.on_death = lambda: setattr(loop, "dead", True)
        if work.__name__ in {"_let_go", "_look_again"}:
            disk.die_at, disk.die_on = 0, ""
        self.loop = loop
        self.ending = ending
        self.engine = local.LocalEngine(
            REGISTRY,
            MEMORY,
            settings=self.settings,
            clock=self.clock,
            disk=disk,
            entropy=random.Random(f"admission {self.seed} {self.lives} entropy"),
            threads=False,
        )
        end = loop.do(work)
        if end in {"idle", "spinning"}:
            self.wrong(f"the service is {end}")
        for error in loop.errors:
            self.wrong(str(error))
        loop.bury()
        if ending == "cut":
            disk.power_cut(0.5)
        self.cuts += ending == "cut"
        self.kills += ending == "kill"

    async def _start(self) -> None:
        await self.engine.start()
        self._believe()

    def _states(self) -> list[Any]:
        sup = self.engine.sup
        return [sup.runs[run_id].peek() for run_id in list(sup.runs)]

    def _believe(self) -> None:
        """Take what the disk has for true, and compare it with the rules."""
        states = {state.id: state for state in self._states()}
        running = [s for s in states.values() if s.status == "running"]
        tenants = Counter(json.loads(s.input)["tenant"] for s in running if s.workflow == "limited")
        if tenants.total() > _SLOTS or (tenants and max(tenants.values()) > _EACH):
            self.wrong(f"under way after a start: {dict(tenants)}")
        roots = [s for s in running if s.workflow == "tree" and not s.started.parent]
        if len(roots) > 2:
            self.wrong(f"{len(roots)} trees are under way after a start")
        early = [run for run in Stage.worked & states.keys() if states[run].status == "pending"]
        if early:
            self.wrong(f"they have worked, and were never let in: {early}")
        self._check_order(states.values())
        for run_id in self.acknowledged:
            if run_id not in states and run_id not in self.gone and not self._forgets:
                self.wrong(f"{run_id} was acknowledged and is lost")
        for state in states.values():
            self._observe(state)
        self._check_rate()
        self._check_times()

    @property
    def _forgets(self) -> bool:
        return self.settings.finished_bytes_max < 1 << 20

    def _observe(self, state: Any) -> None:
        """Remember what of a durable run outlives it."""
        if state.workflow == "rated":
            for data in state.records:
                record = decode_record(data)
                begins = isinstance(record, rec.RunReleased) or (
                    isinstance(record, rec.RunStarted) and not record.held and not record.due
                )
                if begins and record is not None:
                    self.starts[state.id] = record.ts
        start = state.started
        if start is not None and start.schedule and state.id not in self.seen:
            self.seen.add(state.id)
            self.times[start.schedule][start.scheduled] += 1

    def _check_order(self, states: Any) -> None:
        """Of a tenant nobody has begun before one who came earlier, delays and pauses left out."""
        begun: dict[str, int] = {}
        waiting: dict[str, int] = {}
        for state in states:
            start = state.started
            if state.workflow != "limited" or start.due or state.id in self.paused:
                continue
            tenant = json.loads(state.input)["tenant"]
            if state.status == "pending":
                waiting[tenant] = min(waiting.get(tenant, 1 << 62), start.lsn)
            elif not start.held or state.released_lsn:
                begun[tenant] = max(begun.get(tenant, 0), start.lsn)
        late = [t for t, lsn in waiting.items() if lsn < begun.get(t, 0)]
        if late:
            self.wrong(f"out of their order: {late}")

    def _check_rate(self) -> None:
        times = sorted(self.starts.values())
        for first, last in zip(times, times[_STARTS:], strict=False):
            if last - first < _PER_MS:
                self.wrong(f"{_STARTS + 1} began within {last - first} ms")
                return

    def _check_times(self) -> None:
        rows = self.engine.sup.schedules.rows.rows
        for name, times in self.times.items():
            row = rows.get(name)
            if row is None:
                continue
            if not (row.fired or row.skipped):
                # It has decided nothing yet: what passed before is not due.
                self.from_ms[name] = row.last
            begun = self.from_ms.setdefault(name, min([*times, row.last]) - 1)
            due = [t for t in self._due(name) if begun < t <= row.last]
            twice = [t for t, count in times.items() if count > 1 or t not in self._due(name)]
            if twice:
                self.wrong(f"{name} fired twice, or at no time of its: {twice[:3]}")
            missing = [t for t in due if t not in times]
            if missing and not self._forgets:
                self.wrong(f"{name} has decided up to {row.last} and has no run for {missing[:3]}")

    def _due(self, name: str) -> Any:
        if name == "nightly":
            return _AUTUMN
        now = self.clock.wall_ms() + 40_000_000
        first = _AUTUMN_START_MS // _EVERY_MS * _EVERY_MS
        return range(first, now, _EVERY_MS)

    # ------------------------------------------------------------ what happens

    async def _act(self) -> None:
        await self._start()
        tasks: list[asyncio.Task[None]] = []
        for _ in range(self.dice.randrange(6, 26)):
            await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.02, 0.3, 2.0)))
            tasks.append(asyncio.Task(self._action(), loop=self.loop))
        await asyncio.sleep(self.dice.choice((0, 0.01, 0.5, 3.0)))
        if self.ending == "stop":
            await self.engine.stop()

    async def _action(self) -> None:
        weights = {kind: 12 * n if kind in self.focus else n for kind, n in _WEIGHTS.items()}
        kind = self.dice.choices(list(weights), list(weights.values()))[0]
        try:
            await getattr(self, f"_{kind}")()
        except _NOTHING:
            return
        except ApiError as error:
            if error.status != 404:
                self.wrong(f"{kind} was answered {error!r}")

    def _input(self) -> bytes:
        tenant = self.dice.choice("aaaab")
        ms, nap = self.dice.choice((0, 5, 200)), self.dice.choice((0, 0, 700))
        return json.dumps({"tenant": tenant, "ms": ms, "nap": nap}).encode()

    async def _limited(self) -> None:
        delay_ms = self.dice.choice((0, 0, 0, 500))
        run_id = await self.engine.trigger("limited", self._input(), delay_ms=delay_ms)
        self.acknowledged[run_id] = "limited"

    async def _batch(self) -> None:
        for run_id in await self.engine.trigger_many("limited", [self._input()] * 5):
            self.acknowledged[str(run_id)] = "limited"

    async def _rated(self) -> None:
        self.acknowledged[await self.engine.trigger("rated", b"{}")] = "rated"

    async def _tree(self) -> None:
        self.acknowledged[await self.engine.trigger("tree", b"2")] = "tree"

    def _some(self) -> str:
        runs = [s.id for s in self._states() if not s.finished and not s.started.schedule]
        return self.dice.choice(runs) if runs else "run_0000000000000000000000"

    async def _cancel(self) -> None:
        await self.engine.cancel(self._some())

    async def _purge(self) -> None:
        ended = [s for s in self._states() if s.finished and s.workflow == "rated"]
        if not ended:
            return
        state = self.dice.choice(ended)
        self.gone.add(state.id)
        journal = self.engine.sup.journal
        await journal.durable(journal.last_lsn)
        self._observe(state)
        await self.engine.purge(state.id)

    async def _pause(self) -> None:
        run_id = self._some()
        self.paused.add(run_id)
        await self.engine.pause(run_id)
        await asyncio.sleep(0.1)
        await self.engine.resume(run_id)

    async def _snapshot(self) -> None:
        await self.engine.snapshot()

    async def _look(self) -> None:
        where = RunFilter(status=frozenset({"running"}), workflow_id="limited")
        page = await self.engine.list_runs(where, limit=100, cursor=None)
        tenants = Counter(json.loads(bytes(run.input))["tenant"] for run in page.runs)
        if tenants.total() > _SLOTS or (tenants and max(tenants.values()) > _EACH):
            self.wrong(f"listed as running: {dict(tenants)}")

    # ------------------------------------------------------------ the end

    async def _let_go(self) -> None:
        await self._start()
        await self.engine.trigger_many("limited", [self._input()] * 5)
        with suppress(ApiError):
            await self._cancel()
        for _ in range(400):
            for state in self._states():
                if state.paused:
                    await self.engine.resume(state.id)
            live = [s for s in self._states() if not s.finished and not s.started.schedule]
            if not live:
                break
            await asyncio.sleep(1.0)
        else:
            self.wrong(f"these never end: {[(s.id, s.workflow, s.status) for s in live][:5]}")
        admission = self.engine.sup.admission
        await asyncio.sleep(0.5)
        held = [run for run in admission.seats if self.engine.sup.runs.finished(run)]
        if held or admission.queued:
            self.wrong(f"slots that nobody has given back: {held}, {list(admission.queued)}")
        await asyncio.sleep(1.5 * _EVERY_MS / 1000)

    async def _look_again(self) -> None:
        await self._start()


def run_seed(seed: int, focus: tuple[str, ...] = ()) -> list[str]:
    """Run one seed inside `simulating()`; return what was wrong. `focus`: what happens often."""
    return AdmissionWorld(seed, focus).run()
