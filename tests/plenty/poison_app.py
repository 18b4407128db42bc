"""A service with runs that take the process down, each in its own way, and one that goes on."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

from stepflow import Context, Stepflow

MEMORY_BYTES: Final = 3 << 30
MENDED: Final = Path(os.environ.get("MENDED", "/nonexistent"))

flow = Stepflow()


def leave() -> None:
    os._exit(9)


def fall() -> None:
    ctypes.string_at(0)


def shoot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def overflow() -> None:
    """Fill the stack of C, past what Python guards."""
    sys.setrecursionlimit(1 << 30)
    calls: list[Any] = []

    def again() -> None:
        calls[0]()

    calls.append(ctypes.CFUNCTYPE(None)(again))
    again()


def starve() -> None:
    """Take all memory, then do what libraries in C do when there is none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    libc: Any = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    while libc.malloc(64 << 20):
        pass
    libc.abort()


WAYS: Final = {f.__name__: f for f in (leave, fall, shoot, overflow, starve)}


async def in_the_loop(way: str) -> None:
    WAYS[way]()


@flow.workflow("poison")
async def poison(ctx: Context, told: dict[str, str]) -> str:
    way, where = told["way"], told["where"]
    # What wakes it must be on disk, or it would not be woken again.
    await ctx.sleep("nap", "500ms")
    if MENDED.exists():
        return "mended"
    if where == "body":
        WAYS[way]()
    if where == "loop":
        await ctx.step("die", in_the_loop, way)
    await ctx.step("die", WAYS[way])
    return "lived"


async def count(number: int) -> int:
    return number + 1


@flow.workflow("good", events=["enough"])
async def good(ctx: Context) -> int:
    number = 0
    while await ctx.wait_for_event("more", "enough", timeout="50ms", default="more") == "more":
        number = await ctx.step("count", count, number)
    return number


@flow.workflow("echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value
