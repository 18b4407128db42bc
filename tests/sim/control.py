"""What operators do to runs, through simulated lives: own workflow, own clients, own rules.

Pause, resume, retry, fork (with another input, with a pinned result), cancel, by force too, and
purge, under crashes. What is believed is what clients were answered, never what memory said:

- a run, a fork or an act that was acknowledged is there, and a purged run is not;
- a step whose result anyone has seen never runs again, after a retry neither, and keeps its result;
- the numbers of a run's records are dense from 1, an id of its stream is given once, what was read
  of it is read again, and an end that a retry has undone is not;
- a run that is paused for certain begins no attempt that was not recorded before the pause, and one
  that has ended begins none at all;
- a fork has the results from before its step, its pins and its input, and none of it is its
  source's;
- what the audit has told of it tells for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from stepflow import Context, RetryPolicy, Stepflow, current_step
from stepflow.config import MEMORY, Settings
from stepflow.errors import RunNotFoundError
from stepflow.model.records import decode_record
from tests.sim.lives import Lives

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["ControlWorld", "run_seed"]

STEPS: Final = 4
_ONCE: Final = RetryPolicy(max_attempts=1)
_TWICE: Final = RetryPolicy(max_attempts=2, initial=0.05, jitter=False)
_FINISHED: Final = frozenset({"completed", "failed", "cancelled"})
_ENDS: Final = frozenset({"complete", "error"})
_ROUNDS: Final = 400


class Stage:
    """Where the bodies tell what they do."""

    world: ControlWorld


class Broke(Exception):
    """A step fails, as it does now and then."""


async def _work(ms: int) -> str:
    step = current_step()
    token = Stage.world.began(step.run_id, step.name, step.attempt)
    if ms:
        await asyncio.sleep(ms / 1000)
    if Stage.world.dice.random() < Stage.world.sick:
        raise Broke(token)
    return token


async def _clean() -> None:
    return


async def _job(ctx: Context, given: dict[str, Any]) -> dict[str, Any]:
    out: list[str] = []
    try:
        for n in range(STEPS):
            retry = _TWICE if n == 1 else _ONCE
            out.append(await ctx.step(f"s{n}", _work, given["ms"], retry=retry))
            if n == given["nap"]:
                await ctx.sleep("nap", 0.3)
            await ctx.emit("done", {"n": n})
    except asyncio.CancelledError:
        await ctx.step("clean", _clean)
        raise
    return {"tag": given["tag"], "out": out}


def _registry() -> Any:
    flow = Stepflow(MEMORY, settings=Settings())
    flow.workflow("job")(_job)
    return flow.registry


class Loose:
    """How often something was asked of a run, and how much of that has no answer yet."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.open: Counter[str] = Counter()

    def mark(self, run_id: str) -> int | None:
        """Return how things stand, or `None` while nobody can say."""
        return None if self.open[run_id] else self.asked[run_id]

    async def asking(self, run_id: str, call: Awaitable[Any]) -> Any:
        self.asked[run_id] += 1
        self.open[run_id] += 1
        try:
            return await call
        finally:
            self.open[run_id] -= 1


class ControlWorld(Lives):
    """One seed under way."""

    name = "control"
    registry = _registry()
    weights = {  # noqa: RUF012  of the class, as its type says
        "trigger": 6,
        "look": 5,
        "read": 5,
        "watch": 2,
        "pause": 4,
        "resume": 3,
        "cancel": 2,
        "force": 2,
        "retry": 5,
        "fork": 5,
        "purge": 1,
        "audit": 2,
        "snapshot": 1,
    }

    def __init__(self, seed: int, focus: tuple[str, ...] = ()) -> None:
        super().__init__(seed, focus)
        self.sick = self.dice.choice((0.0, 0.1, 0.3))
        self.number = 0
        self.tags: dict[str, str] = {}
        """Of acknowledged runs: the input's tag, which their result has too."""
        self.results: dict[str, dict[str, str]] = {}
        """By run and step: results that somebody was told of."""
        self.begun: Counter[tuple[str, str]] = Counter()
        self.purging: set[str] = set()
        self.gone: set[str] = set()
        self.paused: dict[str, dict[str, int]] = {}
        """Of runs that are paused for certain: the attempts of steps that were begun before."""
        self.ended: set[str] = set()
        self.heard: dict[str, dict[int, tuple[str, bytes]]] = {}
        self.acts: dict[str, set[str]] = {}
        self.told: set[tuple[int, str]] = set()

    @property
    def promised(self) -> int:
        return len(self.tags) + len(self.told) + sum(map(len, self.results.values()))

    def begin_life(self) -> None:
        Stage.world = self
        self.let_on = Loose()
        self.revived = Loose()

    # ------------------------------------------------------------ what steps tell

    def began(self, run_id: str, step: str, attempt: int) -> str:
        """A step's function was entered."""
        self.number += 1
        self.begun[run_id, step] += 1
        if step in self.results.get(run_id, ()):
            self.wrong(f"{step} of {run_id} ran again, and had a result")
        if run_id in self.paused and attempt > self.paused[run_id].get(step, 0):
            self.wrong(f"{step} of {run_id} began while the run was paused")
        if run_id in self.ended:
            self.wrong(f"{step} of {run_id} began after the run's end")
        return f"{run_id} {step} {self.number}"

    # ------------------------------------------------------------ what clients were told

    async def _view(self, run_id: str) -> Any:
        """Return the run as it is shown, compared with what was shown before."""
        revived = self.revived.mark(run_id)
        view = await self.engine.get_run(run_id)
        known = self.results.setdefault(run_id, {})
        shown = {s.name: json.loads(bytes(s.result)) for s in view.steps if s.status == "completed"}
        for step, result in known.items():
            if shown.get(step) != result:
                self.wrong(f"{step} of {run_id} had {result!r} and has {shown.get(step)!r}")
        known.update({step: shown[step] for step in shown if step in _STEPS})
        alone = revived is not None and self.revived.mark(run_id) == revived
        if view.status in _FINISHED and alone:
            self.ended.add(run_id)
        if view.status == "completed" and run_id in self.tags:
            result = {"tag": self.tags[run_id], "out": [known.get(s) for s in _STEPS]}
            if json.loads(bytes(view.result)) != result:
                self.wrong(f"{run_id} gave {bytes(view.result)!r} and not {result}")
        return view

    def _dense(self, run_id: str) -> None:
        state = self.engine.sup.runs[run_id].peek()
        records = [decode_record(data) for data in state.records]
        numbers = [record.rs for record in records if record is not None]
        if numbers != list(range(1, len(numbers) + 1)):
            self.wrong(f"the records of {run_id} are numbered {numbers}")

    async def _stream(self, run_id: str) -> None:
        """Read what there is of the stream, from its beginning and from somewhere in it."""
        subscriber = await self.engine.stream(run_id)
        events = subscriber.read_events(10_000)
        subscriber.close()
        ids = [event.id for event in events]
        if ids != sorted(set(ids)):
            self.wrong(f"the stream of {run_id} has the ids {ids}")
        undone = [event.id for event in events[:-1] if event.event in _ENDS]
        if undone:
            self.wrong(f"the stream of {run_id} goes on after its end: {undone}")
        now = {event.id: (event.event, bytes(event.data)) for event in events}
        last = max(ids, default=0)
        heard = self.heard.setdefault(run_id, {})
        for event_id, before in heard.items():
            if now.get(event_id, before) != before:
                self.wrong(f"id {event_id} of {run_id} was given twice")
            elif event_id not in now and not (
                # Undone, by a retry that is not durable yet perhaps.
                before[0] in _ENDS and (event_id < last or self.revived.open[run_id])
            ):
                self.wrong(f"id {event_id} of {run_id} was read and is lost: {before}")
        heard.update(now)
        if ids:
            after = self.dice.choice(ids)
            subscriber = await self.engine.stream(run_id, after)
            rest = [e.id for e in subscriber.read_events(10_000) if e.id <= last]
            subscriber.close()
            if [i for i in ids if i > after][: len(rest)] != rest[: len(ids)] and rest[:1] != [0]:
                # A retry may have undone the end meanwhile: then it alone is missing.
                missing = [i for i in ids if i > after and i not in rest]
                if set(rest) - set(ids) or any(now[i][0] not in _ENDS for i in missing):
                    self.wrong(f"the stream of {run_id} from {after} on has {rest} of {ids}")

    async def _audit(self, run_id: str) -> None:
        entries = await self.engine.run_audit(run_id)
        reasons = {str(entry.reason) for entry in entries}
        missing = self.acts.setdefault(run_id, set()) - reasons
        if missing:
            self.wrong(f"acts on {run_id} were told of and are lost: {sorted(missing)}")
        self.acts[run_id].update(reason for reason in reasons if reason.startswith("act "))

    async def _audit_of_all(self) -> None:
        cursor, found = None, set[tuple[int, str]]()
        before = set(self.told)
        while True:
            page = await self.engine.audit(limit=100, cursor=cursor)
            found |= {(entry.lsn, f"{entry.action} {entry.reason}") for entry in page.audit}
            cursor = page.next_cursor
            if cursor is None:
                break
        if before - found:
            self.wrong(f"the audit has lost {sorted(before - found)[:3]}")
        self.told |= found

    # ------------------------------------------------------------ after a start

    async def believe(self) -> None:
        runs = self.engine.sup.runs
        lost = [run for run in self.tags if run not in runs and run not in self.purging]
        if lost:
            self.wrong(f"acknowledged, and lost: {lost}")
        back = [run for run in self.gone if run in runs]
        if back:
            self.wrong(f"purged, and there again: {back}")
        await self._audit_of_all()
        for run_id in [run for run in runs if run not in self.purging]:
            self._dense(run_id)
            view = await self._view(run_id)
            await self._stream(run_id)
            await self._audit(run_id)
            if run_id in self.paused and view.state != "paused":
                self.wrong(f"{run_id} was paused and is {view.status}, {view.state}")
            if run_id in self.ended and view.status not in _FINISHED:
                self.wrong(f"{run_id} had ended and is {view.status}")

    # ------------------------------------------------------------ what happens

    def _some(self, *statuses: str) -> str | None:
        states = [s for s in self.states() if s.id not in self.purging]
        chosen = [s.id for s in states if not statuses or s.status in statuses]
        return self.dice.choice(chosen) if chosen else None

    def _reason(self) -> str:
        self.number += 1
        return f"act {self.number}"

    async def _done(self, run_id: str, reason: str, call: Awaitable[Any]) -> None:
        await call
        self.acts.setdefault(run_id, set()).add(reason)

    def _given(self, tag: str) -> bytes:
        nap, ms = self.dice.choice((-1, -1, 0, 2)), self.dice.choice((0, 5, 100))
        return json.dumps({"tag": tag, "ms": ms, "nap": nap}).encode()

    async def do_trigger(self) -> None:
        tag = self._reason()
        self.tags[await self.engine.trigger("job", self._given(tag))] = tag

    async def do_look(self) -> None:
        if run_id := self._some():
            await self._unless_purged(run_id, self._view(run_id))

    async def do_read(self) -> None:
        if run_id := self._some():
            await self._unless_purged(run_id, self._stream(run_id))

    async def do_watch(self) -> None:
        """Follow a run for a while, as it goes."""
        if run_id := self._some("running"):
            subscriber = await self.engine.stream(run_id)
            last = 0
            while not subscriber.ended:
                await subscriber.changed()
                for event in subscriber.read_events(3):
                    if event.id <= last:
                        self.wrong(f"a reader of {run_id} was given {event.id} after {last}")
                    last = event.id
                    told = (event.event, bytes(event.data))
                    if self.heard.setdefault(run_id, {}).setdefault(event.id, told) != told:
                        self.wrong(f"id {event.id} of {run_id} was given twice")
            subscriber.close()

    async def do_audit(self) -> None:
        await self._audit_of_all()
        if run_id := self._some():
            await self._unless_purged(run_id, self._audit(run_id))

    async def _unless_purged(self, run_id: str, call: Awaitable[Any]) -> None:
        try:
            await call
        except RunNotFoundError:
            if run_id not in self.purging:
                raise

    async def do_pause(self) -> None:
        if run_id := self._some("running"):
            before, reason = self.let_on.mark(run_id), self._reason()
            view = await self.engine.pause(run_id, reason=reason)
            self.acts.setdefault(run_id, set()).add(reason)
            if before is not None and before == self.let_on.mark(run_id):
                begun = [s for s in view.steps if s.kind == "step" and s.status == "pending"]
                self.paused[run_id] = {s.name: int(s.attempts) for s in begun if s.attempts}

    async def do_resume(self) -> None:
        paused = [s.id for s in self.states() if s.paused]
        if paused:
            await self._let_on(self.dice.choice(paused), "resume")

    async def _let_on(self, run_id: str, act: str, *, told: bool = True, **options: Any) -> str:
        self.paused.pop(run_id, None)
        reason = self._reason()
        call = getattr(self.engine, act)(run_id, reason=reason, **options)
        await self.let_on.asking(run_id, call)
        if told:
            self.acts.setdefault(run_id, set()).add(reason)
        return reason

    async def do_cancel(self) -> None:
        if not (run_id := self._some("running")):
            return
        cancelling = self.engine.sup.runs[run_id].peek().cancelling
        before = self.let_on.mark(run_id)
        reason = await self._let_on(run_id, "cancel", told=False)
        # Of two cancels of a run one is an act, and the other finds it done.
        if not cancelling and before is not None and self.let_on.mark(run_id) == before + 1:
            self.acts.setdefault(run_id, set()).add(reason)

    async def do_force(self) -> None:
        if run_id := self._some("running"):
            revived = self.revived.mark(run_id)
            await self._let_on(run_id, "cancel", force=True)
            if revived is not None and self.revived.mark(run_id) == revived:
                self.ended.add(run_id)

    async def do_retry(self) -> None:
        if run_id := self._some("failed", "cancelled"):
            self.ended.discard(run_id)
            reason = self._reason()
            call = self.engine.retry(run_id, reason=reason)
            await self._unless_purged(
                run_id, self._done(run_id, reason, self.revived.asking(run_id, call))
            )

    async def do_fork(self) -> None:
        if source := self._some():
            await self._unless_purged(source, self._fork(source))

    async def _fork(self, source: str) -> None:
        view = await self._view(source)
        steps = [s.name for s in view.steps if s.name in _STEPS]
        if not steps:
            return
        from_step, reason = self.dice.choice(steps), self._reason()
        kept = steps[: steps.index(from_step)]
        expected = {step: self.results[source][step] for step in kept}
        pins = {step: f"pin {reason}" for step in steps if self.dice.random() < 0.3}
        tag, body = json.loads(bytes(view.input))["tag"], None
        if self.dice.random() < 0.5:
            tag = reason
            body = self._given(tag)
        fork = await self.engine.fork(
            source,
            from_step,
            body=body,
            results={step: json.dumps(pin).encode() for step, pin in pins.items()},
            reason=reason,
        )
        self.tags[fork] = tag
        self.results.setdefault(fork, {}).update(expected | pins)
        ran = [step for step in expected | pins if self.begun[fork, step]]
        if ran:
            self.wrong(f"{ran} of the fork {fork} ran, and had results")
        if fork not in self.purging:
            await self._view(fork)
            self._dense(fork)

    async def do_purge(self) -> None:
        if run_id := self._some("completed", "failed", "cancelled"):
            self.purging.add(run_id)
            await self._unless_purged(run_id, self.engine.purge(run_id, reason=self._reason()))
            self.gone.add(run_id)

    async def do_snapshot(self) -> None:
        await self.engine.snapshot()

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        self.sick = 0.0
        for state in self.states():
            if state.status == "failed" and state.id not in self.purging:
                self.ended.discard(state.id)
                await self.revived.asking(state.id, self.engine.retry(state.id))
        for _ in range(_ROUNDS):
            for state in self.states():
                if state.paused:
                    await self._let_on(state.id, "resume")
            live = [state.id for state in self.states() if not state.finished]
            if not live:
                break
            await asyncio.sleep(1.0)
        else:
            self.wrong(f"these never end: {live[:5]}")
        await self.believe()


_STEPS: Final = tuple(f"s{n}" for n in range(STEPS))


def run_seed(seed: int, focus: tuple[str, ...] = ()) -> list[str]:
    """Run one seed inside `simulating()`; return what was wrong. `focus`: what happens often."""
    return ControlWorld(seed, focus).run()
