"""The hot path does not get longer unnoticed: what a run costs is counted, not timed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CEILINGS = {
    "instructions_per_run_64": 10_880,
    "calls_per_run_64": 405,
    "instructions_per_run_1": 19_200,
    "calls_per_run_1": 785,
}
"""Some two per cent above what `python -m benchmarks.instructions --quick` shows on CPython 3.11.

Below them there is nothing to do but to lower them; above, the table that it prints says by which
function.
"""


TO_BARE_LOOP = 0.24
"""Of the processor's instructions: a bare loop's over ours, 64 in flight.

As `python -m benchmarks.machine_instructions --quick` shows them: 0.246 on CPython 3.11, 0.256
on 3.12 and 3.13.
"""


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython",
    reason="platform: the ceilings are those of CPython 3.11's bytecode",
)
@pytest.mark.timeout(300)
def test_a_run_of_three_steps_takes_no_more_instructions_than_it_did(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.instructions", "--quick", "--json", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    figures = json.loads(out.read_bytes())
    over = {name: figures[name] for name, most in CEILINGS.items() if figures[name] > most}
    assert not over, json.dumps(figures["by_function"], indent=1)


@pytest.mark.skipif(
    sys.implementation.name != "cpython"
    or shutil.which("valgrind") is None
    or (shutil.which("cc") or shutil.which("gcc")) is None,
    reason="platform: counts by valgrind and a C compiler",
)
@pytest.mark.timeout(300)
def test_a_run_takes_no_more_of_the_processor_beside_a_bare_loop_than_it_did(
    tmp_path: Path,
) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.machine_instructions"]
    command += ["--quick", "--json", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=280)
    figures = json.loads(out.read_bytes())
    if "needs" in figures:
        pytest.skip(f"platform: {figures['needs']}")
    assert figures["bare_to_ours_64"] >= TO_BARE_LOOP, figures
