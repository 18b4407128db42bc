"""Run one part in a process, hear what it says, and end it and all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from tools import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.torture.parts import Part

ROOT: Final = Path(__file__).resolve().parents[2]
STACKS_S: Final = 2.0

Verdict = Literal["passed", "failed", "hung", "crashed"]


@dataclass(slots=True)
class Outcome:
    """What became of a part."""

    part: str
    seed: int
    asked_s: float
    took_s: float = 0.0
    verdict: Verdict = "crashed"
    counts: dict[str, int] = field(default_factory=dict[str, int])
    why: str = ""
    log: str = ""
    left: list[str] = field(default_factory=list[str])

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """What a part's process tells (tests/torture/child.py)."""

    say: str | None = None
    counts: dict[str, int] | None = None
    failed: str | None = None
    left: list[str] = []


async def run_part(
    part: Part,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
    *,
    logs: Path,
    grace_s: float = 60.0,
) -> Outcome:
    """Run the part; it is ended as hung when `grace_s` more than its `seconds` have gone."""
    log = logs / f"{part.name}-{seed}.log"
    outcome = Outcome(part.name, seed, seconds, log=str(log.relative_to(logs.parent)))
    scratch = tempfile.mkdtemp(prefix=f"torture-{part.name}-")
    started = time.monotonic()
    reader, writer = os.pipe()
    with log.open("wb") as output:
        arguments = [part.module, str(seconds), str(seed), str(writer)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *["-m", "tests.torture.child", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": _python_path(), "TMPDIR": scratch},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=[writer],
            start_new_session=True,
        )
    os.close(writer)
    hearing = asyncio.ensure_future(_hear(reader, outcome, say))
    try:
        async with asyncio.timeout(seconds + grace_s):
            await process.wait()
    except TimeoutError:
        outcome.verdict, outcome.why = "hung", f"no end {grace_s:.0f} s after its time"
        processes.send(process.pid, signal.SIGUSR1)
        await asyncio.sleep(STACKS_S)
    finally:
        if process.returncode is None:
            await asyncio.to_thread(_end, process.pid)
            await process.wait()
        # A grandchild may still hold the pipe, so its end is not waited for.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hearing, 5)
    outcome.took_s = time.monotonic() - started
    # A rate cannot be added to another: the report makes its own. Seeds are those of worlds.
    left_out = {name for name in outcome.counts if name.endswith("_per_hour")}
    left_out |= set() if part.many else {"seeds"}
    outcome.counts = {name: n for name, n in outcome.counts.items() if name not in left_out}
    _judge(outcome, process.returncode)
    if outcome.passed:
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        outcome.why += f"\nwhat it left: {scratch}"
    return outcome


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])


def _end(pid: int) -> None:
    """End what lives below the process, and it. A process that ended by itself has done so."""
    all_of_it = [process for process in processes.below(os.getpid()) if process.pid == pid]
    processes.end([*all_of_it, *processes.below(pid)])


async def _hear(fd: int, outcome: Outcome, say: Callable[[str], None]) -> None:
    stream = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: protocol, os.fdopen(fd, "rb")
    )
    try:
        async for line in stream:
            _take(msgspec.json.decode(line, type=Message), outcome, say)
    finally:
        transport.close()


def _take(message: Message, outcome: Outcome, say: Callable[[str], None]) -> None:
    if message.say is not None:
        say(message.say)
    if message.counts is not None:
        outcome.counts = message.counts
        outcome.verdict = "passed"
    if message.failed is not None:
        outcome.why, outcome.verdict = message.failed, "failed"
    outcome.left += message.left


def _judge(outcome: Outcome, status: int | None) -> None:
    """Hold the verdict against what was counted and how the process ended."""
    if outcome.verdict == "crashed":
        outcome.why = f"its process ended with status {status} and said nothing"
    if not outcome.passed:
        return
    counts = outcome.counts
    broken = [f"{counts[name]:,} {name}" for name in ("lost", "violations") if counts.get(name)]
    found, planted = counts.get("planted_found", 0), counts.get("planted_total", 0)
    if found < planted:
        broken.append(f"{planted - found} of {planted} planted bugs were not found")
    if status != 0:
        broken.append(f"exit status {status}")
    if broken:
        outcome.verdict, outcome.why = "failed", ", ".join(broken)
