"""Whatever a test does, the run of all tests ends, names what hung, leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)

CONFTEST: Final = """
import tests.hang_guard
tests.hang_guard.GRACE_S = 1.0
from tests.conftest import *
"""


def run_pytest(directory: Path, tests: str, cut_when: Path | None = None) -> str:
    """Run the tests as `make test` does, on two workers; return what was printed."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_made_up.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-q"]
    command += ["--rootdir", directory, "-p", "no:cacheprovider", "-o", f"pythonpath={ROOT}"]
    command += ["-n", "2", "--dist", "loadgroup", "--max-worker-restart", "0", directory]
    return bounded(*map(str, command), cut_when=cut_when)


def bounded(*command: str, cut_when: Path | None = None) -> str:
    """Run the command under tools/bounded.py; return its output with the exit status at the end.

    The time given is over as soon as the file `cut_when` is there.
    """
    full = [sys.executable, "-m", "tools.bounded", "200", "made up", "--", *command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    process = subprocess.Popen(
        full, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        if cut_when is not None:
            while not cut_when.exists():
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.1)
            process.terminate()
        printed, _ = process.communicate(timeout=230)
    finally:
        process.kill()
        process.wait()
    return f"{printed}\nstatus {process.returncode}"


def living(mark: str) -> list[str]:
    """The command lines of living processes that hold the mark."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in words:
            found.append(words)
    return found


def test_a_test_that_hangs_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    tests = """
import threading, pytest
@pytest.mark.timeout(1)
def test_hangs(): threading.Event().wait()
def test_next(): pass
"""
    printed = run_pytest(tmp_path, tests)
    assert "1 failed, 1 passed" in printed
    assert "Timeout (>1.0s) from pytest-timeout" in printed


def test_a_run_whose_worker_had_to_be_ended_ends_and_names_the_test(tmp_path: Path) -> None:
    # A wait in C that no signal interrupts, with the interpreter's lock held.
    tests = """
import ctypes, subprocess, pytest
from tests.served import doomed
def test_before(): pass
@pytest.mark.timeout(1)
def test_hangs_in_c():
    subprocess.Popen(doomed(["sleep", "600"]), start_new_session=True)
    c, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)
@pytest.mark.parametrize("n", range(20))
def test_after(n): pass
"""
    printed = run_pytest(tmp_path, tests)
    assert "crashed while running 'test_made_up.py::test_hangs_in_c'" in printed
    assert "in test_hangs_in_c" in printed, "the stacks name the line"
    assert "status 1" in printed
    assert "left behind" not in printed, "its server has ended with it"


def test_at_the_end_of_its_time_a_phase_names_the_test_that_was_running(tmp_path: Path) -> None:
    mark = tmp_path / "running"
    tests = f"""
import pathlib, time
def test_slow():
    pathlib.Path({str(mark)!r}).touch()
    time.sleep(600)
"""
    printed = run_pytest(tmp_path, tests, cut_when=mark)
    assert "made up: not done after" in printed
    assert re.search(r"gw\d has been in test_made_up.py::test_slow for", printed)
    assert "in test_slow" in printed, "the stacks name the line"
    assert "status 124" in printed


def test_what_a_command_leaves_running_is_named_and_killed(tmp_path: Path) -> None:
    mark = str(tmp_path / "left")
    # In a session of its own, its parent gone, deaf to what is asked kindly, holding the output.
    server = f"import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600); {mark!r}"
    script = f'setsid "{sys.executable}" -c "$1" & sleep 1; echo "{mark}-is-not-it"; exit 3'
    printed = bounded("bash", "-c", script, "bash", server)
    assert "made up: left behind:" in printed
    assert "status 3" in printed
    assert living(mark) == []
