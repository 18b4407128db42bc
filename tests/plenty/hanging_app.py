"""A service whose disk hangs while the file that `HANG` names is there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from stepflow import Context, Stepflow
from stepflow.journal import disk

DISK: Any = disk
_hang = Path(os.environ["HANG"])
_sync = DISK._fdatasync
BOUND_S = 60.0


def _fdatasync(fd: int) -> None:
    ends = time.monotonic() + BOUND_S
    while _hang.exists() and time.monotonic() < ends:
        time.sleep(0.02)
    _sync(fd)


DISK._fdatasync = _fdatasync
flow = Stepflow()


@flow.workflow("echo")
async def echo(ctx: Context, value: Any) -> Any:
    return value
