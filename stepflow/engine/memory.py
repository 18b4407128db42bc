"""How much memory the process holds, where the system says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from stepflow.model.system import MemoryFigures

__all__ = ["memory"]

_STATUS: Final = Path("/proc/self/status")
_KIB: Final = 1024


def memory() -> MemoryFigures:
    """Return the resident set of the process, now and at most."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return MemoryFigures(rss_bytes=None, rss_max_bytes=_most_bytes())
    found = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
    return MemoryFigures(rss_bytes=_bytes(found, "VmRSS"), rss_max_bytes=_bytes(found, "VmHWM"))


def _bytes(found: dict[str, str], name: str) -> int | None:
    text = found.get(name, "").removesuffix("kB").strip()
    return int(text) * _KIB if text.isdecimal() else None


def _most_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    # Where there is no /proc: macOS counts in bytes, the others in KiB.
    import resource  # noqa: PLC0415  not there on every system

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * _KIB
