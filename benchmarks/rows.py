"""The published figures, a row each: where it stands in its script's results, and beside what.

A place is a name, or names with dots (`sizes.1000.run_us`, `step_us.-1`). It holds a number or what
`report.spread` makes. A script whose results lack a row's place has failed.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.capacity import ABSURD, COSTS_AT, DBOS, LOCAL, ONE, WORKERS, with_workers

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One published figure; `$name` in its label is a fact of the script."""

    script: str
    label: str
    figure: str
    beside: str = ""
    yardstick: str = ""
    ratio: str = ""
    unit: str = "a second"
    goal: str = ""
    less_is_better: bool = False
    headline: bool = False
    """Stands in the README too."""
    optional: bool = False
    """May be missing: another engine could not be started, or the short form has no such size."""


def at(figures: Figures, place: str) -> Any:
    """Return what stands at the place; raise LookupError where nothing does."""
    found: Any = figures
    for name in place.split("."):
        found = found[int(name)] if isinstance(found, list) else found[name]
    return found


def label(row: Row, figures: Figures) -> str:
    """Return the row's label with the script's facts in it."""
    facts = {name: f"{value:,}" for name, value in figures.items() if type(value) is int}
    return string.Template(row.label).safe_substitute(facts)


def spread_at(figures: Figures, place: str) -> dict[str, float]:
    """Return min, median and max at the place; of a single number that number."""
    found = at(figures, place)
    if isinstance(found, dict):
        return {name: found[name] for name in ("min", "median", "max")}
    return {"min": found, "median": found, "max": found}


def missing(script: str, figures: Figures) -> list[str]:
    """Return the places that the rows name and the results lack."""
    lacking = []
    for row in ROWS:
        if row.script != script or row.optional:
            continue
        for place in filter(None, (row.figure, row.yardstick, row.ratio)):
            try:
                spread_at(figures, place)
            except (LookupError, TypeError):
                lacking.append(place)
    return lacking


ROWS: Final = (
    *(
        Row(
            "in_process",
            f"runs of three steps, {n:,} in flight",
            f"runs_per_s_{n}",
            f"a bare loop, {what}",
            f"bare_{name}_per_s_{n}",
            f"runs_{n}_to_bare_{name}",
            goal=goal,
            headline=name == "task",
        )
        for n, goal in ((1, "1"), (64, "0.5"), (1000, "0.5"))
        for name, what in (("task", "a task a run"), ("send", "driven by `send`"))
    ),
    Row(
        "http_triggers",
        "durable triggers over HTTP, 64 connections",
        "trigger_per_s",
        "bare Starlette JSON echo",
        "echo_per_s",
        "trigger_to_echo",
        goal="0.55",
        headline=True,
    ),
    Row(
        "http_triggers",
        "`GET /runs/{runId}`, 64 connections",
        "get_run_per_s",
        "bare Starlette GET",
        "plain_get_per_s",
        "get_run_to_plain_get",
        goal="0.8",
        headline=True,
    ),
    Row("http_triggers", "runs behind these triggers, to their end", "runs_per_s"),
    *(
        Row(
            "http_guard",
            f"requests through the guard, {what}",
            f"{name}_per_s",
            "uvicorn's own protocol",
            f"{name}_bare_per_s",
            f"{name}_to_bare",
        )
        for name, what in (
            ("one_connection", "1 connection"),
            ("many_connections", "64 connections"),
            ("with_body", "64 connections, a body of 1 KB"),
        )
    ),
    Row(
        "fan_out",
        "events delivered to $subscribers subscribers, one by one",
        "delivered_per_s",
        "plain ASGI `send`",
        "plain_delivered_per_s",
        "to_plain",
        goal="0.9",
        headline=True,
    ),
    Row(
        "fan_out",
        "the same, a burst of $burst_events events",
        "burst_delivered_per_s",
        "plain ASGI `send`",
        "plain_burst_delivered_per_s",
        "burst_to_plain",
        headline=True,
    ),
    *(
        Row(
            "fan_out",
            f"events delivered to {count}, one by one",
            f"{place}delivered_per_s",
            beside,
            f"{place}{name}_delivered_per_s",
            f"{place}to_{name}",
            goal=goal,
            # 5,000 are not in the quick form; sse-starlette is where `make sse-env` put it.
            optional=True,
        )
        for count, place, name, beside, goal in (
            ("5,000", "at_5000.", "plain", "plain ASGI `send`", "0.9"),
            ("1,000", "", "sse", "sse-starlette", "2"),
            ("5,000", "at_5000.", "sse", "sse-starlette", "2"),
        )
    ),
    Row(
        "recovery",
        "records recovered ($records of them)",
        "records_per_s",
        "reading and parsing alone",
        "read_records_per_s",
        "to_reading",
        headline=True,
    ),
    Row(
        "start",
        "`import stepflow`",
        "import_ms",
        "importing asyncio and msgspec",
        "needed_import_ms",
        "import_to_needed",
        unit="ms",
        less_is_better=True,
    ),
    Row(
        "start",
        "`stepflow serve`, an empty directory, until it answers",
        "serve_ready_ms",
        "a bare Starlette app on uvicorn",
        "echo_ready_ms",
        "serve_to_echo",
        unit="ms",
        less_is_better=True,
    ),
    *(
        Row(
            "tail",
            f"{label}, {meanwhile}",
            f"{how}_{place}_ms",
            "the same load alone",
            f"alone_{place}_ms",
            f"{place}_{how}_to_alone",
            unit="ms",
            less_is_better=True,
            headline=how == "busy" and place != "stall_cpu",
        )
        for how, meanwhile in (
            ("busy", "while snapshots, sleepers and $subscribers subscribers go on"),
            ("recovering", "while $recovered_runs recovered runs go on"),
        )
        for place, label in (
            ("trigger_p999", "p99.9 of a trigger"),
            ("step_p999", "p99.9 of a step"),
            ("stall", "the loop's longest stall"),
            ("stall_cpu", "the loop's longest stall by its own processor time"),
        )
    ),
    *(
        Row(
            "history",
            f"{what}, the last tenth of $count",
            f"{name}_us.-1",
            "the first tenth",
            f"{name}_us.0",
            f"{name}_last_tenth_to_first",
            unit="µs of CPU time",
            less_is_better=True,
        )
        for name, what in (("step", "a step of one run"), ("wake", "a wake-up of one run"))
    ),
    Row(
        "scale",
        "memory a waiting run beside its payload, 1,000,000 of them",
        "sizes.1000000.bytes_a_run",
        unit="bytes",
        goal="600 at most",
        less_is_better=True,
        headline=True,
        optional=True,
    ),
    Row(
        "scale",
        "the loop's longest stall while 1,000,000 runs are put into a snapshot",
        "sizes.1000000.snapshot_stall_ms",
        "without a snapshot",
        "sizes.1000000.stall_without_ms",
        unit="ms",
        goal="20 at most",
        less_is_better=True,
        headline=True,
        optional=True,
    ),
    *(
        Row(
            "peers",
            f"runs of three steps {how}, {n} in flight",
            f"contestants.{ours}.{n}",
            peer,
            f"contestants.{peer}.{n}",
            f"contestants.{peer}.{n}.{ratio}",
            goal=goal,
            headline=n == 64,
            optional=True,
        )
        for how, ours, ratio, peer, goals in (
            ("in process", "stepflow", "ours_to_it", "DBOS, SQLite", ("15", "200")),
            ("in process", "stepflow", "ours_to_it", "Restate over HTTP", ("4", "20")),
            (
                "over HTTP",
                "stepflow over HTTP",
                "ours_over_http_to_it",
                "Restate over HTTP",
                ("5", "10"),
            ),
        )
        for n, goal in zip((1, 64), goals, strict=True)
    ),
    *(
        Row(
            "cluster",
            f"runs of three steps on PostgreSQL, one process, {n} in flight",
            f"contestants.{ONE}.{n}",
            peer,
            f"contestants.{peer}.{n}",
            f"contestants.{its}.{n}.{ratio}",
            # Another engine is where `make peers-env` put it.
            optional=peer != LOCAL,
        )
        for n in (1, 64)
        for peer, its, ratio in (
            (LOCAL, ONE, "to_local"),
            (ABSURD, ABSURD, "one_process_to_it"),
            (DBOS, DBOS, "one_process_to_it"),
        )
    ),
    *(
        Row(
            "cluster",
            f"{what}, a run of three steps on PostgreSQL with {workers} workers",
            f"contestants.{with_workers(workers)}.{COSTS_AT}.run.{cost}",
            unit="ms of CPU time",
            less_is_better=True,
            # The short form has two workers at most.
            optional=workers > 2,
        )
        for workers in WORKERS[1:]
        for cost, what in (("worker_cpu_ms", "workers"), ("database_cpu_ms", "the database"))
    ),
)
