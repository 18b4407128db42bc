"""Kills from outside, one after the other, on one data directory: `kills.py DATA KILLS SEED`.

Each life is a child that this process forks, so that it costs no import, and kills at a random
moment after each of its runs has made progress in it: none may ever be taken for what kills. When
all kills are done one more life runs everything to its end.

The report, one JSON object on standard output: `kills`, `named` (how many deaths left a mark of
running code, so that there was somebody to suspect), `aside` (runs that were set aside), `runs`
(triggered and acknowledged), `wrong` (whose result is not what it must be).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from stepflow import Context, Settings, Stepflow
from stepflow.journal.marker import read_marker
from stepflow.log import configure_logging

STEPS: Final = 120
LIVE: Final = 12
LIFE_S: Final = (0.0, 0.3)
PROGRESS: Final = 4
"""So many more calls show that steps have ended, not only begun."""
READY_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


async def wait_a_moment(number: int) -> int:
    await asyncio.sleep(0.004)
    return number + 1


def work_a_moment(number: int) -> int:
    ends = time.monotonic() + 0.002
    while time.monotonic() < ends:
        pass
    return number + 1


def a_flow(data: Path) -> Stepflow:
    flow = Stepflow(data, settings=Settings(snapshot_wal_bytes=200_000))

    @flow.workflow("counts")
    async def counts(ctx: Context) -> int:
        number = 0
        while number < STEPS:
            number = await ctx.step("wait", wait_a_moment, number)
            number = await ctx.step("work", work_a_moment, number)
            await ctx.sleep("nap", "1ms")
        return number

    return flow


async def live(data: Path, tell: int) -> None:
    """Keep so many runs alive until killed; tell of each that was acknowledged."""
    flow = a_flow(data)
    async with flow:
        begun: dict[str, int] = {}
        told = False
        while True:
            page = await flow.list_runs(status=["running"], limit=200)
            for view in page.runs:
                steps = (await flow.get_run(view.id)).steps
                now = len(steps) if isinstance(steps, list) else 0
                if now >= begun.setdefault(view.id, now) + PROGRESS:
                    begun[view.id] = -PROGRESS
            for _ in range(LIVE - len(page.runs)):
                run = await flow.trigger("counts")
                os.write(tell, f"{run.id}\n".encode())
            live = [begun.get(view.id, 0) < 0 for view in page.runs]
            if not told and len(live) == LIVE and all(live):
                told = True
                os.write(tell, b"ready\n")
            await asyncio.sleep(0.02)


def be_killed(data: Path, tell: int) -> None:
    """One life, in a child that dies with its parent at the latest."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(int(READY_S) * 2)
    try:
        asyncio.run(live(data, tell))
    finally:
        os._exit(70)


def one_life(data: Path, seconds: float) -> list[str]:
    """Begin a life and kill it so many seconds after it was ready; return what it told."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        be_killed(data, write)
    os.close(write)
    told = b""
    try:
        while b"ready\n" not in told:
            piece = os.read(read, 4096)
            assert piece, "a life ended before it was ready"
            told += piece
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    while piece := os.read(read, 65536):
        told += piece
    os.close(read)
    return [line for line in told.decode().split("\n")[:-1] if line != "ready"]


async def to_the_end(data: Path, runs: list[str]) -> dict[str, Any]:
    """Let all that was ever acknowledged end; return the runs that are aside, or wrong."""
    flow = a_flow(data)
    aside: list[str] = []
    wrong: list[str] = []
    async with flow:
        for run_id in runs:
            view = await flow.get_run(run_id)
            if view.state == "quarantined":
                aside.append(run_id)
                continue
            await flow.engine.wait(run_id)
            view = await flow.get_run(run_id)
            if json.loads(bytes(view.result or b"null")) != STEPS:
                wrong.append(run_id)
    return {"aside": aside, "wrong": wrong}


def main(data: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill so often; return the report."""
    dice = random.Random(seed)
    runs: list[str] = []
    named = 0
    for _ in range(kills):
        runs += one_life(data, dice.uniform(*LIFE_S))
        named += bool(read_marker(data / "marker"))
    end = asyncio.run(to_the_end(data, runs))
    return {"kills": kills, "named": named, "runs": len(runs)} | end


if __name__ == "__main__":
    configure_logging("console", "error", sys.stderr)
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201
