r"""A run as one file: what `stepflow export` writes and `stepflow.testing.replay` reads. PURE.

JSON lines. This is the specification of version 1::

    {"stepflow":"run","version":1,"run":"run_…","workflow":"checkout","masked":2,"sha256":"…"}
    {"payload":17,"value":{"amount":5}}
    {"t":"run.started","lsn":12,"r":"run_…","rs":1,…}
    …

The first line is the head; `sha256` is over all bytes behind its line break. Then come the payloads
of events by the LSN that the run's records name them with, then the records as they stand in the
journal, in order. A reader takes members and record types it does not know for none of its
business, and refuses another `version`.

Secrets are masked (masking.py), `masked` says how many values. The hash of a step's arguments could
tell a short secret to whoever tries all there are; so where anything is masked all those hashes are
left empty, and a replay of the file goes by step keys and functions alone.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.errors import ExportedRunError
from stepflow.model.masking import Masking
from stepflow.model.run import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CAPSULE_VERSION", "Capsule", "make_capsule", "read_capsule"]

CAPSULE_VERSION: Final = 1
_VALUES: Final = ("input", "result", "error", "payload", "value", "data", "message")
"""Members of records that hold what the author's code has made."""


class _Packed(msgspec.Struct):
    id: str
    records: list[msgspec.Raw]
    payloads: dict[str, msgspec.Raw] = {}


class _Head(msgspec.Struct):
    stepflow: str = ""
    version: int = 0
    run: str = ""
    workflow: str = ""
    masked: int = 0
    sha256: str = ""


class _Payload(msgspec.Struct):
    payload: int
    value: msgspec.Raw


class Capsule(msgspec.Struct, frozen=True):
    """An exported run."""

    run_id: str
    workflow: str
    masked: int
    records: tuple[bytes, ...]
    payloads: dict[int, bytes]

    def state(self, records: Iterable[bytes] | None = None) -> RunState:
        """Return the run that the records, all or those given, fold up to."""
        state = RunState(self.run_id)
        for data in self.records if records is None else records:
            state.fold_data(data, self.payloads.get)
        return state


_decode_packed = msgspec.json.Decoder(_Packed).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_payload = msgspec.json.Decoder(_Payload).decode


def make_capsule(line: bytes, names: Iterable[str] = ()) -> bytes:
    """Return the file of the run whose snapshot line is given, secrets masked."""
    packed = _decode_packed(line)
    masking = Masking(names)
    payloads = {lsn: masking.value(msgspec.json.decode(v)) for lsn, v in packed.payloads.items()}
    records = [_masked(msgspec.json.decode(raw), masking) for raw in packed.records]
    if masking.count:
        for record in records:
            if "args" in record:
                record["args"] = ""
    rows: list[Any] = [{"payload": int(lsn), "value": value} for lsn, value in payloads.items()]
    encode = msgspec.json.encode
    body = b"".join(b"%b\n" % encode(row) for row in [*rows, *records])
    workflow = str(records[0].get("workflow", "")) if records else ""
    head = {
        "stepflow": "run",
        "version": CAPSULE_VERSION,
        "run": packed.id,
        "workflow": workflow,
        "masked": masking.count,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return b"%b\n%b" % (encode(head), body)


def _masked(record: dict[str, Any], masking: Masking) -> dict[str, Any]:
    for name in _VALUES:
        if name in record:
            # A value that `ctx.random` gave has no name of its own, nor has an event's payload.
            record[name] = masking.value(record[name])
    return record


def read_capsule(data: bytes) -> Capsule:
    """Return the run that `make_capsule` wrote. Raises `ExportedRunError`."""
    first, _, body = data.partition(b"\n")
    try:
        head = _decode_head(first)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        head = _Head()
    if head.stepflow != "run":
        message = "this is no exported run: its first line does not say so"
        raise ExportedRunError(message)
    if head.version != CAPSULE_VERSION:
        message = (
            f"this run was exported as version {head.version}, known is {CAPSULE_VERSION}; "
            "replay it with the stepflow that wrote it, or a newer one"
        )
        raise ExportedRunError(message)
    if hashlib.sha256(body).hexdigest() != head.sha256:
        message = "the file is not what was exported: its checksum is another; export it again"
        raise ExportedRunError(message)
    lines = body.splitlines()
    payloads = [_decode_payload(line) for line in lines if line.startswith(b'{"payload":')]
    return Capsule(
        run_id=head.run,
        workflow=head.workflow,
        masked=head.masked,
        records=tuple(line for line in lines if not line.startswith(b'{"payload":')),
        payloads={row.payload: bytes(row.value) for row in payloads},
    )
