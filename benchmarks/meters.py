"""What processes and a PostgreSQL have used so far: processor time, transactions, log, memory.

Read before and after, the difference belongs to what happened between. Processor time is from
`/proc`, in ticks of 10 ms as a rule: measure over seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 2**20


def _fields(pid: int) -> list[str] | None:
    """Return what `/proc/PID/stat` has after the name; None of a process that is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time of these processes, their threads included."""
    ticks = 0
    for pid in pids:
        if fields := _fields(pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def children(pid: int) -> list[int]:
    """Return the processes that this one has started and that live."""
    found = []
    for path in PROC.glob("[0-9]*"):
        fields = _fields(int(path.name))
        if fields is not None and int(fields[1]) == pid:
            found.append(int(path.name))
    return found


def family_cpu_s(pid: int) -> float:
    """Return the processor time of a process, of its children, and of those that have ended."""
    fields = _fields(pid)
    ended = (int(fields[13]) + int(fields[14])) / _TICKS if fields else 0.0
    return cpu_s([pid, *children(pid)]) + ended


def memory_mib(pids: Iterable[int]) -> float:
    """Return the memory of these processes, a shared page counted once among its sharers."""
    kib = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue
        kib += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kib * 1024 / _MIB


@dataclass(frozen=True, slots=True)
class Reading:
    """What was used until now; of a contestant without a database, or an API, that is 0."""

    worker_cpu_s: float
    api_cpu_s: float
    database_cpu_s: float
    transactions: int
    writing_transactions: int
    wal_bytes: int

    def since(self, before: Reading) -> dict[str, float]:
        """Return what was used between two readings."""
        return {name: getattr(self, name) - getattr(before, name) for name in self.__slots__}


_READ: Final = """
select (select xact_commit + xact_rollback from pg_stat_database
         where datname = current_database()),
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"""
_CONNECTIONS: Final = """
select count(*) from pg_stat_activity
 where backend_type = 'client backend' and pid <> pg_backend_pid()"""


class Meter:
    """Reads what one contestant uses: its workers, its API process, its database.

    Where workers and callers are one process, that process is the worker. `transactions` is
    PostgreSQL's own statistics, up to a second late for each connection; those that write are
    counted by their numbers, at once.
    """

    def __init__(
        self,
        workers: Sequence[int],
        api: Sequence[int] = (),
        postmaster: int = 0,
        conn: psycopg.Connection[Any] | None = None,
    ) -> None:
        self._workers = workers
        self._api = api
        self._postmaster = postmaster
        self._conn = conn

    def read(self) -> Reading:
        """Read all of it."""
        transactions = written = wal = 0
        if self._conn is not None:
            row = self._conn.execute(_READ).fetchone()
            transactions, written, wal = (int(value) for value in row or (0, 0, 0))
        return Reading(
            cpu_s(self._workers),
            cpu_s(self._api),
            family_cpu_s(self._postmaster) if self._postmaster else 0.0,
            transactions,
            written,
            wal,
        )

    def held(self) -> dict[str, float]:
        """Return memory a worker and of the database, and connections."""
        of = {"worker_memory_mib": memory_mib(self._workers) / len(self._workers)}
        if self._conn is not None:
            row = self._conn.execute(_CONNECTIONS).fetchone()
            of["connections"] = float(row[0]) if row else 0.0
            of["database_memory_mib"] = memory_mib([self._postmaster, *children(self._postmaster)])
        return of
