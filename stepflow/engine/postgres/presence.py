"""A process says that it is up, every few seconds, with its figures: its row in `processes`.

Rates are taken where the counters are. What a process tells is what one look at it would show, so
whoever is asked for the whole service adds up rows, and asks no process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections import Counter, deque
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.engine.memory import memory
from stepflow.engine.postgres.database import end, rest
from stepflow.engine.postgres.streams import ClusterAllStream
from stepflow.errors import ApiError
from stepflow.journal.opening import version

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from stepflow.clock import Clock
    from stepflow.engine.postgres.database import Database
    from stepflow.engine.postgres.streams import ClusterStream
    from stepflow.engine.postgres.worker import Worker

__all__ = ["BEAT_S", "SILENT_S", "PaceTold", "Presence", "Starts", "Told", "look_at"]

_log: Final = logging.getLogger("stepflow.postgres")
BEAT_S: Final = 5.0
SILENT_S: Final = 3 * BEAT_S
"""Who has not been heard of for so long is not counted any more."""
_LATENCIES: Final = 50
"""So many of a workflow's latencies are told, evenly spaced in their order."""
_EVERY_S: Final = 10.0
_MOMENTS: Final = 7


class PaceTold(msgspec.Struct, omit_defaults=True):
    """How fast a workflow's runs come and go in one process."""

    started_per_s: float = 0.0
    completed_per_s: float = 0.0
    failed_per_s: float = 0.0
    cancelled_per_s: float = 0.0
    latencies: list[float] = []
    """Lowest first."""
    sampled: int = 0
    """How many they stand for."""


class Told(msgspec.Struct, omit_defaults=True):
    """The figures of one process."""

    state: str = ""
    uptime_s: float = 0.0
    window_s: float = 1.0
    paces: dict[str, PaceTold] = {}
    """By the name that runs have recorded."""
    claims_held: int = 0
    claims_lost: int = 0
    taken_over: int = 0
    runs_active: int = 0
    runs_known: int = 0
    live_bytes: int = 0
    parked_bytes: int = 0
    steps_running: int = 0
    timers: int = 0
    zombies: int = 0
    missing: list[str] = []
    queued_bytes: int = 0
    bytes_written: int = 0
    bytes_per_s: float = 0.0
    commits: list[int] = []
    """Of the last minute, by `COMMIT_BOUNDS_S`."""
    commits_per_s: float = 0.0
    commit_last_s: float = 0.0
    commit_max_s: float = 0.0
    hangs_s: float = 0.0
    read_only: bool = False
    streams_of_runs: int = 0
    streams_of_all: int = 0
    rss_bytes: int | None = None
    rss_max_bytes: int | None = None


class Starts:
    """Counts the runs that this process has started on behalf of callers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._moments: deque[tuple[float, Counter[str]]] = deque(maxlen=_MOMENTS)

    def note(self, workflow: str) -> None:
        """A run was started."""
        self._counts[workflow] += 1

    @property
    def total(self) -> int:
        """How many there were since the start."""
        return self._counts.total()

    def look(self) -> None:
        """Take note of what was counted."""
        now_s = self._clock.monotonic_s()
        if not self._moments or now_s - self._moments[-1][0] >= _EVERY_S:
            self._moments.append((now_s, self._counts.copy()))

    def rates(self) -> dict[str, float]:
        """Return how many a second there were in the last minute, by workflow."""
        if not self._moments:
            return {}
        at_s, before = self._moments[0]
        passed_s = max(self._clock.monotonic_s() - at_s, 1.0)
        return {
            name: (count - before[name]) / passed_s
            for name, count in self._counts.items()
            if count > before[name]
        }


def look_at(
    state: str,
    uptime_s: float,
    streams: Collection[ClusterStream | ClusterAllStream],
    starts: Starts,
    worker: Worker | None,
) -> Told:
    """Return the figures of this process as they are now."""
    rss = memory()
    of_all = sum(isinstance(stream, ClusterAllStream) for stream in streams)
    told = Told(
        state=state,
        uptime_s=round(uptime_s, 3),
        streams_of_runs=len(streams) - of_all,
        streams_of_all=of_all,
        rss_bytes=rss.rss_bytes,
        rss_max_bytes=rss.rss_max_bytes,
    )
    for name, rate in starts.rates().items():
        told.paces[name] = PaceTold(started_per_s=rate)
    if worker is not None:
        _look_at_worker(told, worker)
    return told


def _look_at_worker(told: Told, worker: Worker) -> None:
    sup, stats = worker.sup, worker.journal.stats()
    now, before = sup.pace.now(), sup.pace.before
    passed_s = max(now.at_s - before.at_s, 1.0)
    told.window_s = passed_s
    told.claims_held = len(worker.journal.holders)
    told.claims_lost = worker.lost_total
    told.taken_over = worker.taken_over_total
    told.runs_active = len(sup.active)
    told.runs_known = len(sup.runs)
    told.live_bytes = sup.recorder.live_bytes
    told.parked_bytes = sup.runs.parked_bytes
    told.steps_running = sup.steps.running
    told.timers = len(sup.timers)
    told.zombies = sup.zombies + sup.steps.zombies
    told.missing = sorted(sup.missing)
    told.queued_bytes = stats.queued_bytes
    told.bytes_written = stats.bytes_written
    told.bytes_per_s = (stats.bytes_written - before.journal.bytes_written) / passed_s
    told.commits = [
        new - old for new, old in zip(stats.commits, before.journal.commits, strict=True)
    ]
    told.commits_per_s = (stats.syncs - before.journal.syncs) / passed_s
    told.commit_last_s = stats.sync_seconds_last
    told.commit_max_s = stats.sync_seconds_max
    told.hangs_s = worker.journal.look()
    told.read_only = stats.read_only
    for name, count in now.started.items():
        more = (count - before.started.get(name, 0)) / passed_s
        if more > 0:
            _pace(told.paces, name).started_per_s += more
    for (name, status), count in now.ended.items():
        more = (count - before.ended.get((name, status), 0)) / passed_s
        if more > 0:
            setattr(_pace(told.paces, name), f"{status}_per_s", more)
    for name in {name for name, _ in now.ended}:
        latencies = sup.pace.latencies((name,))
        if latencies:
            pace = _pace(told.paces, name)
            pace.sampled = len(latencies)
            pace.latencies = thinned(latencies, _LATENCIES)


def _pace(paces: dict[str, PaceTold], name: str) -> PaceTold:
    return paces.setdefault(name, PaceTold())


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most so many of the values, evenly spaced: the ends are among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(place * step)] for place in range(most)]


class Presence:
    """Keeps this process's row, until it stops."""

    def __init__(
        self, database: Database, clock: Clock, *, role: str, look: Callable[[], Told]
    ) -> None:
        self.role = role
        self.host = socket.gethostname()
        self.pid = os.getpid()
        self.id = f"{self.host}-{self.pid}-{os.urandom(4).hex()}"
        self.began_ms = clock.wall_ms()
        self._began_s = clock.monotonic_s()
        self._database = database
        self._clock = clock
        self._look = look
        self._task: asyncio.Task[None] | None = None

    @cached_property
    def version(self) -> str:
        """The version of Stepflow that runs here."""
        return version()

    @property
    def uptime_s(self) -> float:
        """For how long it has been up."""
        return self._clock.monotonic_s() - self._began_s

    async def start(self) -> None:
        """Say so for the first time, and go on saying it."""
        await self._say()
        self._task = asyncio.ensure_future(self._beating())

    async def stop(self) -> None:
        """Say it no more."""
        task, self._task = self._task, None
        if task is None:
            return
        await end(task)
        with contextlib.suppress(ApiError):
            # Else it is forgotten when it has been silent for long enough.
            await self._database.act("delete from stepflow.processes where process = %s", self.id)

    async def _beating(self) -> None:
        # A query that is cancelled may say so as an error of the database.
        while self._task is not None:
            await rest(self._clock, BEAT_S)
            await self._say()

    async def _say(self) -> None:
        try:
            await self._database.act(
                "select stepflow.beat(%s, %s, %s, %s, %s, %s)",
                self.id,
                self.role,
                self.version,
                self.host,
                self.pid,
                msgspec.json.encode(self._look()),
            )
        except ApiError as error:
            _log.warning("the database was not told that this process is up: %s", error.message)
        except Exception:  # noqa: BLE001  border: figures must not end the process's heartbeat
            _log.exception("the database was not told that this process is up")
