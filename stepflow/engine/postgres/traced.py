"""The spans of runs that begin in one process and end in another.

Whoever triggers a run makes its span, whose context the first record keeps; the run's attempts and
its end are told below it by the workers that have it then. So the span says `stepflow.continues`
and is told as soon as the run is committed, never before, and not at all where it was refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from stepflow.runtime.tracing import Traces
from stepflow.tracing import is_traceparent, provider_is_set

if TYPE_CHECKING:
    from collections.abc import Generator

    from stepflow.model.records import RunStarted

__all__ = ["Handing", "Spans"]


class Spans:
    """Makes the spans of what one process triggers."""

    def __init__(self) -> None:
        self._traces = Traces() if provider_is_set() else None

    @contextmanager
    def handing(self) -> Generator[Handing]:
        """Trace what is begun inside: told at the end of the block, dropped where it raises."""
        handing = Handing(self._traces)
        told = False
        try:
            yield handing
            told = True
        finally:
            handing.end(told=told)


class Handing:
    """Runs that are being started in one transaction."""

    def __init__(self, traces: Traces | None) -> None:
        self._traces = traces
        self.count = 0
        """How many they are."""
        self._begun: list[str] = []

    def traced(self, record: RunStarted, traceparent: str = "") -> RunStarted:
        """Return the run's first record with the context that it is traced in, if it is.

        A process that makes no spans hands the caller's context on: its workers may.
        """
        self.count += 1
        if self._traces is None:
            trace = traceparent if is_traceparent(traceparent) else ""
        else:
            trace = self._traces.begin_elsewhere(
                record.r, record.workflow, traceparent, scheduled=bool(record.schedule)
            )
            self._begun.append(record.r)
        return msgspec.structs.replace(record, trace=trace) if trace else record

    def end(self, *, told: bool) -> None:
        """The runs are committed, or they are not."""
        if self._traces is not None:
            for run_id in self._begun:
                self._traces.hand_over(run_id, told=told)
