"""Planted bugs of what operators do to runs: each breaks one of its rules and must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stepflow.engine import forking
from stepflow.engine.auditing import Auditing
from stepflow.engine.local import LocalEngine
from stepflow.model import records as rec
from stepflow.model.audit import AuditPage, acts_of
from stepflow.model.records import decode_record
from stepflow.model.views import event_of, sse_frame
from stepflow.runtime import reviving
from stepflow.runtime.hub import Feed
from stepflow.runtime.retrying import TakenBack
from tests.sim.patching import attribute, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONTROL_BUGS", "CONTROL_FOCUS"]

CONTROL_BUGS: Final[dict[str, Callable[[], Any]]] = {}
CONTROL_FOCUS: Final = {
    "retry-reruns-a-recorded-step": ("retry",),
    "pause-forgotten-after-restart": ("pause",),
    "fork-shares-the-sequence": ("fork",),
    "fork-loses-a-pin": ("fork",),
    "fork-runs-what-it-has-kept": ("fork",),
    "audit-answered-before-sync": ("audit", "crash"),
    "undone-end-served-again": ("retry", "read"),
    "a-forced-cancel-is-answered-before-sync": ("force", "crash"),
    "a-purge-is-answered-before-sync": ("purge", "crash"),
}
"""What the seeds are about that find a bug soonest."""


def planted(break_it: Callable[[], Any]) -> Callable[[], Any]:
    CONTROL_BUGS[break_it.__name__.replace("_", "-")] = break_it
    return break_it


@planted
def retry_reruns_a_recorded_step() -> Any:
    real: Any = attribute(reviving, "taken_back")

    def broken(state: Any) -> TakenBack:
        back = real(state)
        done = [call.key for call in state.calls.values() if call.kind == "step"]
        return TakenBack(tuple(dict.fromkeys([*done[:1], *back.again])), back.forget)

    return replaced(reviving, "taken_back", broken)


@planted
def pause_forgotten_after_restart() -> Any:
    real: Any = attribute(LocalEngine, "_wake")

    async def broken(self: Any, sup: Any, run_ids: Any) -> None:
        for run_id in list(sup.runs):
            sup.runs[run_id].state.paused = False
        await real(self, sup, run_ids)

    return replaced(LocalEngine, "_wake", broken)


@planted
def fork_shares_the_sequence() -> Any:
    real: Any = attribute(forking, "plan_fork")

    class Shared:
        def __init__(self, plan: Any, rs: int) -> None:
            self.nbytes, self._plan, self._rs = plan.nbytes, plan, rs

        def write(self, actor: Any) -> None:
            self._plan.write(actor)
            actor.state.rs = max(actor.state.rs, self._rs)

    def broken(state: Any, *args: Any, **options: Any) -> Any:
        return Shared(real(state, *args, **options), state.rs)

    return replaced(forking, "plan_fork", broken)


@planted
def fork_loses_a_pin() -> Any:
    real: Any = attribute(forking, "plan_fork")

    def broken(state: Any, from_step: str, results: Any, **options: Any) -> Any:
        # Of what had come to nothing yet.
        kept = {
            step: data
            for step, data in results.items()
            if any(c.name == step and c.status != "pending" for c in state.calls.values())
        }
        return real(state, from_step, kept, **options)

    return replaced(forking, "plan_fork", broken)


@planted
def fork_runs_what_it_has_kept() -> Any:
    real: Any = attribute(forking, "plan_fork")

    def broken(*args: Any, **options: Any) -> Any:
        plan = real(*args, **options)
        return plan._replace(calls=plan.calls[1:])

    return replaced(forking, "plan_fork", broken)


@planted
def audit_answered_before_sync() -> Any:
    async def run_audit(self: Any, run_id: str) -> Any:
        return acts_of((await self._durable_run(run_id)).peek())

    async def audit(self: Any, *, limit: int, **_: Any) -> AuditPage:
        return AuditPage(
            audit=self.sup.audit.page(self.sup.journal.next_lsn, "", limit), next_cursor=None
        )

    return _Both(replaced(Auditing, "run_audit", run_audit), replaced(Auditing, "audit", audit))


@planted
def undone_end_served_again() -> Any:
    real: Any = attribute(Feed, "row")

    def broken(self: Any, index: int) -> Any:
        row = real(self, index)
        state = self.actor.state
        if row is not None and row[1] is None and index >= state.forgotten:
            record = decode_record(state.records[index - state.forgotten])
            if isinstance(record, rec.RunFailed | rec.RunCancelled):
                event = event_of(record, state.payloads)
                return record.lsn, event, sse_frame(event) if event else b""
        return row

    return replaced(Feed, "row", broken)


def _unsynced(act: str) -> Any:
    """An act is answered as soon as it is decided."""
    real: Any = getattr(LocalEngine, act)
    owner = next(cls for cls in LocalEngine.__mro__ if act in vars(cls))

    async def broken(self: Any, run_id: str, **options: Any) -> Any:
        journal = self.sup.journal
        durable = journal.durable

        async def soon(lsn: int) -> None:
            if lsn <= before:
                await durable(lsn)

        before = journal.last_lsn
        journal.durable = soon
        try:
            return await real(self, run_id, **options)
        finally:
            del journal.durable

    return replaced(owner, act, broken)


@planted
def a_forced_cancel_is_answered_before_sync() -> Any:
    return _unsynced("cancel")


@planted
def a_purge_is_answered_before_sync() -> Any:
    return _unsynced("purge")


class _Both:
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        for part in self._parts:
            part.__enter__()

    def __exit__(self, *error: object) -> None:
        for part in reversed(self._parts):
            part.__exit__(*error)
