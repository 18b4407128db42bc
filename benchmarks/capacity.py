"""What deployments carry, computed from what `cluster.py` measured: lines, and divisions.

A cost that more workers on one database raise is taken as a straight line through what 1, 2, 4
and 8 of them cost (least squares, never falling). A deployment is so many databases with so many
workers each, runs spread evenly; nothing is shared between databases, so their rates add up. Every
core is planned to be busy for `BUSY` of the time. All of it is arithmetic: no such machine was
measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOCAL: Final = "stepflow, local"
ONE: Final = "stepflow, PostgreSQL, one process"
DBOS: Final = "DBOS, PostgreSQL"
ABSURD: Final = "Absurd, PostgreSQL"
WORKERS: Final = (1, 2, 4, 8)
COSTS_AT: Final = 64
IN_FLIGHT_EACH: Final = 32
"""Runs in flight for each worker, where what they cost is to be that of busy workers."""
BUSY: Final = 0.7
DEPLOYMENTS: Final = (
    *((workers, 1) for workers in (*WORKERS, 100)),
    *((100, databases) for databases in (13, 50)),
    *((1_000, databases) for databases in (10, 125, 500)),
)
"""Workers in all, and databases."""


def with_workers(count: int) -> str:
    """Return the name of the contestant with so many workers."""
    return f"stepflow, PostgreSQL, workers: {count}"


@dataclass(frozen=True, slots=True)
class Line:
    """A cost by the number of workers on one database."""

    base: float
    slope: float

    def at(self, workers: float) -> float:
        """Return the cost with so many workers."""
        return self.base + self.slope * workers


def line(points: Sequence[tuple[float, float]]) -> Line:
    """Return the line nearest to the points; level, where that would fall."""
    n = len(points)
    x, y = sum(p[0] for p in points) / n, sum(p[1] for p in points) / n
    across = sum((p[0] - x) ** 2 for p in points)
    slope = sum((p[0] - x) * (p[1] - y) for p in points) / across if across else 0.0
    slope = max(0.0, slope)
    return Line(y - slope * x, slope)


@dataclass(frozen=True, slots=True)
class Costs:
    """What one run of three steps costs, by the number of busy workers on its database."""

    worker_ms: Line
    api_ms: Line
    database_ms: Line
    writing_transactions: Line
    wal_bytes: Line
    connections: Line
    connection_mib: float
    """Memory of the database for one more connection."""
    local_ms: float
    """What it costs the local engine."""


def median(of: dict[str, Any], *place: str) -> float:
    """Return the median of the figure at the place."""
    for name in place:
        of = of[name]
    return float(of["median"])


def costs(cluster: dict[str, Any]) -> Costs:
    """Read them from the script's figures."""
    contestants = cluster["contestants"]
    seen = {n: contestants[with_workers(n)] for n in WORKERS if with_workers(n) in contestants}

    def through(read: Callable[[dict[str, Any]], float]) -> Line:
        return line([(n, read(of)) for n, of in seen.items()])

    def a_run(name: str) -> Line:
        return through(lambda of: median(of, "each", "run", name))

    return Costs(
        worker_ms=a_run("worker_cpu_ms"),
        api_ms=a_run("api_cpu_ms"),
        database_ms=a_run("database_cpu_ms"),
        writing_transactions=a_run("writing_transactions"),
        wal_bytes=a_run("wal_bytes"),
        connections=through(lambda of: median(of, "held", "connections")),
        connection_mib=line(
            [
                (median(of, "held", "connections"), median(of, "held", "database_memory_mib"))
                for of in seen.values()
            ]
        ).slope,
        local_ms=median(contestants[LOCAL], str(COSTS_AT), "run", "worker_cpu_ms"),
    )


def local_runs_per_s(of: Costs) -> float:
    """Return what one local engine carries, its core as busy as those of the workers."""
    return BUSY * 1e3 / of.local_ms


@dataclass(frozen=True, slots=True)
class Deployment:
    """So many workers on so many databases: what they carry, and what each database needs."""

    workers: int
    databases: int
    runs_per_s: float
    api_processes: int
    database_cores: float
    writing_transactions_per_s: float
    wal_mib_per_s: float
    connections: int

    @property
    def each(self) -> float:
        """Return the workers of one database."""
        return self.workers / self.databases


def deployment(of: Costs, workers: int, databases: int) -> Deployment:
    """Compute it, the workers being what binds: what the rest must have to keep up with them."""
    each = workers / databases
    rate = each * BUSY * 1e3 / of.worker_ms.at(each)
    api = math.ceil(rate * of.api_ms.at(each) / 1e3 / BUSY)
    return Deployment(
        workers=workers,
        databases=databases,
        runs_per_s=rate * databases,
        api_processes=api * databases,
        database_cores=rate * of.database_ms.at(each) / 1e3 / BUSY,
        writing_transactions_per_s=rate * of.writing_transactions.at(each),
        wal_mib_per_s=rate * of.wal_bytes.at(each) / 2**20,
        # The line's base is the one API process that was there when it was measured.
        connections=math.ceil(of.connections.slope * each + of.connections.base * api),
    )
