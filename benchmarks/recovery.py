"""Records a second from a killed process's journal to an engine that serves.

The directory holds finished runs of three steps and runs that wait, and no snapshot, so every
record is replayed. Beside it, in turn: reading and parsing the same records, and nothing else.
Each measurement is a fresh process on a fresh copy, in a warm page cache.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

from benchmarks.report import ROOT, arguments, data_directory, finish, ratios, spread
from benchmarks.workload import INPUT, flow
from stepflow.config import Settings
from stepflow.engine.local import LocalEngine
from stepflow.journal.frame import frame_records
from stepflow.journal.reader import SegmentReader
from stepflow.journal.segment import SEGMENT_HEADER_BYTES, SegmentHeader

NO_SNAPSHOT = Settings(snapshot_wal_bytes=2**62, snapshot_interval_s=1e9)
_AT_ONCE = 500


def engine(directory: str) -> LocalEngine:
    return LocalEngine(flow.registry, directory, settings=NO_SNAPSHOT)


async def fill(directory: str, finished: int, waiting: int) -> None:
    """Make the directory, and die without a word."""
    running = engine(directory)
    await running.start()
    body = json.dumps(INPUT).encode()
    for begin in range(0, finished, _AT_ONCE):
        count = min(_AT_ONCE, finished - begin)
        for run_id in await running.trigger_many("w1", [body] * count):
            await running.wait(str(run_id))
    await running.trigger_many("parked", [body] * waiting)
    while running.metrics()["stepflow_event_waiters"] < waiting:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.05)
    os._exit(0)


async def recover(directory: str) -> dict[str, float]:
    """Start an engine on the directory; return records and seconds."""
    running = engine(directory)
    began = time.perf_counter()
    await running.start()
    took = time.perf_counter() - began
    return {"records": running.sup.journal.last_lsn, "seconds": took}


def read_only(directory: str) -> dict[str, float]:
    """Read and parse all records of the directory."""
    count = 0
    began = time.perf_counter()
    for path in sorted(Path(directory).glob("wal-*.log")):
        data = path.read_bytes()
        header = SegmentHeader.decode(data[:SEGMENT_HEADER_BYTES])
        if header is None:
            raise RuntimeError(f"{path} has no header")
        for frame in SegmentReader(data, header):
            for record in frame_records(data, frame):
                orjson.loads(record)
                count += 1
    return {"records": count, "seconds": time.perf_counter() - began}


def in_a_process(what: str, directory: Path, *numbers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.recovery", what, str(directory)]
    done = subprocess.run(
        [*command, *map(str, numbers)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return dict(json.loads(done.stdout or "{}"))


def measure(directory: Path, repeats: int, finished: int, waiting: int) -> dict[str, Any]:
    made = directory / "made"
    in_a_process("fill", made, finished, waiting)
    recovered: list[float] = []
    seconds: list[float] = []
    read: list[float] = []
    records = 0
    for number in range(repeats):
        seen = in_a_process("read", made)
        records = int(seen["records"])
        read.append(records / seen["seconds"])
        copy = directory / f"copy-{number}"
        shutil.copytree(made, copy)
        seen = in_a_process("recover", copy)
        recovered.append(records / seen["seconds"])
        seconds.append(seen["seconds"])
        shutil.rmtree(copy)
    return {
        "records": records,
        "journal_mib": round(_used(made) / 2**20, 1),
        "seconds": spread(seconds, 3),
        "records_per_s": spread(recovered),
        "read_records_per_s": spread(read),
        "to_reading": ratios(recovered, read),
    }


def _used(directory: Path) -> int:
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in directory.glob("wal-*.log"))


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] in {"fill", "recover", "read"}:
        _child(sys.argv[1], sys.argv[2], [int(number) for number in sys.argv[3:]])
        return
    options = arguments("Recovery beside reading the same records")
    finished, waiting = (1000, 100) if options.quick else (20_000, 2_000)
    with data_directory() as directory:
        figures = measure(directory, options.repeats, finished, waiting)
    facts = {"finished_runs": finished, "waiting_runs": waiting, "gc": "as Python has it"}
    finish(facts | figures, options.json)


def _child(what: str, directory: str, numbers: list[int]) -> None:
    if what == "fill":
        uvloop.run(fill(directory, numbers[0], numbers[1]))
    seen = uvloop.run(recover(directory)) if what == "recover" else read_only(directory)
    print(json.dumps(seen), flush=True)
    # Like a crash: what a clean stop takes is not recovery's.
    os._exit(0)


if __name__ == "__main__":
    main()
