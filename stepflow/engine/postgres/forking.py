"""`POST /runs/{runId}/fork`: planned where it is asked for, begun by whoever claims it.

The fork's first record and all that it keeps of its source are one transaction. Its history is
applied here before it is written, so that no worker gets one that cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec
from msgspec import Raw

from stepflow.clock import next_pass
from stepflow.engine.forking import pinned
from stepflow.engine.part import check_reason
from stepflow.engine.postgres.acts import ACTS, act_columns
from stepflow.engine.postgres.commit import (
    ANNOUNCE,
    PAYLOADS,
    RECORDS,
    START,
    START_HELD,
    start_values,
)
from stepflow.engine.postgres.gate import ENTER, asked, first_ask
from stepflow.engine.postgres.reading import Reading
from stepflow.errors import ConflictError, PayloadTooLargeError
from stepflow.model.codec import encode
from stepflow.model.ids import run_ids_of
from stepflow.model.records import RunStarted, encode_record
from stepflow.model.run import RunState
from stepflow.runtime.forking import plan_fork

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepflow.clock import HybridTime
    from stepflow.engine.postgres.presence import Starts
    from stepflow.engine.postgres.traced import Spans
    from stepflow.entropy import Entropy
    from stepflow.runtime.recorder import Copied

__all__ = ["ClusterForking"]

_ID_BYTES: Final = 64
_REACHED: Final = b"update stepflow.runs set rs = %s, lsn = %s where run_id = %s"


class ClusterForking(Reading):
    """Any process does it."""

    starts: Starts
    _entropy: Entropy
    _spans: Spans
    _time: HybridTime

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
        state, _, _ = await self._state_of(run_id)
        database = self.writable
        check_reason(reason)
        if state.failure:
            message = f"The records of run {run_id} cannot be applied: it cannot be forked"
            raise ConflictError(message)
        workflow = self._workflow(state.workflow)
        pins = {step: pinned(step, data, self.settings) for step, data in (results or {}).items()}
        given = body if body is not None else state.input
        tags = state.started.tags if state.started is not None else ()
        plan = plan_fork(state, from_step, pins, other_input=body is not None)
        for _ in plan.prepare():
            await next_pass()
        _, data, events, _ = self._checked_input(workflow, given)
        if plan.nbytes + len(data) > self.settings.run_bytes_max:
            message = f"The fork would hold more than {self.settings.run_bytes_max} bytes"
            raise PayloadTooLargeError(message)
        own = [tag for tag in tags if tag not in workflow.options.tags]
        lineage = {"runId": run_id, "fromStep": from_step}
        if reason:
            lineage["reason"] = reason
        record = RunStarted(
            lsn=1,
            r=run_ids_of(self._entropy.randbytes(_ID_BYTES))[0],
            rs=1,
            ts=self._time.now_ms(),
            workflow=workflow.id,
            input=Raw(data),
            by=by,
            tags=(*workflow.options.tags, *own),
            events=events,
            timeout=workflow.options.timeout_ms or 0,
            lineage=Raw(encode(lineage)),
        )
        async with database.connection() as conn:
            with self._spans.handing() as spans:
                record = spans.traced(record)
                ask = first_ask(self.registry, record)
                if ask is not None:
                    record = msgspec.structs.replace(record, held=True)
                fork = _Fork(record, plan.copies())
                async with conn.pipeline(), conn.transaction():
                    start = START if ask is None else START_HELD
                    await conn.execute(start, start_values(record, fork.first))
                    if fork.records:
                        await conn.execute(RECORDS, _columns(record.r, fork.records, 5))
                        await conn.execute(_REACHED, (fork.rs, fork.lsn, record.r))
                    if fork.payloads:
                        await conn.execute(PAYLOADS, _columns(record.r, fork.payloads, 3))
                    await conn.execute(ACTS, act_columns(record))
                    if ask is None:
                        await conn.execute(ANNOUNCE, (1,))
                    else:
                        await conn.execute(ENTER, (asked([ask]),))
        self.starts.note(workflow.id)
        return record.r


class _Fork:
    """A run with what it begins with, as rows. Raises `ApplyError`."""

    def __init__(self, started: RunStarted, rows: Iterable[Copied]) -> None:
        state = RunState(started.r)
        self.first = encode_record(started)
        state.apply(started, self.first)
        self.records: list[tuple[int, int, int, bytes]] = []
        self.payloads: list[tuple[int, bytes]] = []
        lsn = started.lsn
        for record, event in rows:
            lsn += 1
            body: bytes | None = None
            named = record
            if event is not None:
                body = bytes(event.payload)
                self.payloads.append((lsn, body))
                # It names the event, which has an LSN before its own.
                named = msgspec.structs.replace(record, payload=lsn)
                lsn += 1
            copy = msgspec.structs.replace(
                named, lsn=lsn, r=started.r, rs=state.rs + 1, ts=started.ts
            )
            data = encode_record(copy)
            state.apply(copy, data, body)
            self.records.append((copy.rs, lsn, crc32(data), data))
        self.rs, self.lsn = state.rs, lsn


def _columns(
    run_id: str, rows: Sequence[tuple[object, ...]], width: int
) -> tuple[list[object], ...]:
    """Return columns of rows, of which the run's id is the first."""
    others = ([row[place] for row in rows] for place in range(width - 1))
    return [run_id] * len(rows), *others
