"""What a client was told, one JSON object a line, on disk before the client goes on.

A line is one write to a file opened for appending, so whoever reads the file at any moment reads
whole lines and perhaps a begun one at the end, which is left out. `synced` returns when all that
was noted is on disk; all who ask while a sync runs share the next one. Knows nothing of Stepflow.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Ledger", "read_ledger"]


class Ledger:
    """An append-only file of facts."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._running: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    def note(self, kind: str, **fields: Any) -> None:
        """Add one fact; it is on disk when a `synced` that follows returns."""
        row = {"k": kind, "at": round(time.monotonic(), 6), **fields}
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        written = os.write(self._fd, line)
        assert written == len(line), "the ledger's own disk is full"

    async def synced(self) -> None:
        """Return when all that was noted is on disk."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._sync_after(self._running))
        await asyncio.shield(self._next)

    async def _sync_after(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        # Whoever asks from here on may have noted something that this sync misses.
        self._running, self._next = self._next, None
        await asyncio.to_thread(os.fdatasync, self._fd)

    async def close(self) -> None:
        """Sync a last time and give the file back."""
        await self.synced()
        os.close(self._fd)


def read_ledger(path: Path, nbytes: int | None = None) -> list[dict[str, Any]]:
    """Return the facts in the first `nbytes` of the file; a begun last line is left out."""
    data = path.read_bytes()[:nbytes]
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
