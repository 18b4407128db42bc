"""Every script runs in its short form, and gives each figure that is published."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as bench
from benchmarks import results
from benchmarks.catalog import BY_NAME, QUICK
from benchmarks.report import ROOT
from benchmarks.rows import missing


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in QUICK if name != "soak"])  # test_soak.py
def test_a_script_gives_what_is_published(name):
    assert missing(name, bench.run(name, 1, quick=True)) == []


def test_a_script_that_crashes_is_told_and_the_others_are_kept(tmp_path, monkeypatch, capsys):
    def run(name, repeats, *, quick):
        if name == "start":
            raise subprocess.CalledProcessError(3, name)
        return {"calls_per_run_1": 1}

    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(bench.compare, "report", lambda kept: "compared")
    out = tmp_path / "results.json"
    monkeypatch.setattr(
        sys, "argv", ["bench", "start", "instructions", "--quick", "--out", str(out)]
    )
    assert bench.main() == 1
    assert "start FAILED: it ended with status 3" in capsys.readouterr().out
    assert set(json.loads(out.read_bytes())[results.QUICK]) == {"instructions"}


def test_kept_results_are_added_to_and_the_tables_follow(tmp_path, monkeypatch):
    path, written = tmp_path / "results.json", []
    monkeypatch.setattr(results, "RESULTS", path)
    monkeypatch.setattr(bench.table, "write", lambda: written.append(True))
    monkeypatch.setattr(bench, "run", lambda name, repeats, *, quick: {"calls_per_run_1": 1})
    results.write({"figures": {"soak": {"taken": {}}}, "quick": {}}, path)
    monkeypatch.setattr(sys, "argv", ["bench", "instructions", "--keep"])
    assert bench.main() == 0
    assert set(json.loads(path.read_bytes())["figures"]) == {"soak", "instructions"}
    assert written


def test_all_is_every_script_but_the_soak_and_then_the_short_forms(monkeypatch, tmp_path):
    taken = []
    monkeypatch.setattr(
        bench,
        "take",
        lambda kept, out, name, repeats, *, quick: taken.append((name, quick)),
    )
    monkeypatch.setattr(bench.compare, "report", lambda kept: "compared")
    monkeypatch.setattr(sys, "argv", ["bench", "--all", "--out", str(tmp_path / "r.json")])
    assert bench.main() == 0
    assert {name for name, quick in taken if not quick} == set(BY_NAME) - {"soak"}
    assert [name for name, quick in taken if quick] == list(QUICK)


def test_an_unknown_name_is_refused():
    command = [sys.executable, "-m", "benchmarks", "no_such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no benchmark no_such; there are in_process" in done.stderr
