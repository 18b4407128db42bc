"""What every figure is published with: where it was taken, on what, how durable, how it spread."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
WORK: Final = ROOT / "build" / "bench"
PACKAGES: Final = (
    "stepflow",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
)
DURABILITY: Final = (
    "strict: every answer, step result and event waits for fdatasync of the journal "
    "(group commit, one writer thread, preallocated segments)"
)


def arguments(description: str) -> argparse.Namespace:
    """Return `--quick`, `--repeats` and `--json` of a script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="short: shows that it works")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args()


def finish(figures: dict[str, Any], to: Path | None) -> None:
    """Print the figures; write them for whoever started the script."""
    text = json.dumps(figures, indent=2)
    print(text)
    if to is not None:
        to.write_text(text + "\n", encoding="utf-8")


def spread(values: Sequence[float], digits: int = 0) -> dict[str, Any]:
    """Return min, median and max of one figure's repeats, and the repeats."""
    short = [_rounded(value, digits) for value in values]
    middle = _rounded(statistics.median(values), digits)
    return {"min": min(short), "median": middle, "max": max(short), "values": short}


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) if digits else round(value)


def ratios(over: Sequence[float], under: Sequence[float]) -> dict[str, Any]:
    """Return the spread of one figure over its yardstick, repeat by repeat."""
    return spread([a / b for a, b in zip(over, under, strict=True)], 3)


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@contextmanager
def data_directory() -> Iterator[Path]:
    """Give a directory on the project's own file system: /tmp may be memory."""
    WORK.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=WORK))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def surroundings() -> dict[str, Any]:
    """Return machine, versions and commit."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "kernel": platform.release().partition("-")[0],
            "file_system": _file_system(),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "commit": _git("rev-parse", "--short", "HEAD"),
        # Results that were just written are no change to what is measured.
        "changed_since": bool(
            _git("status", "--porcelain", "--", "stepflow", "benchmarks", ":!benchmarks/*.json")
        ),
        "durability": DURABILITY,
    }


def collector() -> str:
    """Return the collector's settings in this process."""
    return f"thresholds {gc.get_threshold()}, {gc.get_freeze_count()} objects frozen"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _file_system() -> str:
    """Return the type of the file system that `WORK` is on."""
    WORK.mkdir(parents=True, exist_ok=True)
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split()
        if WORK.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
