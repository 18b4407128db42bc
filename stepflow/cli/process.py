"""What `serve` does to its own process, and an embedded engine never does to its host's."""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["harden", "tune_gc", "tune_malloc"]

_YOUNG_MAX = 100_000
"""More than 2,000 runs in flight hold (some 45 objects each): what they hold goes by counting, so
that the collector is left with true cycles. A tenth of it had it walk the same live runs over and
over: at 4,000 in flight a fifth of the loop's time and stops of 90 ms, where now it is a fortieth
and 25 ms; at 1,000 it does not stop at all."""


_LARGE = 256 * 1024
"""Bytes from which an allocation is a mapping of its own, given back the moment it is freed."""
_M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h."""


def tune_malloc() -> None:
    """Give the memory of large payloads back to the system when they go.

    glibc raises its threshold for mappings to the largest block that was ever freed, up to 32 MiB:
    from then on payloads of a megabyte lie in the heap, between small things that stay, and the
    holes are kept (mallopt(3), M_MMAP_THRESHOLD). Setting the threshold ends that. Another C
    library has no such call, or does not need it.
    """
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415  a millisecond, and only here

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)


def harden() -> None:
    """Make new files private, and leave no core file: it would hold keys and payloads."""
    os.umask(0o077)
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  not there on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def tune_gc() -> None:
    """Leave what was recovered out of collections, and collect less often.

    Run states are trees of plain values, freed by counting; the collector would only walk them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, 20, 50)
