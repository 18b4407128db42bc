"""`replay(file, flow)`: an exported run goes through the author's code again, with no side effects.

The body runs for real, so breakpoints hold and exceptions have their frames. What it asks for is
answered from the file: results, failures, events, children, times and random values. No step's
function runs, nothing is sent, nothing is recorded. Where the body asks for what the file does not
have, the replay stops and says what that was.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.config import MEMORY
from stepflow.engine.local import LocalEngine
from stepflow.errors import ExportedRunError, WorkflowNotFoundError
from stepflow.journal.memory import MemoryDisk
from stepflow.model import records as rec
from stepflow.model.capsule import Capsule, read_capsule
from stepflow.model.ids import RunId
from stepflow.model.records import decode_record
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from stepflow.runtime.calls import StepAsk
from stepflow.runtime.replay import Gate
from stepflow.runtime.seams import Seams
from stepflow.testing.clock import VirtualClock

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from stepflow.errors import DivergenceError
    from stepflow.flow import Stepflow
    from stepflow.model.run import CallState, RunState
    from stepflow.runtime.replay import Ask

__all__ = ["Asked", "Replay", "replay"]

_ENDS: Final = (rec.RunCompleted, rec.RunFailed, rec.RunCancelled)
_NOTHING_LEFT_S: Final = 100 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Something the body asked for, and what the file says of it.

    `outcome`: `completed`, `failed`, `under way` (begun, and without a result when the run was
    exported) or `not in the file`. `args` are a step's arguments as the code has them now.
    """

    name: str
    key: str
    kind: str
    function: str
    args: tuple[Any, ...]
    outcome: str
    result: Any = None

    def __str__(self) -> str:
        """Return it in one line."""
        args = ", ".join(map(repr, self.args))
        call = f" {self.function}({args})" if self.kind == "step" else ""
        result = f": {self.result!r}" if self.outcome == "completed" else ""
        return f"{self.kind} {self.key.removesuffix('#1')}{call} – {self.outcome}{result}"


@dataclass(slots=True)
class Replay:
    """What came of a replay.

    `status`: `completed`, `failed` or `cancelled`, as the body ended, `stopped` where it asked for
    what the file does not have, or `diverged`. `error` is the exception itself, with its frames.
    """

    run_id: str
    workflow: str
    recorded_status: str
    recorded_result: Any
    status: str = "stopped"
    result: Any = None
    error: BaseException | None = None
    asked: list[Asked] = field(default_factory=list[Asked])
    stopped_at: list[Asked] = field(default_factory=list[Asked])
    unused: list[str] = field(default_factory=list[str])
    """Keys of results in the file that the body did not ask for."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def same(self) -> bool:
        """Whether the code still does what the file says the run has done."""
        if self.status != self.recorded_status or self.unused:
            return False
        return self.status != "completed" or self.result == self.recorded_result

    def __str__(self) -> str:
        """Return it line by line."""
        lines = [f"{self.workflow} {self.run_id}", *(f"  {asked}" for asked in self.asked)]
        match self.status:
            case "completed":
                lines.append(f"  returned {self.result!r}")
            case "failed" | "cancelled":
                lines.append(f"  {self.status}: {self.error!r}")
            case "diverged":
                lines.append(f"  diverged: {self.error}")
            case _:
                lines.append("  stopped: the file has no more")
        lines += [f"  not asked for: {key}" for key in self.unused]
        lines += [f"  note: {note}" for note in self.notes]
        if not self.same:
            lines.append(f"  the file says: {self.recorded_status}")
        return "\n".join(lines)


def replay(file: str | os.PathLike[str] | bytes, flow: Stepflow, *, strict: bool = False) -> Replay:
    """Run the exported run's body through `flow`'s present code, and return what it asked for.

    `strict`: other arguments under a recorded step are a divergence, and not just a note; of a file
    with masked values nobody knows. Called from a running loop it runs in a thread of its own.

    Raises `ExportedRunError` for a file that is none, `WorkflowNotFoundError` when the flow lacks
    the workflow.
    """
    data = file if isinstance(file, bytes) else Path(file).read_bytes()
    capsule = read_capsule(data)
    if flow.registry.get(capsule.workflow) is None:
        message = f"the flow has no workflow {capsule.workflow!r}, of which the file is a run"
        raise WorkflowNotFoundError(message)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_replay(capsule, flow, strict=strict))
    return _in_thread(capsule, flow, strict=strict)


def _in_thread(capsule: Capsule, flow: Stepflow, *, strict: bool) -> Replay:
    done: list[Replay] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(asyncio.run(_replay(capsule, flow, strict=strict)))
        except BaseException as error:  # noqa: BLE001  raised again where it was asked for
            failed.append(error)

    thread = threading.Thread(target=work, name="stepflow-replay")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


async def _replay(capsule: Capsule, flow: Stepflow, *, strict: bool) -> Replay:
    before_end, whole = _states(capsule)
    outcome = Replay(
        run_id=capsule.run_id,
        workflow=capsule.workflow,
        recorded_status=whole.status if whole.finished else "stopped",
        recorded_result=None if whole.result is None else msgspec.json.decode(whole.result),
    )
    seams = _Seams(outcome)
    clock = VirtualClock(before_end.updated_ms)
    with clock.driving():
        engine = LocalEngine(
            flow.registry,
            MEMORY,
            settings=flow.settings,
            clock=clock,
            disk=MemoryDisk(),
            strict=strict,
            threads=False,
            seams=seams,
        )
        await engine.start()
        try:
            actor = _Actor(engine.sup, RunId(capsule.run_id))
            actor.outcome, actor.seen = outcome, seams
            actor.restore(before_end)
            sup: Any = engine.sup
            sup.recorder = _NoRecorder()
            over = asyncio.Event()
            actor.over = over.set
            clock.call_later(_NOTHING_LEFT_S, actor.nothing_left)
            actor.activate()
            await over.wait()
            await _end(actor)
        finally:
            await engine.crash()
    return outcome


def _states(capsule: Capsule) -> tuple[RunState, RunState]:
    """Return the run before its end, and with it."""
    records = list(capsule.records)
    whole = capsule.state()
    if whole.failure or whole.started is None:
        message = f"the file's records do not fit together: {whole.failure or 'no beginning'}"
        raise ExportedRunError(message)
    while whole.finished and records:
        last = decode_record(records.pop())
        if isinstance(last, _ENDS):
            break
    return capsule.state(records), whole


async def _end(actor: _Actor) -> None:
    session = actor.session
    if session is not None:
        if actor.outcome.status in {"completed", "failed", "cancelled"}:
            actor.outcome.unused = list(session.gate.unused)
        await session.suspend()


class _Gate(Gate):
    """Takes a recorded result by key and function alone where the arguments are masked or new."""

    def ask(self, asks: Sequence[Ask]) -> None:
        actor: Any = self._host
        for ask in asks:
            found = self._untaken.get(ask.key)
            fits = found is not None and (found.fn, found.kind) == (ask.fn, ask.kind)
            if found is not None and fits and found.args != ask.args:
                if found.args and not self._strict:
                    actor.outcome.notes.append(f"{ask.key}: asked with other arguments than then")
                if not (found.args and self._strict):
                    ask.args = found.args
            actor.seen.asked(ask, found if fits else None)
        super().ask(asks)


class _Seams(Seams):
    """Notes what is asked for; no step's function runs."""

    gate = _Gate

    def __init__(self, outcome: Replay) -> None:
        self._outcome = outcome

    def asked(self, ask: Ask, found: CallState | None) -> None:
        """Note that the body asked for something."""
        self._outcome.asked.append(seen(ask, found))


def seen(ask: Ask, found: CallState | None) -> Asked:
    """Return the call and what the file says of it."""
    args = ask.call_args if isinstance(ask, StepAsk) else ()
    outcome, result = "not in the file", None
    if found is not None:
        outcome = "under way" if found.status == "pending" else found.status
        if found.result is not None:
            result = msgspec.json.decode(found.result)
    return Asked(ask.name, ask.key, ask.kind, ask.fn, args, outcome, result)


class _Actor(RunActor):
    """A run that only looks back: at what would begin something new it stops."""

    __slots__ = ("outcome", "over", "seen")

    outcome: Replay
    over: Callable[[], None]
    seen: _Seams

    def tell(self, message: msg.Message) -> None:
        if not isinstance(message, msg.BodyEnded):
            return
        outcome = self.outcome
        outcome.status, outcome.result = "completed", None
        if message.error is not None:
            cancelled = self.state.cancelling
            outcome.status = "cancelled" if cancelled else "failed"
            outcome.error = message.error
        elif self.state.cancelling:
            outcome.status = "cancelled"
        else:
            workflow = self.sup.workflow(self.state.workflow)
            assert workflow is not None
            outcome.result = msgspec.json.decode(workflow.signature.output.encode(message.value))
        self.over()

    def start_calls(self, asks: Sequence[Ask]) -> None:
        self.outcome.status = "stopped"
        for ask in asks:
            at = seen(ask, self.state.calls.get(ask.key))
            self.outcome.stopped_at.append(at)
            self.outcome.asked = [at if each.key == at.key else each for each in self.outcome.asked]
        self.over()

    def adopt(self, ask: Ask, outcome: CallState) -> None:
        self.outcome.notes.append(f"{ask.key}: takes the result recorded under {outcome.key}")

    def diverged(self, error: DivergenceError) -> None:
        self.outcome.status, self.outcome.error = "diverged", error
        self.over()

    def nothing_left(self) -> None:
        """The body waits for something of its own that the file cannot have."""
        self.outcome.notes.append("the body waits for something that is neither a step nor a wait")
        self.over()

    def warn(self, message: str) -> None:
        self.outcome.notes.append(message)

    def give_up(self, asks: Sequence[Any]) -> None:
        """Nothing of it runs."""

    def record(self, kind: type[Any], /, **fields: Any) -> Any:
        """Nothing is recorded."""


class _NoRecorder:
    """Takes what `ctx.now`, `emit` and the like would record, and forgets it."""

    live_bytes = 0
    next_lsn = 0

    def write(self, *_args: object, **_fields: object) -> None:
        """Forget it."""
