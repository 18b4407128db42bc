"""The tests that pytest marks as torture, one after another for as long as there is time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).resolve().parents[2]
MARK: Final = "pytest.mark.torture"
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-m", "torture", "-p", "no:cacheprovider")


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Run them in an order from `seed`. What time does not suffice for is said, not failed."""
    until = time.monotonic() + seconds
    tests = collected()
    random.Random(seed).shuffle(tests)
    passed = 0
    for number, test in enumerate(tests):
        left_s = until - time.monotonic()
        say(f"{passed} of {len(tests)} passed: {test}")
        printed = run_one(test, left_s) if left_s > 0 else None
        if printed is None:
            say(f"no time for {len(tests) - number} of {len(tests)}")
            break
        passed += 1
    return {"cases": passed}


def collected() -> list[str]:
    """Return the ids of all marked tests."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    # To import every test takes long, and few are marked.
    files = [path for path in paths if MARK in path.read_text(encoding="utf-8")]
    if not files:
        return []
    printed = subprocess.run(
        [*PYTEST, "--collect-only", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # 5: there is none after all.
    assert printed.returncode in {0, 5}, printed.stdout + printed.stderr
    return sorted(line for line in printed.stdout.splitlines() if "::" in line)


def run_one(test: str, seconds: float) -> str | None:
    """Run a test and return what it printed, or None when its time is over before its end."""
    command = [*PYTEST, f"--timeout={seconds + 60}", test]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, f"{test}\n{printed[-6000:]}"
    return printed
