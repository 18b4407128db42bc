"""A second reader of a data directory, written from the format's description alone.

`python -m tests.recovery.reference_replayer DIRECTORY [--url URL --key KEY]`

It imports nothing of Stepflow. Newest whole snapshot, then every frame from its base on, chained by
their checksums, folded into runs: status, input, result, and the steps that have a result. Where
the two readers differ, one of them has misunderstood the format. With `--url` each run is compared
with what that server says of it; a difference is an exit with 1.

::

    segment  512 bytes: magic, format u16, min_reader u16, flags u32, store u64, first LSN u64,
             chain u32, size u64, zeros, crc32 in the last four; then frames
    frame    32 bytes: "SFB1", body u32, records u32, pad u32, first LSN u64, crc32 of those 24,
             crc32 of the 28 before and of body and pad, seeded with the frame before's
    body     records, each behind its length u32
    snapshot JSON lines: head, rows with the LSN that each includes, sums, a foot with the sha256
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Replayed", "Run", "differences", "replay", "replay_directory"]

_SEGMENT: Final = re.compile(r"wal-(\d{20})\.log")
_SNAPSHOT: Final = re.compile(r"snap-(\d{20})\.jsonl")
_ENDS: Final = {
    "run.completed": "completed",
    "run.failed": "failed",
    "run.cancelled": "cancelled",
}
_ACTS: Final = frozenset({"run.cancelling", "run.paused", "run.resumed", "run.retried"})
_BEGINS: Final = frozenset(
    {"step.started", "sleep.started", "wait.started", "child.started", "notify.sent"}
)


@dataclass
class Run:
    """What is told of a run, from its records alone."""

    workflow: str = ""
    status: str = "pending"
    input: Any = None
    result: Any = None
    steps: dict[str, Any] = field(default_factory=dict[str, Any])
    """Results by step key."""
    open: list[str] = field(default_factory=list[str])
    """Keys that were asked for and have no result."""
    lsn: int = 0
    records: int = 0
    acts: list[int] = field(default_factory=list[int])
    """LSNs of what operators did to it, oldest first."""
    places: dict[int, str] = field(default_factory=dict[int, str])
    """LSN of a result to the key that it stands under."""


@dataclass
class Replayed:
    """A data directory, read."""

    lsn: int = 0
    base: int = 1
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    payloads: dict[int, Any] = field(default_factory=dict[int, Any])
    gone: dict[str, int] = field(default_factory=dict[str, int])

    def sha256(self) -> str:
        """Return a fingerprint of all runs."""
        rows = {run_id: asdict(run) for run_id, run in self.runs.items()}
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------- files


def replay_directory(path: Path) -> Replayed:
    """Read a directory that nobody writes."""
    return replay({file.name: file.read_bytes() for file in path.iterdir() if file.is_file()})


def replay(files: Mapping[str, bytes]) -> Replayed:
    """Fold files by name. Raises `ValueError` where the newest good data is not whole."""
    done = Replayed()
    snapshots = sorted((name for name in files if _SNAPSHOT.fullmatch(name)), reverse=True)
    for name in snapshots:
        rows = _snapshot_rows(files[name])
        if rows is not None:
            done.base = int(name[5:25])
            for _, row in rows:
                _fold_row(done, row)
            break
    segments = sorted(name for name in files if _SEGMENT.fullmatch(name))
    needed = [name for name in segments if int(name[4:24]) >= done.base]
    if needed and int(needed[0][4:24]) != done.base:
        raise ValueError(f"the journal of lsn {done.base} on is missing")
    done.lsn = done.base - 1
    chain: int | None = None
    for name in needed:
        chain = _fold_segment(done, name, files[name], chain)
    return done


def _snapshot_rows(data: bytes) -> list[tuple[int, Any]] | None:
    """Return the rows of a whole snapshot, None for one that is not."""
    body, _, foot = data.removesuffix(b"\n").rpartition(b"\n")
    try:
        told = json.loads(foot)
        if told["k"] != "foot" or told["sha256"] != hashlib.sha256(body + b"\n").hexdigest():
            return None
        lines = [json.loads(line) for line in body.split(b"\n")]
    except (ValueError, KeyError, TypeError):
        return None
    rows = [(line["lsn"], line["v"]) for line in lines if line["k"] == "row"]
    return rows if len(rows) == told["lines"] else None


def _fold_segment(done: Replayed, name: str, data: bytes, chain: int | None) -> int:
    """Fold a segment's frames; return the checksum of the last one."""
    if crc32(data[:508]) != struct.unpack_from("<I", data, 508)[0]:
        raise ValueError(f"{name}: its header is damaged")
    first_lsn, before = struct.unpack_from("<QI", data, 24)
    if first_lsn != done.lsn + 1 or (chain is not None and before != chain):
        raise ValueError(f"{name} does not follow lsn {done.lsn}")
    chain = int(before)
    at = 512
    while (frame := _frame(data, at, done.lsn + 1, chain)) is not None:
        records, at, chain = frame
        for record in records:
            done.lsn += 1
            _fold_record(done, done.lsn, json.loads(record))
    return chain


def _frame(data: bytes, at: int, lsn: int, chain: int) -> tuple[list[bytes], int, int] | None:
    """Return the records of the frame at an offset, where it ends, and its checksum."""
    if len(data) < at + 32 or data[at : at + 4] != b"SFB1":
        return None
    body, count, pad, first, head_crc, crc = struct.unpack_from("<IIIQII", data, at + 4)
    end = at + 32 + body + pad
    if crc32(data[at : at + 24]) != head_crc or first != lsn or end > len(data):
        return None
    if crc32(data[at + 32 : end], crc32(data[at : at + 28], chain)) != crc:
        return None
    records = list(_records(data[at + 32 : at + 32 + body]))
    return (records, end, crc) if len(records) == count else None


def _records(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        (size,) = struct.unpack_from("<I", body, at)
        yield body[at + 4 : at + 4 + size]
        at += 4 + size


# ---------------------------------------------------------------- runs


def _fold_row(done: Replayed, row: Any) -> None:
    kind = row.get("k")
    if kind == "gone":
        done.gone[row["id"]] = row["lsn"]
    elif kind == "run":
        payloads = {int(lsn): value for lsn, value in row.get("payloads", {}).items()}
        for record in row["records"]:
            _fold(done, record, payloads)


def _fold_record(done: Replayed, lsn: int, record: Any) -> None:
    """Take a record of the journal, unless a row includes it already."""
    kind, run_id = record["t"], record.get("r", "")
    if record["lsn"] != lsn:
        raise ValueError(f"record {lsn} says that it is {record['lsn']}")
    if kind == "event.received":
        done.payloads[lsn] = record["payload"]
    elif kind == "run.purged":
        done.runs.pop(run_id, None)
        done.gone[run_id] = lsn
    elif run_id and lsn > done.gone.get(run_id, 0):
        run = done.runs.get(run_id)
        if run is None or lsn > run.lsn:
            _fold(done, record, done.payloads)


def _fold(done: Replayed, record: Any, payloads: Mapping[int, Any]) -> None:
    run = done.runs.setdefault(record["r"], Run())
    run.lsn, run.records = record["lsn"], run.records + 1
    kind = record["t"]
    if kind in _ACTS or (kind == "run.cancelled" and record.get("asked")):
        run.acts.append(record["lsn"])
    if kind == "run.started":
        run.workflow, run.input = record["workflow"], record["input"]
        run.status = "pending" if record.get("due") or record.get("held") else "running"
    elif kind == "run.restarted":
        # Whole in itself: what came before does not count any more.
        run.workflow, run.input, run.status = (
            record["started"]["workflow"],
            record["input"],
            "running",
        )
        run.steps, run.open, run.places = {}, [], {}
        run.acts = [act["lsn"] for act in record.get("acts", ())]
    elif kind == "run.released":
        run.status = "running"
    elif kind in _ENDS:
        run.status, run.result = _ENDS[kind], record.get("result")
    elif kind == "run.retried":
        run.status = "pending" if record.get("held") else "running"
        for key in [*record.get("again", ()), *record.get("forget", ())]:
            _take_back(run, key)
    elif kind == "call.adopted":
        _move(run, record)
    elif "key" in record:
        _fold_call(run, record, payloads)


def _fold_call(run: Run, record: Any, payloads: Mapping[int, Any]) -> None:
    """One of the run's calls began or has its result."""
    key, kind = record["key"], record["t"]
    if kind in _BEGINS and key not in run.open:
        run.open.append(key)
    results: dict[str, Callable[[], Any]] = {
        "step.completed": lambda: record["result"],
        "sleep.ended": lambda: None,
        "wait.resolved": lambda: payloads[record["payload"]],
        "child.ended": lambda: record.get("result"),
        "notify.sent": lambda: record["count"],
    }
    started_only = kind == "child.started" and not record.get("awaited", True)
    ends = kind in results or started_only
    # A child that failed or was cancelled ends the call that awaited it without a result.
    if ends and "error" not in record:
        run.steps[key] = record["child"] if started_only else results[kind]()
        run.places[record["lsn"]] = key
    if ends or kind in {"step.failed", "wait.timed-out"}:
        run.open.remove(key)


def _take_back(run: Run, key: str) -> None:
    """A retry of the run lets a call be made once more, as if it had not been asked for."""
    run.steps.pop(key, None)
    if key in run.open:
        run.open.remove(key)


def _move(run: Run, record: Any) -> None:
    """A call takes a result that was recorded under another key."""
    key, old = record["key"], run.places.pop(record["of"], None)
    if old is None:
        return
    found = run.steps.pop(old)
    if key in run.steps:
        # What stood there may still be adopted; until then its key says where its result lies.
        (place,) = (lsn for lsn, told in run.places.items() if told == key)
        run.places[place] = f"{key}@{place}"
        run.steps[run.places[place]] = run.steps.pop(key)
    run.steps[key] = found
    run.places[record["lsn"]] = key


# ---------------------------------------------------------------- a server's word


def differences(done: Replayed, run_id: str, shown: Mapping[str, Any]) -> list[str]:
    """Return in what a run, as the HTTP API shows it, is not what its records say."""
    run = done.runs[run_id]
    steps = {s["key"]: s.get("result") for s in shown["steps"] if s["status"] == "completed"}
    pairs = {
        "workflow": (run.workflow, shown["workflowId"]),
        "status": (run.status, shown["status"]),
        "input": (run.input, shown["input"]),
        "result": (run.result, shown.get("result")),
        "steps": (run.steps, steps),
    }
    return [
        f"{run_id}: {what} is {told!r} on disk, {said!r} by HTTP"
        for what, (told, said) in pairs.items()
        if told != said
    ]


def compare(done: Replayed, url: str, key: str) -> list[str]:
    """Return every difference between the directory and what a server on it says."""
    wrong: list[str] = []
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as http:
        for run_id in done.runs:
            answer = http.get(f"/runs/{run_id}")
            if answer.status_code == 200:
                wrong += differences(done, run_id, answer.json())
            else:
                wrong.append(f"{run_id} is on disk; GET gives {answer.status_code}")
    return wrong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="reference_replayer")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--key", default="")
    options = parser.parse_args(arguments)
    done = replay_directory(options.directory)
    wrong = compare(done, options.url, options.key) if options.url else []
    report = {
        "lsn": done.lsn,
        "runs": len(done.runs),
        "records": sum(run.records for run in done.runs.values()),
        "sha256": done.sha256(),
        "differences": wrong[:20],
    }
    print(json.dumps(report))  # noqa: T201  its one output
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
