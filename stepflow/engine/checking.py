"""`stepflow check`: what new code would make of every live run, found by replaying it dry.

The directory is read without its lock and nothing is written: each run is folded from its records
and its body is replayed against them in memory, up to the first call that has no recorded result.
No step is run; whatever the body does outside steps it does here too, as in any replay.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from stepflow.clock import HybridTime, SystemClock, next_pass
from stepflow.config import Settings
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_store
from stepflow.model.ids import RunId
from stepflow.runtime import messages as msg
from stepflow.runtime.actor import RunActor
from stepflow.runtime.restore import Restorer
from stepflow.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from stepflow.authoring.registry import Registry
    from stepflow.errors import DivergenceError
    from stepflow.journal.disk import Disk
    from stepflow.model.run import RunState
    from stepflow.runtime.replay import Ask

__all__ = ["Checked", "Verdict", "check_directory"]

Verdict = Literal[
    "safe", "new steps", "unused results", "divergence", "missing workflow", "unknown"
]
_PASSES_IDLE: Final = 40
"""So many passes of the loop in which nothing is decided: the body waits."""
_PATIENCE_S: Final = 1.0
"""So long a body may wait for something of its own."""


_NAMED: Final = 5
"""Keys in a line that may be long."""


class Checked(msgspec.Struct, rename="camel", omit_defaults=True):
    """What the new code would make of one run."""

    run_id: str
    workflow_id: str
    verdict: Verdict
    new: list[str] = []
    """Calls that it asks for and that were never begun, by their keys."""
    unused: list[str] = []
    """Recorded results, and calls under way, that it does not ask for: any more, or, with `new`,
    before those, where the check ends; they may be asked for behind them."""
    warnings: list[str] = []
    step: str = ""
    recorded: str = ""
    asked: str = ""
    """Of a divergence: which step, what was recorded, what the code asks for now."""

    def line(self) -> str:
        """Return it as one line for people."""
        parts: list[str] = []
        if self.verdict == "divergence":
            parts.append(f"step {self.step!r} has {self.recorded}, the code asks for {self.asked}")
        if self.new:
            parts.append(f"new: {', '.join(self.new)}")
        if self.unused and self.new:
            # What comes behind a step that has no result is not known: the check runs none.
            more = len(self.unused) - _NAMED
            names = ", ".join(self.unused[:_NAMED]) + (f" and {more} more" if more > 0 else "")
            parts.append(f"unused, or asked for only behind them: {names}")
        elif self.unused:
            parts.append(f"unused: {', '.join(self.unused)}")
        parts += self.warnings
        what = f": {'; '.join(parts)}" if parts else ""
        return f"{self.run_id} {self.workflow_id} {self.verdict}{what}"


class _Nowhere:
    """A journal into which everything goes and nothing stays."""

    why_no_room = ""
    on_commit: Any = None
    on_room: Any = None
    durable_lsn: Final = (1 << 62) - 1

    def __init__(self, next_lsn: int) -> None:
        self.next_lsn = next_lsn

    @property
    def last_lsn(self) -> int:
        return self.next_lsn - 1

    def append(self, records: Sequence[bytes], *, strict: bool) -> None:
        del strict
        self.next_lsn += len(records)

    def has_room(self, _nbytes: int, *, reserve: bool = False) -> bool:
        del reserve
        return True


class _DryRun(RunActor):
    """A run that begins nothing: what its body asks for is noted."""

    __slots__ = ("asked", "ended", "error", "warnings")

    def __init__(self, sup: Supervisor, state: RunState) -> None:
        super().__init__(sup, RunId(state.id))
        self.restore(state)
        self.asked: list[Ask] = []
        self.ended = False
        self.error: DivergenceError | None = None
        self.warnings: list[str] = []

    def start_calls(self, asks: Sequence[Ask]) -> None:
        self.asked += asks

    def tell(self, message: msg.Message) -> None:
        self.ended |= isinstance(message, msg.BodyEnded)

    def diverged(self, error: DivergenceError) -> None:
        self.error = error
        if self.session is not None:
            self.session.fence()

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def pack(self) -> None:
        """It is looked at once."""


async def check_directory(disk: Disk, registry: Registry) -> AsyncGenerator[Checked]:
    """Yield what the registered workflows would make of each live run, oldest first.

    Raises what a start would raise for a directory that is damaged or a newer version's.
    """
    restorer = Restorer()
    store = read_store(disk)
    if store is None:
        return
    clock = SystemClock()
    found = await asyncio.to_thread(
        Recovery(
            disk, store, clock.wall_ms(), restorer.on_line, restorer.on_record, read_only=True
        ).run
    )
    time = HybridTime(clock)
    time.observe(restorer.last_ts_ms)
    nowhere: Any = _Nowhere(found.lsn + 1)
    sup = Supervisor(nowhere, registry, Settings(), clock, time)
    try:
        for row in restorer.runs():
            state = row.state
            if not state.finished:
                yield await _check(sup, state)
    finally:
        await sup.stop()


async def _check(sup: Supervisor, state: RunState) -> Checked:
    checked = Checked(state.id, state.workflow, "safe")
    if state.failure:
        checked.verdict, checked.warnings = "unknown", [state.failure]
        return checked
    if sup.workflow(state.workflow) is None:
        checked.verdict = "missing workflow"
        return checked
    if state.status == "pending":
        return checked
    state.paused = False
    begun = {c.key: (c.kind, c.fn, c.args) for c in state.pending_calls()}
    run = _DryRun(sup, state)
    run.activate()
    session = run.session
    assert session is not None
    settled = await _replayed(run)
    asked = {ask.key: ask for ask in run.asked}
    checked.warnings = [text.partition("; ")[0] for text in run.warnings]
    if run.error is not None:
        checked.verdict = "divergence"
        checked.step, checked.recorded = run.error.key, run.error.recorded
        checked.asked = run.error.asked
    else:
        checked.new = [key for key, a in asked.items() if begun.get(key) != (a.kind, a.fn, a.args)]
        checked.unused = [*session.gate.unused, *(key for key in begun if key not in asked)]
        if not settled:
            checked.verdict = "unknown"
            checked.warnings.append("its body waits for something outside steps")
        elif checked.new and (begun or checked.unused):
            # Of a run that had nothing under way, what it asks for is what comes next.
            checked.verdict = "new steps"
        elif checked.unused:
            checked.verdict = "unused results"
    await run.suspend()
    return checked


async def _replayed(run: _DryRun) -> bool:
    """Let the body go as far as its records reach; say whether it got there."""
    session = run.session
    assert session is not None
    gate = session.gate
    deadline_s = run.sup.clock.monotonic_s() + _PATIENCE_S
    while run.sup.clock.monotonic_s() < deadline_s:
        idle = 0
        while idle < _PASSES_IDLE:
            await next_pass()
            idle = 0 if gate.is_deciding else idle + 1
        if run.error is not None or run.ended or session.fenced or session.waits:
            return True
    return False
