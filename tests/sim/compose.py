"""What workflows are made of, through simulated lives: own workflows, own rules.

Sagas with compensations, `ctx.first`, loops of `ctx.restart`, children, steps that emit, and steps
that run at most once, under crashes, cancels and timeouts. What a run's durable records say is
compared with what its bodies told and what clients were answered:

- every completed step of a saga that fails or is cancelled is undone, one at a time, the last
  completed first; one that could not be undone does not stop the others; none is undone again after
  its undoing was seen, and a saga that completes undoes nothing;
- of a `ctx.first` one call has a result and no other, then or later; a child that lost has ended;
- an event that was acknowledged is taken by a later round of the loop, once;
- what a step emits stands between its attempt's beginning and its end, in order, and all of it does
  if the attempt was completed;
- a step that runs at most once begins again only after an attempt that failed of itself;
- a child that its parent's records name is there, a call has one child for ever, and a result in
  the parent is the child's own.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from stepflow import Context, RetryPolicy, Stepflow, StepInterruptedError, current_step
from stepflow.config import MEMORY, Settings
from stepflow.errors import ApiError, RunCancelledError, RunFailedError, StepFailedError
from stepflow.model import records as rec
from stepflow.model.records import decode_record
from tests.sim.lives import Lives

if TYPE_CHECKING:
    from stepflow.model.records import Record

__all__ = ["ComposeWorld", "run_seed"]

_TWICE: Final = RetryPolicy(max_attempts=2, initial=0.05, jitter=False)
_THRICE: Final = RetryPolicy(max_attempts=3, initial=0.05, jitter=False)
_ROUNDS: Final = 400
_SAGA: Final = ("a", "b", "c")


class Stage:
    """Where the bodies tell what they do."""

    world: ComposeWorld


class Broke(Exception):
    """Something fails as planned."""


async def _rest(ms: int) -> None:
    if ms:
        await asyncio.sleep(ms / 1000)


# ---------------------------------------------------------------- a saga


async def _do(name: str, ms: int, bad: str) -> str:
    await _rest(ms)
    return name


async def _undo(name: str, ms: int, bad: str) -> None:
    world, run_id = Stage.world, current_step().run_id
    world.undoing(run_id, name)
    try:
        await _rest(ms % 20)
        if name == bad:
            raise Broke(name)
    finally:
        world.inside.pop(run_id, None)


async def _boom() -> None:
    raise Broke


async def _saga(ctx: Context, given: dict[str, Any]) -> str:
    def one(name: str) -> Any:
        ms = given["ms"][_SAGA.index(name)]
        return ctx.step(name, _do, name, ms, given["bad"], compensate=_undo)

    await asyncio.gather(one("a"), one("b"))
    await one("c")
    if given["nap"]:
        await ctx.sleep("nap", given["nap"])
    if given["fails"]:
        await ctx.step("boom", _boom)
    return "done"


# ---------------------------------------------------------------- the first of several


async def _slow(ms: int) -> str:
    await _rest(ms)
    return "step"


async def _race(ctx: Context, given: dict[str, Any]) -> str:
    won = await ctx.first(
        step=ctx.step("step", _slow, given["ms"]),
        sleep=ctx.sleep("sleep", given["sleep"]),
        event=ctx.wait_for_event("event", "go"),
        child=ctx.call("leaf", given["leaf"], "child"),
    )
    if given["nap"]:
        await ctx.sleep("nap", given["nap"])
    return won.name


async def _leaf(ctx: Context, ms: int) -> str:
    await ctx.step("work", _slow, ms)
    return f"leaf {ctx.run_id}"


# ---------------------------------------------------------------- a loop


async def _loop(ctx: Context, given: dict[str, Any]) -> list[str]:
    got = list(given["got"])
    wait = 0.05 if given["n"] else 0.01
    while (event := await ctx.wait_for_event("w", "tick", timeout=wait, default=None)) is not None:
        got.append(event)
        if given["n"]:
            break
    if given["n"]:
        await ctx.restart({"n": given["n"] - 1, "got": got})
    return got


# ---------------------------------------------------------------- emits, at most once, children


async def _talk(count: int, slow: list[int]) -> int:
    step = current_step()
    try:
        for n in range(count):
            await step.emit({"attempt": step.attempt, "n": n})
            await _rest(slow[step.attempt - 1])
        if slow[step.attempt - 1] == 1:
            raise Broke
    except asyncio.CancelledError:
        with suppress(StepInterruptedError):
            step.emit({"attempt": step.attempt, "n": -1})
        raise
    return count


async def _talker(ctx: Context, given: dict[str, Any]) -> int:
    return await ctx.step("talk", _talk, given["count"], given["slow"], timeout=0.1, retry=_THRICE)


async def _charge(ms: int, fails: int) -> str:
    step, world = current_step(), Stage.world
    world.charged(step.run_id, step.attempt)
    await _rest(ms)
    if step.attempt <= fails:
        world.refused.add((step.run_id, step.attempt))
        raise Broke
    return "charged"


async def _once(ctx: Context, given: dict[str, Any]) -> str:
    try:
        return await ctx.step(
            "charge", _charge, given["ms"], given["fails"], at_most_once=True, retry=_TWICE
        )
    except StepInterruptedError:
        return "interrupted"
    except StepFailedError:
        return "failed"


async def _parent(ctx: Context, given: dict[str, Any]) -> list[str]:
    async def child(name: str, workflow: str, value: Any) -> str:
        try:
            return str(await ctx.call(workflow, value, name))
        except RunCancelledError:
            return "cancelled"
        except RunFailedError:
            return "failed"

    given_up = asyncio.ensure_future(child("given-up", "leaf", 400))
    try:
        both = await asyncio.gather(child("saga", "saga", given["saga"]), child("leaf", "leaf", 5))
    finally:
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
    await ctx.start("leaf", 1, "free")
    return both


def _registry() -> Any:
    flow = Stepflow(MEMORY, settings=Settings())
    flow.workflow("saga", retry=_TWICE)(_saga)
    flow.workflow("race")(_race)
    flow.workflow("leaf")(_leaf)
    flow.workflow("loop", events=["tick"])(_loop)
    flow.workflow("talker")(_talker)
    flow.workflow("once")(_once)
    flow.workflow("parent")(_parent)
    return flow.registry


class ComposeWorld(Lives):
    """One seed under way."""

    name = "compose"
    registry = _registry()
    weights = {  # noqa: RUF012  of the class, as its type says
        "saga": 4,
        "race": 4,
        "loop": 3,
        "talker": 3,
        "once": 3,
        "parent": 3,
        "go": 3,
        "tick": 8,
        "cancel": 3,
        "look": 3,
        "snapshot": 1,
    }

    def __init__(self, seed: int, focus: tuple[str, ...] = ()) -> None:
        super().__init__(seed, focus)
        self.number = 0
        self.acknowledged: set[str] = set()
        self.ticks: dict[str, list[str]] = {}
        """Events that a loop took over while it had rounds to go."""
        self.undone: set[tuple[str, str]] = set()
        """Undone steps whose undoing is on disk."""
        self.charges: dict[str, list[int]] = {}
        self.refused: set[tuple[str, int]] = set()

    def begin_life(self) -> None:
        Stage.world = self
        self.inside: dict[str, str] = {}

    @property
    def promised(self) -> int:
        return len(self.acknowledged) + sum(map(len, self.ticks.values()))

    # ------------------------------------------------------------ what bodies tell

    def undoing(self, run_id: str, name: str) -> None:
        """A compensation was entered."""
        if (run_id, name) in self.undone:
            self.wrong(f"{name} of {run_id} was undone, and is undone again")
        if run_id in self.inside:
            self.wrong(f"{name} of {run_id} is undone beside {self.inside[run_id]}")
        self.inside[run_id] = name

    def charged(self, run_id: str, attempt: int) -> None:
        """A step that runs at most once was entered."""
        before = self.charges.setdefault(run_id, [])
        again = [n for n in before if (run_id, n) not in self.refused]
        if again or attempt in before:
            self.wrong(f"the step of {run_id} ran again after {before}: attempt {attempt}")
        before.append(attempt)

    # ------------------------------------------------------------ what the records say

    async def _check(self, run_id: str) -> None:
        view = await self.engine.get_run(run_id)
        state = self.engine.sup.runs[run_id].peek()
        await self.engine.sup.journal.durable(state.lsn)
        history = [decode_record(data) for data in state.records]
        records = [record for record in history if record is not None]
        for record in records:
            if isinstance(record, rec.StepCompleted) and record.key.startswith("undo:"):
                self.undone.add((run_id, record.key[5:6]))
        check = getattr(self, f"_check_{view.workflow_id}", None)
        if check is not None:
            check(run_id, records, view)
        self._check_children(run_id, records)

    def _check_saga(self, run_id: str, records: list[Record], view: Any) -> None:
        done = [r.key[0] for r in records if isinstance(r, rec.StepCompleted)]
        done = [key for key in done if key in _SAGA]
        began = [r for r in records if isinstance(r, rec.StepStarted)]
        undos = list(dict.fromkeys(r.key for r in began if r.key.startswith("undo:")))
        order = [key[5:6] for key in undos]
        if order != done[::-1][: len(order)]:
            self.wrong(f"{run_id} completed {done} and undid {order}")
        ends = [r for r in records if isinstance(r, rec.RunCancelled)]
        whole = view.status == "failed" or (ends and not ends[-1].forced)
        if whole and len(order) < len(done):
            self.wrong(f"{run_id} is {view.status}, completed {done} and undid {order}")
        if view.status == "completed" and order:
            self.wrong(f"{run_id} is completed and undid {order}")

    def _check_race(self, run_id: str, records: list[Record], view: Any) -> None:
        members = {"step#1", "sleep#1", "event#1", "child#1"}
        kinds = (rec.StepCompleted, rec.StepFailed, rec.SleepEnded, rec.WaitResolved)
        kinds = (*kinds, rec.WaitTimedOut, rec.ChildEnded)
        ended = [r.key for r in records if isinstance(r, kinds) and r.key in members]
        if len(ended) > 1:
            self.wrong(f"of the calls of {run_id} these have ended: {ended}")
        if view.status == "completed":
            won = json.loads(bytes(view.result))
            if ended != [f"{won}#1"]:
                self.wrong(f"{run_id} was won by {won}, and its records say {ended}")

    def _check_loop(self, run_id: str, records: list[Record], view: Any) -> None:
        if view.status != "completed":
            return
        got: Counter[str] = Counter(json.loads(bytes(view.result)))
        wrong = [tick for tick in self.ticks.get(run_id, ()) if got[tick] != 1]
        twice = [tick for tick, count in got.items() if count > 1]
        if wrong or twice:
            self.wrong(f"{run_id} lost {wrong}, and took {twice} more than once")

    def _check_talker(self, run_id: str, records: list[Record], view: Any) -> None:
        attempt, heard = 0, list[int]()
        for record in records:
            match record:
                case rec.StepStarted():
                    attempt, heard = record.attempt, []
                case rec.StepRetrying() | rec.StepFailed():
                    attempt = 0
                case rec.StepCompleted():
                    if heard != list(range(json.loads(bytes(record.result)))):
                        self.wrong(f"{run_id} emitted {heard} and completed")
                    attempt = 0
                case rec.Emitted():
                    data = json.loads(bytes(record.data))
                    heard.append(data["n"])
                    if data["attempt"] != attempt or heard != list(range(len(heard))):
                        self.wrong(f"{run_id} emitted {data} in attempt {attempt}: {heard}")
                case _:
                    pass

    def _check_children(self, run_id: str, records: list[Record]) -> None:
        runs = self.engine.sup.runs
        children: dict[str, str] = {}
        for begun in [r for r in records if isinstance(r, rec.ChildStarted)]:
            if children.setdefault(begun.key, begun.child) != begun.child:
                self.wrong(f"{run_id} has begun {begun.key} twice")
        missing = [child for child in children.values() if child not in runs]
        if missing:
            self.wrong(f"{run_id} has begun children that are not there: {missing}")
            return
        for record in records:
            if isinstance(record, rec.ChildEnded):
                child = runs[children[record.key]].peek()
                if not child.finished:
                    self.wrong(f"{child.id} has ended for {run_id}, and is {child.status}")
                elif (child.status == "completed") != (not bytes(record.error)):
                    self.wrong(f"{child.id} is {child.status}, and for {run_id} it is not")

    async def believe(self) -> None:
        runs = self.engine.sup.runs
        lost = [run for run in self.acknowledged if run not in runs]
        if lost:
            self.wrong(f"acknowledged, and lost: {lost}")
        for run_id in list(runs):
            await self._check(run_id)

    # ------------------------------------------------------------ what happens

    async def _start_one(self, workflow: str, given: Any) -> None:
        run_id = await self.engine.trigger(workflow, json.dumps(given).encode())
        self.acknowledged.add(run_id)

    def _saga_input(self) -> dict[str, Any]:
        return {
            "ms": [self.dice.choice((0, 5, 60)) for _ in _SAGA],
            "bad": self.dice.choice(("", "", "a", "b", "c")),
            "nap": self.dice.choice((0, 0.3)),
            "fails": self.dice.random() < 0.6,
        }

    async def do_saga(self) -> None:
        await self._start_one("saga", self._saga_input())

    async def do_race(self) -> None:
        dice = self.dice
        given = {"ms": dice.choice((0, 20, 300)), "sleep": dice.choice((0.02, 0.3))}
        more = {"leaf": dice.choice((0, 20, 300)), "nap": dice.choice((0, 0.4))}
        await self._start_one("race", given | more)

    async def do_loop(self) -> None:
        await self._start_one("loop", {"n": self.dice.randrange(1, 8), "got": []})

    async def do_talker(self) -> None:
        slow = [self.dice.choice((0, 1, 30, 60)) for _ in range(2)]
        given = {"count": self.dice.randrange(1, 5), "slow": [*slow, 0]}
        await self._start_one("talker", given)

    async def do_once(self) -> None:
        given = {"ms": self.dice.choice((0, 50)), "fails": self.dice.choice((0, 1, 2))}
        await self._start_one("once", given)

    async def do_parent(self) -> None:
        await self._start_one("parent", {"saga": self._saga_input()})

    def _live_of(self, *workflows: str) -> str | None:
        runs = [s for s in self.states() if not s.finished]
        chosen = [s.id for s in runs if not workflows or s.workflow in workflows]
        return self.dice.choice(chosen) if chosen else None

    async def do_go(self) -> None:
        if run_id := self._live_of("race"):
            with suppress(ApiError):
                await self.engine.notify("go", b"1", run_id=run_id)

    async def do_tick(self) -> None:
        if run_id := self._live_of("loop"):
            self.number += 1
            tick = f"tick {self.number}"
            with suppress(ApiError):
                await self.engine.notify("tick", json.dumps(tick).encode(), run_id=run_id)
                if json.loads(self.engine.sup.runs[run_id].peek().input)["n"] > 0:
                    self.ticks.setdefault(run_id, []).append(tick)

    async def do_cancel(self) -> None:
        if run_id := self._live_of():
            await self.engine.cancel(run_id)

    async def do_look(self) -> None:
        states = self.states()
        if states:
            await self._check(self.dice.choice(states).id)

    async def do_snapshot(self) -> None:
        await self.engine.snapshot()

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        live: list[str] = []
        for _ in range(_ROUNDS):
            live = [state.id for state in self.states() if not state.finished]
            if not live:
                break
            await asyncio.sleep(1.0)
        else:
            self.wrong(f"these never end: {live[:5]}")
        await self.believe()


def run_seed(seed: int, focus: tuple[str, ...] = ()) -> list[str]:
    """Run one seed inside `simulating()`; return what was wrong. `focus`: what happens often."""
    return ComposeWorld(seed, focus).run()
