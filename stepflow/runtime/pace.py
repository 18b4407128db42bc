"""How fast runs come and go: rates and latencies of the last minutes, looked at once a second.

Nothing is done for it on the way of a run. Rates are differences of counters that are there anyway;
latencies are taken from the runs that ended since the last look and are still held as objects, up
to a thousand of them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from stepflow.journal.stats import COMMIT_BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepflow.journal.stats import JournalStats
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["Moment", "Pace"]

_EVERY_S: Final = 10.0
_MOMENTS: Final = 7
"""Rates are over the last minute, or a little longer."""
_SAMPLES: Final = 512
"""Latencies that are kept of a workflow."""
_SAMPLED_S: Final = 300.0
"""An older one counts no more."""


class Moment(NamedTuple):
    """The counters as they were."""

    at_s: float
    started: dict[str, int]
    ended: dict[tuple[str, str], int]
    started_total: int
    ended_total: int
    journal: JournalStats


class Pace:
    """The counters of the last minute, and the latencies of the last runs."""

    __slots__ = ("_latest", "_moments", "_samples", "_sup")

    def __init__(self, sup: Supervisor) -> None:
        self._sup = sup
        self._samples: defaultdict[str, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=_SAMPLES)
        )
        """When a run was seen to have ended, and how long it took, by workflow."""
        self._moments: deque[Moment] = deque(maxlen=_MOMENTS)
        self._latest: RunActor | None = None

    def now(self) -> Moment:
        """Return the counters as they are."""
        sup = self._sup
        return Moment(
            sup.clock.monotonic_s(),
            dict(sup.started_by),
            dict(sup.ended_by),
            sup.started_total,
            sum(sup.ended_total.values()),
            sup.journal.stats(),
        )

    def look(self) -> None:
        """Take note of what has happened. To be called once a second."""
        self._sample(self._sup.unpacked)
        moments = self._moments
        if not moments or self._sup.clock.monotonic_s() - moments[-1].at_s >= _EVERY_S:
            self._moments.append(self.now())

    def _sample(self, ended: deque[RunActor]) -> None:
        newest = ended[-1] if ended else None
        for actor in reversed(ended):
            if actor is self._latest:
                break
            self.note(actor)
        self._latest = newest

    def note(self, actor: RunActor) -> None:
        """A run has ended: take its latency."""
        state = actor.peek()
        took_s = max(state.updated_ms - state.created_ms, 0) / 1000
        self._samples[state.workflow].append((self._sup.clock.monotonic_s(), took_s))

    @property
    def before(self) -> Moment:
        """The counters as they were about a minute ago, or soon after the start."""
        return self._moments[0] if self._moments else self.now()

    def latencies(self, workflows: Iterable[str]) -> list[float]:
        """Return the latencies of these workflows' last runs, lowest first."""
        since_s = self._sup.clock.monotonic_s() - _SAMPLED_S
        return sorted(
            took_s
            for name in workflows
            for at_s, took_s in self._samples.get(name, ())
            if at_s >= since_s
        )

    def commit_quantile(self, now: Moment, share: float) -> float | None:
        """Return how long so large a share of the last minute's commits took at most."""
        counts = [
            new - old
            for new, old in zip(now.journal.commits, self.before.journal.commits, strict=True)
        ]
        wanted = sum(counts) * share
        if not wanted:
            return None
        seen = 0
        for bound, count in zip(COMMIT_BOUNDS_S, counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound
        return None
