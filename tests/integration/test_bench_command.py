"""`stepflow bench` measures this disk with the installed package, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.cli_kit import PROGRAM, environment, run_cli

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("--seconds", "0.05", "--rounds", "1")


def test_it_prints_a_table_beside_the_disks_own_rate_and_leaves_nothing(tmp_path: Path) -> None:
    done = run_cli("bench", *QUICK, "--in-flight", "1", "--in-flight", "8", cwd=tmp_path)
    assert done.code == 0, done.err
    heading, one, eight, *_, note = done.out.splitlines()
    assert "disk syncs/s" in heading
    assert (one.split()[0], eight.split()[0]) == ("1", "8")
    assert one.endswith("%")
    assert "four a run" in note
    # In a pipe: no colours, and no progress.
    assert "\x1b" not in done.out
    assert "\r" not in done.out
    assert done.err == ""
    assert list(tmp_path.iterdir()) == []


def test_as_json_it_says_how_it_was_taken(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    done = run_cli("bench", "disk", *QUICK, "--in-flight", "4", "--json", cwd=tmp_path)
    report = json.loads(done.out)
    (row,) = report["rows"]
    assert report["directory"] == str(tmp_path / "disk")
    assert report["loop"] in {"uvloop", "asyncio"}
    assert (report["rounds"], report["seconds"], row["inFlight"]) == (1, 0.05, 4)
    assert row["runsPerS"] > 0
    assert row["syncsPerS"] > 0
    assert 0 < row["p50Ms"] <= row["p99Ms"]
    assert row["leastRunsPerS"] <= row["runsPerS"] <= row["mostRunsPerS"]
    # A run's records are on disk by the figures it is measured with.
    assert 0 < row["syncsPerRun"] <= 5
    assert row["ratio"] == pytest.approx(4 * row["runsPerS"] / row["syncsPerS"])
    assert list((tmp_path / "disk").iterdir()) == []


def test_one_run_at_a_time_takes_four_syncs(tmp_path: Path) -> None:
    done = run_cli(
        "bench", "--seconds", "0.5", "--rounds", "1", "--in-flight", "1", "--json", cwd=tmp_path
    )
    (row,) = json.loads(done.out)["rows"]
    assert 3.5 < row["syncsPerRun"] < 4.6


def test_in_a_terminal_it_says_what_it_does(tmp_path: Path) -> None:
    main, side = pty.openpty()
    said: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(main, 1000):
                said.append(data)
        except OSError:
            pass  # the other side has closed

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    done = subprocess.run(
        [*PROGRAM, "bench", *QUICK, "--in-flight", "2"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=side,
        check=True,
    )
    os.close(side)
    reader.join(30)
    os.close(main)
    assert b"2 in flight: round 1 of 1" in b"".join(said)
    assert b"round" not in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "there is no directory nowhere"),
        (["--in-flight", "0"], "--in-flight"),
        (["--seconds", "0"], "--seconds"),
    ],
)
def test_what_cannot_be_measured_is_wrong_usage(tmp_path: Path, words, said) -> None:
    done = run_cli("bench", *words, cwd=tmp_path)
    assert done.code in {2, 64}
    assert said in done.err
