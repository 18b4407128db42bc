"""Write a run's history record by record, as the runtime would number it."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.records import Record, encode_record
from stepflow.model.run import RunState

RUN = "run_aaaaaaaa"


class Writer:
    """Numbers records for one run and applies them."""

    def __init__(self) -> None:
        self.state = RunState(RUN)
        self.lsn = 0
        self.rows: list[tuple[Record, bytes, bytes | None]] = []

    def make(self, kind: type[Any], /, **fields: Any) -> Record:
        record: Record = kind(
            lsn=self.lsn + 1, r=RUN, rs=self.state.rs + 1, ts=1000 + self.lsn, **fields
        )
        return record

    def write(self, kind: type[Any], body: bytes | None = None, /, **fields: Any) -> Record:
        record = self.make(kind, **fields)
        data = encode_record(record)
        self.state.apply(record, data, body)
        self.lsn += 1
        self.rows.append((record, data, body))
        return record

    def start(self) -> Writer:
        self.write(rec.RunStarted, workflow="w", input=Raw(b"1"))
        return self

    def step(self, key: str, *, args: str = "x", fn: str = "f", done: bool = True) -> Record:
        record = self.write(rec.StepStarted, key=key, name=key.partition("#")[0], fn=fn, args=args)
        if done:
            record = self.write(rec.StepCompleted, key=key, result=Raw(b'"%b"' % key.encode()))
        return record
