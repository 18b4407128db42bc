"""The service that the fault tests break: `stepflow serve tests/faults/app.py`.

Each step says on a side channel, `STEP_LOG`, that it ran and when, by both clocks. The journal is
not asked: so a step that ran again after its end was told is found by somebody else. `UNSAFE` turns
one promise off, for the tests that show that the others would notice.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from stepflow import Context, Stepflow, current_step
from stepflow.journal import disk

if TYPE_CHECKING:
    from collections.abc import Callable

flow = Stepflow()
_LOG = os.open(os.environ["STEP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

_pwrite = os.pwrite


def _late_pwrite(descriptor: int, data: bytes, offset: int) -> int:
    """Write a moment after it was said to be written."""
    copy = os.dup(descriptor)

    def write() -> None:
        _pwrite(copy, data, offset)
        os.close(copy)

    threading.Timer(0.05, write).start()
    return len(data)


def _nothing(*_: Any) -> None:
    pass


def _replace(owner: Any, name: str, other: Callable[..., Any]) -> None:
    setattr(owner, name, other)


match os.environ.get("UNSAFE"):
    case "late-write":
        _replace(os, "pwrite", _late_pwrite)
    case "never-sync":
        # What is said to be on disk is in the page cache, and no further.
        _replace(disk, "_fdatasync", _nothing)
    case "no-sync-before-serving":
        # Nor the way past the cache, for which the kernel writes back what is in it.
        _replace(disk.RealDisk, "sync", _nothing)
        _replace(disk.RealDisk, "forget", _nothing)
    case _:
        pass


def _ran() -> None:
    info = current_step()
    now = f"{time.monotonic():.6f} {time.time():.6f}"
    os.write(_LOG, f"{now} {info.run_id} {info.key} {info.attempt}\n".encode())


async def double(n: int) -> int:
    _ran()
    return n * 2


def threaded(n: int) -> int:
    _ran()
    return n * 2


@flow.workflow("tiny")
async def tiny(ctx: Context, n: int) -> int:
    """Two steps, one in a thread."""
    return await ctx.step("last", threaded, await ctx.step("first", double, n))


@flow.workflow("inbox", events=["mail-{id}"])
async def inbox(ctx: Context, box: dict[str, str]) -> list[Any]:
    """Keep each letter, until one says that it is the end."""
    letters: list[Any] = []
    while not letters or letters[-1] != "end":
        letters.append(await ctx.wait_for_event("mail", f"mail-{box['id']}", timeout=None))
    return letters


@flow.workflow("nap")
async def nap(ctx: Context, seconds: float) -> int:
    """Sleep, then run a step."""
    await ctx.sleep("nap", seconds)
    return await ctx.step("awake", double, 1)


async def dawdle(seconds: float) -> bool:
    _ran()
    await asyncio.sleep(seconds)
    return True


@flow.workflow("slow")
async def slow(ctx: Context, seconds: float) -> bool:
    """One step that takes so long."""
    return await ctx.step("dawdle", dawdle, seconds)


async def blob(size: int) -> str:
    return "x" * size


@flow.workflow("big")
async def big(ctx: Context, size: int) -> int:
    """Keep a result of so many bytes."""
    return len(await ctx.step("blob", blob, size))
