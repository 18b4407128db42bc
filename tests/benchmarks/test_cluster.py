"""One process and many: what is measured, what is computed from it, and the tables of both."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import __main__ as bench
from benchmarks import capacity, cluster, cluster_tables, meters
from benchmarks.rows import missing
from tools.postgres import programs


def one(value):
    return {"min": value, "median": value, "max": value}


def contestant(*, worker=4.0, api=1.0, database=2.0, connections=20.0):
    """Return figures of a contestant as the script shows them."""
    run = {
        "worker_cpu_ms": one(worker),
        "api_cpu_ms": one(api),
        "database_cpu_ms": one(database),
        "transactions": one(9.0),
        "writing_transactions": one(5.0),
        "wal_bytes": one(4096.0),
    }
    rate = one(100.0) | {
        "p50_ms": one(10.0),
        "p99_ms": one(20.0),
        "to_local": one(0.5),
        "one_process_to_it": one(2.0),
        "run": run,
    }
    return {
        "1": rate,
        "64": rate,
        "each": rate,
        "held": {
            "worker_memory_mib": one(60.0),
            "connections": one(connections),
            "database_memory_mib": one(50.0 + 3.0 * connections),
        },
        "step": run,
        "idle": run,
    }


def figures(**contestants):
    """Return the script's figures, k workers costing the database k ms a run."""
    seen = {
        capacity.with_workers(n): contestant(database=float(n), connections=10.0 + 10.0 * n)
        for n in capacity.WORKERS
    }
    return {
        "taken": {"machine": {"load_before": 1.5}},
        "repeats": 3,
        "seconds_each": 2.0,
        "peers": {"dbos": "2.0"},
        "left_out": {capacity.DBOS: "not there"},
        "contestants": {capacity.LOCAL: contestant(api=0.0, database=0.0)} | seen | contestants,
    }


# ------------------------------------------------------------------------ what is computed


def test_the_line_goes_through_points_that_lie_on_one():
    found = capacity.line([(1, 3.0), (2, 5.0), (4, 9.0), (8, 17.0)])
    assert found.at(0) == pytest.approx(1.0)
    assert found.at(100) == pytest.approx(201.0)


def test_what_falls_with_more_workers_is_taken_as_level():
    found = capacity.line([(1, 4.0), (2, 2.0)])
    assert found == capacity.Line(3.0, 0.0)


def test_one_point_is_level():
    assert capacity.line([(2, 5.0)]) == capacity.Line(5.0, 0.0)


def test_workers_bind_and_the_rest_is_what_keeps_up_with_them():
    of = capacity.costs(figures())
    # A worker of 4 ms a run at 70 % does 175 a second.
    alone = capacity.deployment(of, 1, 1)
    assert alone.runs_per_s == pytest.approx(175.0)
    # 1 ms of the database each, its cores at 70 % too.
    assert alone.database_cores == pytest.approx(0.25)
    assert alone.writing_transactions_per_s == pytest.approx(875.0)
    assert alone.wal_mib_per_s == pytest.approx(175 * 4096 / 2**20)
    # Ten a worker, and ten of the one API process.
    assert alone.api_processes == 1
    assert alone.connections == 20


def test_databases_add_up_and_each_knows_its_own_workers_only():
    of = capacity.costs(figures())
    eight, many = capacity.deployment(of, 8, 1), capacity.deployment(of, 1_000, 125)
    assert many.each == 8
    assert many.runs_per_s == pytest.approx(125 * eight.runs_per_s)
    assert many.database_cores == pytest.approx(eight.database_cores)
    assert many.connections == eight.connections
    # All on one: what each run costs the database has grown with them.
    assert capacity.deployment(of, 1_000, 1).database_cores > 1_000 * eight.database_cores


def test_what_a_connection_takes_and_what_the_local_engine_carries():
    of = capacity.costs(figures())
    assert of.connection_mib == pytest.approx(3.0)
    assert capacity.local_runs_per_s(of) == pytest.approx(175.0)


# ------------------------------------------------------------------------ tables


def test_the_tables_say_what_was_measured_and_who_was_left_out():
    of = {"cluster": figures()}
    said = cluster_tables.rates(of)
    assert "| stepflow, local | 100 | 10 / 20 | 100 | 10 / 20 | 0.4 | 250 |" in said
    assert "3 repeats of 2.0 s each, at a load of the machine of 1.5" in said
    assert "DBOS, PostgreSQL: not measured, not there." in said
    assert "| 4 | 128 | 100 | 10 / 20 | 4 | 1 | 4 | 5 | 50 |" in cluster_tables.workers(of)
    # With k workers the database takes k ms: a core of it 1000, 500, 250, 125 runs a second.
    assert "| a core of the database |  | 1,000 | 500 | 250 | 125 |" in cluster_tables.bounds(of)


@pytest.mark.parametrize("name", list(cluster_tables.BLOCKS))
def test_a_table_is_there_with_figures_and_says_so_without(name):
    block = cluster_tables.BLOCKS[name]
    assert "| --- |" in block({"cluster": figures()})
    assert block({}) == "Not measured yet."


# ------------------------------------------------------------------------ meters


def test_processor_time_is_that_of_a_process_and_of_the_children_that_it_had():
    # Both work until they have used so much of it themselves: ticks are coarse.
    work = "import time\nwhile time.process_time() < 0.2: pass"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", f"{child}\n{work}\nprint(1, flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.pid in meters.children(os.getpid())
        alone = meters.cpu_s([process.pid])
        assert alone > 0.1
        assert meters.family_cpu_s(process.pid) > alone + 0.1
        assert meters.memory_mib([process.pid]) > 1
        process.communicate()
    assert meters.cpu_s([process.pid]) == 0
    assert meters.memory_mib([process.pid]) == 0


def test_a_reading_less_the_one_before_is_what_was_used_between():
    before, after = meters.Reading(1, 1, 1, 1, 1, 1), meters.Reading(2, 3, 4, 5, 6, 7)
    assert list(after.since(before).values()) == [1, 2, 3, 4, 5, 6]


# ------------------------------------------------------------------------ what is measured


def seen_of(rate):
    used = {"runs": rate, "seconds": 1.0, "p50_ms": 1.0, "p99_ms": 2.0, "worker_cpu_s_a_run": 0.002}
    return {"1": used, "64": used, "each": used, "held": {"connections": 3.0}}


def test_another_engine_that_cannot_be_started_is_left_out_and_ours_never_is(monkeypatch):
    broken = {cluster.DBOS}

    def measured(who, plan):
        if who.name in broken:
            raise RuntimeError("did not come up\nand more")
        return seen_of(10)

    monkeypatch.setattr(cluster, "measured", measured)
    seen, left_out = cluster.measure(cluster.QUICK, 2)
    assert left_out == {cluster.DBOS: "did not come up"}
    assert cluster.DBOS not in seen
    assert len(seen[cluster.ABSURD]) == 2
    assert cluster.with_workers(8) not in seen
    broken.add(cluster.ONE)
    with pytest.raises(RuntimeError):
        cluster.measure(cluster.QUICK, 1)


def test_ratios_are_repeat_by_repeat_and_processor_time_is_in_milliseconds():
    seen = {cluster.LOCAL: [seen_of(80)], cluster.ONE: [seen_of(40)], "it": [seen_of(10)]}
    shown = cluster.shown("it", seen)
    assert shown["64"]["to_local"]["median"] == 0.125
    assert shown["64"]["one_process_to_it"]["median"] == 4.0
    assert shown["64"]["run"]["worker_cpu_ms"]["median"] == 2.0
    assert shown["each"]["median"] == 10


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_short_form_gives_what_is_published():
    if programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    found = bench.run("cluster", 1, quick=True)
    assert missing("cluster", found) == []
    ours = found["contestants"][capacity.with_workers(2)]["64"]["run"]
    assert all(ours[f"{who}_cpu_ms"]["median"] > 0 for who in ("worker", "api", "database"))
    # A start, three steps and an end, many of them in one.
    assert 0 < ours["writing_transactions"]["median"] < 50
    assert ours["wal_bytes"]["median"] > 1000
