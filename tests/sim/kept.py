"""What is forgotten of finished runs, through simulated lives: limits of a workflow, and of all.

Four workflows: one kept for a time (failed runs for longer), one in a number, one in bytes, one as
the settings say, which hold for all together. Clients trigger under idempotency keys, cancel,
retry and look, under crashes. What is believed is what they were answered:

- a run that cannot end by itself is there until it is cancelled, and one that was retried while it
  goes on;
- what is gone was past its age, or so many, or so many bytes, that ended later, are there;
- of what a number or bytes keep, none ended before one that is gone;
- what was answered 404 never comes back, and its idempotency key starts a run anew; a key whose
  run is there gives that run;
- once nothing moves, nothing is kept beyond what the limits say.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stepflow import Context, NonRetryableError, Retention, Stepflow
from stepflow.config import MEMORY, Settings
from stepflow.errors import ConflictError, RunNotFoundError
from tests.sim.lives import SETTINGS, Lives

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["KeptWorld", "run_seed"]

_AGE_MS: Final = 20_000
_FAILED_AGE_MS: Final = 60_000
_COUNT: Final = 3
_BYTES: Final = 8000
_LARGEST: Final = 4000
"""No run of this world is larger: each is retried once at most."""
_SETTINGS_AGE_MS: Final = 100_000
_ALL_MAX: Final = 12
_SWEPT_S: Final = 3.0
"""A sweep comes each second."""
_FINISHED: Final = frozenset({"completed", "failed", "cancelled"})


async def _work(size: int) -> str:
    return "x" * size


async def _fail() -> None:
    raise NonRetryableError("it fails")


async def _body(ctx: Context, given: dict[str, Any]) -> str:
    text = await ctx.step("work", _work, given["size"])
    if given["ms"]:
        await ctx.sleep("nap", given["ms"] / 1000)
    if given["waits"]:
        await ctx.wait_for_event("never", timeout=None)
    if given["fails"]:
        await ctx.step("fail", _fail)
    return text


_KEPT: Final[dict[str, Retention | None]] = {
    "aged": Retention(age=_AGE_MS / 1000, failed_age=_FAILED_AGE_MS / 1000),
    "counted": Retention(count=_COUNT),
    "sized": Retention(bytes=_BYTES),
    "plain": None,
}


def _registry() -> Any:
    flow = Stepflow(MEMORY, settings=Settings())
    for name, kept in _KEPT.items():
        flow.workflow(name, retention=kept)(_body)
    return flow.registry


@dataclass(slots=True)
class Known:
    """A run, as the answers of the server have told of it."""

    workflow: str
    waits: bool
    status: str
    at_ms: int
    """When it was seen live last, or when it ended."""
    lsn: int = 0
    retried: bool = False


class KeptWorld(Lives):
    """One seed under way."""

    name = "kept"
    registry = _registry()
    weights = {  # noqa: RUF012  of the class, as its type says
        "trigger": 10,
        "again": 4,
        "look": 4,
        "cancel": 2,
        "retry": 3,
        "wait": 2,
        "snapshot": 1,
    }

    def __init__(self, seed: int, focus: tuple[str, ...] = ()) -> None:
        super().__init__(seed, focus)
        self.number = 0
        self.asked = 0
        """How many runs there can be at most: what a crash left without an answer may be there."""
        self.known: dict[str, Known] = {}
        self.keys: dict[tuple[str, str], tuple[bytes, str]] = {}
        self.gone: set[str] = set()
        self.looks = 0
        # The others are rare: so what is kept of one is not decided by what all together may hold.
        self.favourite = self.dice.choice([w for w in _KEPT if w in focus] or list(_KEPT))
        self.all_max = _ALL_MAX if self.favourite == "plain" else 1000
        self.settings = replace(
            SETTINGS,
            completed_age_s=_SETTINGS_AGE_MS / 1000,
            failed_age_s=_SETTINGS_AGE_MS / 1000,
            finished_runs_max=self.all_max,
        )

    @property
    def promised(self) -> int:
        return len(self.known) + self.looks

    # ------------------------------------------------------------ what clients were told

    async def _look(self) -> None:
        """Read every run that was ever answered, and compare."""
        before = dict(self.known)
        rows: dict[str, Any] = {}
        began_ms = self._now_ms()
        for run_id in [run for run in before if run not in self.gone]:
            try:
                rows[run_id] = await self.engine.get_run(run_id)
            except RunNotFoundError:
                self._missing(run_id, before[run_id], began_ms)
        for run_id, view in rows.items():
            self._seen(run_id, view)
        self.looks += len(rows)

    def _now_ms(self) -> int:
        return int(self.engine.sup.time.now_ms())

    def _seen(self, run_id: str, view: Any) -> None:
        actor = self.engine.sup.runs.get(run_id)
        known = self.known[run_id]
        if actor is None or view.status != actor.status:
            return
        known.status = view.status
        state = actor.peek()
        known.at_ms = state.updated_ms if state.finished else self._now_ms()
        known.lsn = state.lsn if state.finished else 0

    def _missing(self, run_id: str, known: Known, began_ms: int) -> None:
        self.gone.add(run_id)
        if known.waits and known.status == "running":
            self.wrong(f"{run_id} cannot have ended, and is gone")
        idle_ms = self._now_ms() - known.at_ms
        many = self.asked > self.all_max
        beside = self._beside(known.workflow)
        match known.workflow:
            case "aged":
                age_ms = _FAILED_AGE_MS if known.status in {"failed", "cancelled"} else _AGE_MS
                allowed = idle_ms > age_ms
            case "counted":
                allowed = len(beside) >= _COUNT
            case "sized":
                allowed = sum(size for _, size in beside) + _LARGEST > _BYTES
            case _:
                allowed = False
        aged = known.workflow != "aged" and idle_ms > _SETTINGS_AGE_MS
        if not (allowed or aged or many):
            self.wrong(f"{run_id} of {known.workflow} ({known.status}) is gone after {idle_ms} ms")
        if known.workflow in {"counted", "sized"} and known.lsn and not aged:
            older = [lsn for lsn, _ in beside if lsn and lsn < known.lsn]
            if older:
                self.wrong(f"{run_id} is gone, and {len(older)} that ended before it are there")

    def _beside(self, workflow: str) -> list[tuple[int, int]]:
        """Return of the workflow's runs that are there where each ended, 0 if not, and its size."""
        states = [s for s in self.states() if s.workflow == workflow]
        return [(s.lsn if s.finished else 0, s.nbytes) for s in states]

    # ------------------------------------------------------------ after a start

    async def believe(self) -> None:
        runs = self.engine.sup.runs
        if back := [run for run in self.gone if run in runs]:
            self.wrong(f"gone, and there again: {back[:3]}")
        await self._look()

    # ------------------------------------------------------------ what happens

    def _given(self, *, waits: bool) -> bytes:
        return json.dumps(
            {
                "size": self.dice.choice((0, 200, 900)),
                "ms": self.dice.choice((0, 0, 300)),
                "fails": self.dice.random() < 0.3,
                "waits": waits,
            }
        ).encode()

    def _workflow(self) -> str:
        return self.favourite if self.dice.random() < 0.8 else self.dice.choice(list(_KEPT))

    async def do_trigger(self) -> None:
        waits = self.dice.random() < 0.15
        self.number += 1
        workflow, key = self._workflow(), f"key {self.number}"
        body = self._given(waits=waits)
        self.asked += 1
        run_id = await self.engine.trigger(workflow, body, idempotency_key=key)
        self.known[run_id] = Known(workflow, waits, "running", self._now_ms())
        self.keys[workflow, key] = (body, run_id)

    async def do_again(self) -> None:
        """Trigger with a key that a run has, or had."""
        if not self.keys:
            return
        workflow, key = self.dice.choice(list(self.keys))
        body, before = self.keys[workflow, key]
        was_gone = before in self.gone
        self.asked += 1
        run_id = await self.engine.trigger(workflow, body, idempotency_key=key)
        if run_id == before:
            if was_gone:
                self.wrong(f"{key!r} gave {run_id}, which was gone")
            return
        if run_id not in self.known:
            waits = bool(json.loads(body)["waits"])
            self.known[run_id] = Known(workflow, waits, "running", self._now_ms())
        if self.keys[workflow, key][1] == before:
            self.keys[workflow, key] = (body, run_id)
        if before in self.engine.sup.runs:
            self.wrong(f"{key!r} gave {run_id}, and {before} has it")

    async def do_look(self) -> None:
        await self._look()

    async def do_wait(self) -> None:
        await asyncio.sleep(self.dice.choice((1.5, 10.0, 25.0)))
        await self._look()

    def _some(self, *statuses: str) -> str | None:
        chosen = [s.id for s in self.states() if s.status in statuses and s.id in self.known]
        return self.dice.choice(chosen) if chosen else None

    async def _unless_gone(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except (RunNotFoundError, ConflictError):
            # Ended, or retried by somebody else, or forgotten meanwhile.
            return

    async def do_cancel(self) -> None:
        if run_id := self._some("running"):
            self.known[run_id].waits = False
            await self._unless_gone(self.engine.cancel(run_id, force=True))

    async def do_retry(self) -> None:
        if run_id := self._some("failed", "cancelled"):
            known = self.known[run_id]
            if known.retried:
                return
            known.retried, known.lsn = True, 0
            await self._unless_gone(self.engine.retry(run_id))
            known.at_ms, known.status = self._now_ms(), "running"

    async def do_snapshot(self) -> None:
        await self.engine.snapshot()

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        await self._look()
        for state in self.states():
            if not state.finished:
                if state.id in self.known:
                    self.known[state.id].waits = False
                await self._unless_gone(self.engine.cancel(state.id, force=True))
        await asyncio.sleep(_SWEPT_S)
        await self._look()
        self._kept_no_more()

    def _kept_no_more(self) -> None:
        """Nothing has moved for some sweeps: what is there is what the limits keep."""
        now_ms = self._now_ms()
        states = [state for state in self.states() if state.finished]
        if len(states) > self.all_max:
            self.wrong(f"{len(states)} finished runs are kept, and not {self.all_max}")
        old: list[str] = []
        for state in states:
            age_ms = _SETTINGS_AGE_MS
            if state.workflow == "aged":
                age_ms = _AGE_MS if state.status == "completed" else _FAILED_AGE_MS
            if now_ms - state.updated_ms > age_ms + _SWEPT_S * 1000:
                old.append(f"{state.id} of {state.workflow}")
        if old:
            self.wrong(f"kept past their age: {old[:3]}")
        counted = len(self._beside("counted"))
        if counted > _COUNT:
            self.wrong(f"{counted} runs of 'counted' are kept, and not {_COUNT}")
        sized = sum(size for _, size in self._beside("sized"))
        if sized > _BYTES:
            self.wrong(f"{sized} bytes of 'sized' are kept, and not {_BYTES}")


def run_seed(seed: int, focus: tuple[str, ...] = ()) -> list[str]:
    """Run one seed inside `simulating()`; return what was wrong. `focus`: what happens often."""
    return KeptWorld(seed, focus).run()
