"""The tables of docs/capacity.md: what `cluster.py` measured, and what `capacity.py` computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.capacity import (
    COSTS_AT,
    DEPLOYMENTS,
    IN_FLIGHT_EACH,
    LOCAL,
    ONE,
    WORKERS,
    Costs,
    costs,
    deployment,
    local_runs_per_s,
    median,
    with_workers,
)
from benchmarks.cells import NOT_YET, Figures, latency, number, spread, table

if TYPE_CHECKING:
    from collections.abc import Callable

_SCRIPT: Final = "cluster"
_AT: Final = str(COSTS_AT)


def _cpu_ms(pace: dict[str, Any]) -> float:
    """Return the processor time of a run, all of it."""
    return sum(median(pace, "run", f"{who}_cpu_ms") for who in ("worker", "api", "database"))


def _cores(pace: dict[str, Any]) -> float:
    """Return how many cores a contestant had: what its runs took, by how many there were."""
    return float(pace["median"]) * _cpu_ms(pace) / 1e3


def rates(figures: Figures) -> str:
    """Return who does how many runs a second, and how long one takes."""
    if _SCRIPT not in figures:
        return NOT_YET
    of = figures[_SCRIPT]
    cells = [
        (
            name,
            spread(its["1"]),
            latency(its["1"]),
            spread(its[_AT]),
            latency(its[_AT]),
            number(_cores(its[_AT])),
            number(1e3 / _cpu_ms(its[_AT])),
            *(
                " / ".join(number(its[n][ratio]["median"]) for n in ("1", _AT))
                for ratio in ("to_local", "one_process_to_it")
            ),
        )
        for name, its in of["contestants"].items()
    ]
    head = (
        "runs of three steps a second",
        "1 in flight",
        "p50 / p99 ms",
        f"{_AT} in flight",
        "p50 / p99 ms",
        "cores it had then",
        "for each core",
        f"of the local engine, at 1 / {_AT}",
        "one process on PostgreSQL is so many times it",
    )
    said = (
        f"{of['repeats']} repeats of {of['seconds_each']} s each, at a load of the machine of "
        f"{of['taken']['machine']['load_before']}: this one's processes, and what else ran."
    )
    left_out = "".join(f" {name}: not measured, {why}." for name, why in of["left_out"].items())
    versions = ", ".join(f"{name} {version}" for name, version in of["peers"].items())
    return f"{table(head, cells)}\n\n{said} {versions}.{left_out}"


_COSTS: Final = (
    ("worker_cpu_ms", "CPU ms of the workers"),
    ("api_cpu_ms", "of the caller"),
    ("database_cpu_ms", "of the database"),
    ("writing_transactions", "transactions that write"),
    ("transactions", "all transactions"),
    ("wal_bytes", "bytes of WAL"),
)


def run_costs(figures: Figures) -> str:
    """Return what a run costs each contestant, and what it holds meanwhile."""
    if _SCRIPT not in figures:
        return NOT_YET
    cells = [
        (
            name,
            *(_cost(its[_AT]["run"], cost) for cost, _ in _COSTS),
            *(
                number(its["held"][held]["median"]) if held in its["held"] else ""
                for held in ("connections", "worker_memory_mib", "database_memory_mib")
            ),
        )
        for name, its in figures[_SCRIPT]["contestants"].items()
    ]
    head = (f"a run of three steps, {_AT} in flight", *(title for _, title in _COSTS))
    held = ("connections", "MiB a worker", "MiB of the database")
    return table((*head, *held), cells)


def step_costs(figures: Figures) -> str:
    """Return what one more step costs."""
    if _SCRIPT not in figures:
        return NOT_YET
    cells = [
        (name, *(_cost(its["step"], cost) for cost, _ in _COSTS if cost != "api_cpu_ms"))
        for name, its in figures[_SCRIPT]["contestants"].items()
        if "step" in its
    ]
    titles = tuple(title for cost, title in _COSTS if cost != "api_cpu_ms")
    return table((f"one more step, {_AT} in flight", *titles), cells)


def _cost(of: dict[str, Any], name: str) -> str:
    return spread(of[name]) if of[name]["max"] else ""


def workers(figures: Figures) -> str:
    """Return how the engine on PostgreSQL grows with workers, at work and at rest."""
    if _SCRIPT not in figures:
        return NOT_YET
    contestants = figures[_SCRIPT]["contestants"]
    shown = ("worker_cpu_ms", "api_cpu_ms", "database_cpu_ms", "writing_transactions")
    cells = [
        (
            str(n),
            number(in_flight),
            spread(its[place]),
            latency(its[place]),
            *(number(median(its, place, "run", cost)) for cost in shown),
            number(median(its, "held", "connections")),
            *(number(median(its, "idle", f"{who}_cpu_ms")) for who in ("worker", "database")),
        )
        for place in (_AT, "each")
        for n in WORKERS
        if (its := contestants.get(with_workers(n)))
        for in_flight in (COSTS_AT if place == _AT else n * IN_FLIGHT_EACH,)
    ]
    head = (
        "workers",
        "in flight",
        "runs a second",
        "p50 / p99 ms",
        "CPU ms a run, all workers",
        "caller",
        "database",
        "transactions that write",
        "connections",
        "at rest, a second: CPU ms of all workers",
        "of the database",
    )
    return table(head, cells)


def bounds(figures: Figures) -> str:
    """Return how far each resource carries, each engine."""
    if _SCRIPT not in figures:
        return NOT_YET
    of = figures[_SCRIPT]
    names = [
        name
        for name in (LOCAL, ONE, *(with_workers(n) for n in WORKERS))
        if name in of["contestants"]
    ]

    def a_core(cost: str) -> Callable[[str], str]:
        def carries(name: str) -> str:
            ms = median(of["contestants"][name], _AT, "run", cost)
            return number(1e3 / ms) if ms else ""

        return carries

    def commits(in_flight: str) -> Callable[[str], str]:
        def counted(name: str) -> str:
            count = median(of["contestants"][name], in_flight, "run", "writing_transactions")
            return number(count) if count else ""

        return counted

    rows: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("a core of a worker carries, runs a second", a_core("worker_cpu_ms")),
        ("a core of the database", a_core("database_cpu_ms")),
        ("a core of an API process", a_core("api_cpu_ms")),
        ("writing transactions of a run, 1 in flight", commits("1")),
        (f"the same, {_AT} in flight", commits(_AT)),
    )
    cells = [(title, *(value(name) for name in names)) for title, value in rows]
    return table(("", *(name.removeprefix("stepflow, ") for name in names)), cells)


def capacity(figures: Figures) -> str:
    """Return what larger deployments carry: computed."""
    if _SCRIPT not in figures:
        return NOT_YET
    of = costs(figures[_SCRIPT])
    cells = []
    for total, databases in DEPLOYMENTS:
        planned = deployment(of, total, databases)
        cells.append(
            (
                f"{total:,}",
                f"{databases:,}",
                number(round(planned.each, 1)),
                number(planned.runs_per_s),
                number(planned.api_processes),
                number(planned.database_cores),
                number(planned.writing_transactions_per_s),
                number(planned.wal_mib_per_s),
                f"{planned.connections:,}",
            )
        )
    head = (
        "computed: workers",
        "databases",
        "workers each",
        "runs a second, all",
        "API processes, all",
        "each database: cores",
        "writing transactions a second",
        "WAL MiB a second",
        "connections",
    )
    return f"{_lines(of)}\n\n{table(head, cells)}"


def _lines(of: Costs) -> str:
    parts = [
        f"{what} {number(line.base)} + {number(line.slope)} · k"
        for what, line in (
            ("worker CPU", of.worker_ms),
            ("API CPU", of.api_ms),
            ("database CPU", of.database_ms),
        )
    ]
    worker, api = of.connections.slope, of.connections.base
    return (
        f"With k workers on a database, a run costs, in ms: {'; '.join(parts)}. It writes "
        f"{number(of.wal_bytes.at(1))} bytes of WAL at k = 1. A worker has {number(worker)} "
        f"connections, an API process {number(api)}; each connection takes "
        f"{number(of.connection_mib)} MiB of the database's memory. One local engine, as busy as "
        f"a worker, carries {number(local_runs_per_s(of))} runs a second."
    )


BLOCKS: Final[dict[str, Callable[[Figures], str]]] = {
    "cluster": rates,
    "cluster-costs": run_costs,
    "cluster-steps": step_costs,
    "cluster-workers": workers,
    "capacity-bounds": bounds,
    "capacity": capacity,
}
