from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.report import ROOT
from benchmarks.soak import flatness


def rows(count, **grow):
    base = {"p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 4.0, "cpu_us_a_run": 200.0}
    base |= {"rss_mib": 100.0, "disk_mib": 10.0}
    return [{name: v + grow.get(name, 0.0) * n for name, v in base.items()} for n in range(count)]


def test_what_does_not_change_is_flat():
    flat = flatness(rows(60), 60)
    assert flat["rss_slope_mib_an_hour"] == 0
    assert {v for k, v in flat.items() if k.endswith("_to_first")} == {1.0}


def test_memory_that_grows_a_mebibyte_a_minute_grows_sixty_an_hour():
    assert flatness(rows(60, rss_mib=1.0), 60)["rss_slope_mib_an_hour"] == pytest.approx(60)


def test_what_fills_up_in_the_first_quarter_is_no_slope():
    stretches = rows(60)
    for n in range(15):
        stretches[n]["rss_mib"] = 40.0 + 4 * n
    assert flatness(stretches, 60)["rss_slope_mib_an_hour"] == 0


def test_latency_that_grows_shows_in_the_last_quarter():
    assert flatness(rows(60, p99_ms=0.1), 60)["p99_ms_last_quarter_to_first"] > 2


def test_less_than_four_stretches_say_nothing():
    assert flatness(rows(3), 60) == {}


@pytest.mark.slow
def test_a_short_soak_writes_its_stretches_and_how_flat_they_are(tmp_path):
    to = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.soak", "--seconds", "1", "--json", str(to)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads(to.read_bytes())
    assert len(figures["stretches"]) == 4
    assert all(row["runs"] for row in figures["stretches"])
    assert {"rss_slope_mib_an_hour", "p99_ms_last_quarter_to_first"} <= set(figures["flat"])
    assert figures["rate_per_s"] == pytest.approx(figures["peak_per_s"] / 2, abs=1)
