"""`POST /runs/{runId}/fork`: a new run from what another had recorded before one of its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw

from stepflow.clock import next_pass
from stepflow.engine.part import RECORD_BYTES, EnginePart, check_reason
from stepflow.errors import ConflictError, PayloadTooLargeError
from stepflow.model.codec import encode, parse_json
from stepflow.runtime.forking import plan_fork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.config import Settings

__all__ = ["Forking", "pinned"]


class Forking(EnginePart):
    """Prepared in slices, decided in one turn; the fork's whole beginning is one frame."""

    async def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        body: bytes | None = None,
        results: Mapping[str, bytes] | None = None,
        by: str = "",
        reason: str = "",
    ) -> str:
        actor = await self._durable_run(run_id)
        sup = self._writable()
        check_reason(reason)
        state = actor.peek()
        if state.failure:
            await sup.journal.durable(actor.lsn)
            message = f"The records of run {run_id} cannot be applied: it cannot be forked"
            raise ConflictError(message)
        self._workflow(state.workflow)
        pins = {step: pinned(step, data, self.settings) for step, data in (results or {}).items()}
        given = body if body is not None else state.input
        tags = state.started.tags if state.started is not None else ()
        plan = plan_fork(state, from_step, pins, other_input=body is not None)
        for _ in plan.prepare():
            await next_pass()
        # The plan is of the source as it was; what else counts is as it is now.
        sup = self._writable()
        workflow = self._workflow(state.workflow)
        _, data, events, _ = self._checked_input(workflow, given)
        nbytes = plan.nbytes + len(data)
        if nbytes > self.settings.run_bytes_max:
            message = f"The fork would hold more than {self.settings.run_bytes_max} bytes"
            raise PayloadTooLargeError(message)
        sup.check_capacity(1, nbytes)
        sup.check_room(nbytes + RECORD_BYTES)
        lineage = {"runId": run_id, "fromStep": from_step}
        if reason:
            lineage["reason"] = reason
        with sup.recorder.group():
            fork = sup.start_run(
                workflow,
                data,
                events=events,
                by=by,
                tags=tuple(tag for tag in tags if tag not in workflow.options.tags),
                lineage=Raw(encode(lineage)),
                history=plan.write,
            )
            started = fork.state.started
            if started is not None:
                sup.note_act(started, workflow.id)
        await sup.journal.durable(fork.start_lsn)
        return fork.id


def pinned(step: str, data: bytes, settings: Settings) -> bytes:
    """Return a pinned result as it is kept. Raises `InvalidInputError`, `PayloadTooLargeError`."""
    result = encode(parse_json(data, depth_max=settings.json_depth_max), f"results.{step}")
    if len(result) > settings.result_bytes_max:
        message = f"results.{step}: {len(result)} bytes, at most {settings.result_bytes_max}"
        raise PayloadTooLargeError(message)
    return result
