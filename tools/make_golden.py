"""Write `snapshots/<name>/`: a data directory as a killed process leaves it, and what it means.

Beside it: `<name>.expected.json`, its runs as a client sees them, `<name>.tables.json`, its
schedules and the audit, and `<name>.sha256`, the hash of all its runs' records. Run it where no
path says more than it should: errors hold them.

Run once for what no directory has yet, and commit the result; never change what is there: a
released format must be readable for ever. `python tools/make_golden.py snapshots/format-1-control`
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import golden_control
import golden_flow
import golden_keys
from golden_state import state_hash

from stepflow import Settings, Stepflow
from stepflow.engine.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_KIB = 1024


async def live(work: Path, settings: Settings) -> AsyncGenerator[Stepflow]:
    """Live the life of `format-1`, and yield the flow while its process still runs."""
    flow = Stepflow(work, settings=settings)
    golden_flow.register(flow)
    async with flow:
        engine = flow.engine
        assert isinstance(engine, LocalEngine)
        await flow.trigger("everything", {"id": "1"}, run_id="run_done00000000")
        await flow.notify("paid-1", {"amount": 12.5})
        await engine.wait("run_done00000000")
        await flow.trigger("fails", "no", run_id="run_failed000000")
        await engine.wait("run_failed000000")
        await flow.trigger("sleeps", run_id="run_sleeping0000")
        await flow.trigger("fails", "gone", run_id="run_purged000000")
        await engine.wait("run_purged000000")
        await engine.snapshot()
        await flow.purge("run_purged000000")
        await flow.trigger("waits", run_id="run_waiting00000", idempotency_key="golden")
        await flow.notify("kept", {"n": 1})
        await flow.notify("kept", {"n": 2})
        await flow.trigger("sleeps", run_id="run_cancelled000")
        await flow.cancel("run_cancelled000", "no longer needed")
        await engine.wait("run_cancelled000")
        await flow.trigger("times-out", run_id="run_timedout0000", delay=0.01)
        await engine.wait("run_timedout0000")
        await flow.trigger("retries", run_id="run_retrying0000")
        await flow.trigger("sleeps", run_id="run_delayed00000", delay="365d")
        async for event in flow.stream("run_retrying0000"):
            if b'"attempt":1' in event.data:
                break
        while (await flow.get_run("run_retrying0000")).state != "retrying":  # noqa: ASYNC110  a tool
            await asyncio.sleep(0.01)
        yield flow


LIVES = {
    "format-1": live,
    "format-1-control": golden_control.live,
    "format-1-keys": golden_keys.live,
}


async def main(target: Path) -> None:
    """Make the directory and what is beside it."""
    work = target.with_suffix(".work")
    settings = Settings(segment_bytes_first=16 * _KIB, segment_bytes_max=32 * _KIB)
    async for flow in LIVES[target.name](work, settings):
        expected: dict[str, Any] = {}
        for row in (await flow.list_runs(limit=100)).runs:
            view = await flow.get_run(row.id)
            expected[row.id] = json.loads(msgspec.json.encode(view))
        tables = {
            "schedules": await flow.engine.list_schedules(),
            "audit": (await flow.engine.audit(limit=100)).audit,
        }
        # Copied while the process runs: what kill -9 would leave.
        ignored = shutil.ignore_patterns(
            "LOCK", "RESERVE", "suspects.json", "*.tmp", "token.key", "marker"
        )
        shutil.copytree(work, target, ignore=ignored)
    shutil.rmtree(work)
    write(target, "expected.json", expected)
    write(target, "tables.json", json.loads(msgspec.json.encode(tables)))
    (target.parent / f"{target.name}.sha256").write_text(state_hash(target) + "\n")


def write(target: Path, what: str, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True)
    (target.parent / f"{target.name}.{what}").write_text(text + "\n")


if __name__ == "__main__":
    made = Path(sys.argv[1])
    if made.exists():
        sys.exit(f"{made} is there: nothing in it is ever changed")
    asyncio.run(main(made))
