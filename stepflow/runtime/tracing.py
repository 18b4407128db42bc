"""One trace a run: a span of the run, and one of each attempt of a step; none in a replay.

The run's span begins with the run; its context is recorded in `RunStarted`. It ends when the run's
end is durable. A span cannot outlive its process: one that is open at a shutdown is ended there and
says so (`stepflow.continues`), one that a crash took is never told. Either way whoever ends the run
tells a span from its trigger to its end, below the recorded context, and the attempts of all
processes are in one trace.

An attempt's span is current while its function runs, in the loop or in a thread. It is told when
what it led to is durable. What was given up, or cut short by a shutdown, says that at once.

There is a `Traces` only where a tracer provider is set; else the supervisor has None, and nothing
here is called. OpenTelemetry is not imported before that.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from stepflow.clock import epoch_ns
from stepflow.model.failures import encode_error
from stepflow.tracing import current_traceparent, is_traceparent, provider_is_set

if TYPE_CHECKING:
    import contextvars

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from stepflow.model.run import RunState
    from stepflow.runtime.actor import RunActor

__all__ = ["AttemptSpan", "Traces", "open_traces"]

_log = logging.getLogger("stepflow.trace")

_OPEN_MAX: Final = 10_000
"""So many runs' spans are held; beyond, the oldest is ended as at a shutdown."""


def open_traces(base: contextvars.Context) -> Traces | None:
    """Return what makes spans where a tracer provider is set.

    The span that is current now is taken out of `base`: it is none of the runs'.
    """
    if not provider_is_set():
        return None
    from opentelemetry import context  # noqa: PLC0415  only where it is used already

    base.run(context.attach, context.Context())
    return Traces()


class Traces:
    """Makes the spans of one engine."""

    __slots__ = ("_api", "_dropped", "_open", "_tracer")

    def __init__(self) -> None:
        from opentelemetry import trace  # noqa: PLC0415  likewise

        self._api = trace
        self._tracer: Tracer = trace.get_tracer("stepflow")
        self._open: dict[str, Span] = {}
        """Spans of runs that began here and have not ended, by run id; oldest first."""
        self._dropped = False

    # ------------------------------------------------------------ runs

    def begin(
        self,
        actor: RunActor,
        workflow: str,
        parent: str,
        traceparent: str,
        more: dict[str, Any],
    ) -> None:
        """Begin the span of a new run; its context goes into the members of the first record."""
        try:
            under = self._caller(actor, parent, traceparent, scheduled="schedule" in more)
            trace = self._begin(actor.id, workflow, under)
        except Exception:  # noqa: BLE001  border: a provider's own failure harms no run
            _log.exception("%s: no trace of it could be begun", actor.id)
            return
        if trace:
            more["trace"] = trace

    def begin_elsewhere(
        self, run_id: str, workflow: str, traceparent: str, *, scheduled: bool = False
    ) -> str:
        """Begin the span of a run that others will drive; return its context, or an empty text.

        It is held until `hand_over`.
        """
        try:
            under = "" if scheduled else _nearest(traceparent)
            return self._begin(run_id, workflow, under)
        except Exception:  # noqa: BLE001  likewise
            _log.exception("%s: no trace of it could be begun", run_id)
            return ""

    def hand_over(self, run_id: str, *, told: bool = True) -> None:
        """The run goes on in other processes; or there is none, and nothing is `told`."""
        if run_id not in self._open:
            return
        try:
            if told:
                self._interrupt(run_id)
            else:
                del self._open[run_id]
        except Exception:  # noqa: BLE001  likewise
            _log.exception("%s: its span could not be told", run_id)

    def _begin(self, run_id: str, workflow: str, under: str) -> str:
        span = self._tracer.start_span(
            f"run {workflow}",
            self._below(under),
            attributes={"stepflow.run_id": run_id, "stepflow.workflow": workflow},
        )
        context = span.get_span_context()
        if not context.is_valid:
            return ""
        if span.is_recording():
            self._open[run_id] = span
            if len(self._open) > _OPEN_MAX:
                self._interrupt(next(iter(self._open)))
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def _caller(self, actor: RunActor, parent: str, traceparent: str, *, scheduled: bool) -> str:
        """Return the context that a new run's span is below, or an empty text."""
        if parent:
            above = actor.sup.runs.get(parent)
            started = above.peek().started if above is not None else None
            return started.trace if started is not None else ""
        if scheduled:
            # Begun by a timer, in whatever context that was made.
            return ""
        return _nearest(traceparent)

    def _below(self, traceparent: str) -> Context:
        """Return a context in which the span of that context is current, which lives elsewhere."""
        from opentelemetry.context import Context  # noqa: PLC0415  likewise

        if not traceparent:
            return Context()
        _, trace_id, span_id, flags = traceparent.split("-")[:4]
        api = self._api
        span_context = api.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(flags, 16)),
        )
        below: Context = api.set_span_in_context(api.NonRecordingSpan(span_context), Context())
        return below

    def run_ended(self, actor: RunActor) -> None:
        """The run's end is durable: tell its span."""
        state = actor.peek()
        if self._dropped or state.started is None or not state.started.trace:
            return
        try:
            self._tell(state)
        except Exception:  # noqa: BLE001  border: a provider's own failure harms no run
            _log.exception("%s: its span could not be told", actor.id)

    def _tell(self, state: RunState) -> None:
        assert state.started is not None
        span, end_ns = self._open.pop(state.id, None), None
        if span is None:
            # It began in another process, or has ended before: in the records' time, as a whole.
            end_ns = state.updated_ms * 1_000_000
            span = self._tracer.start_span(
                f"run {state.workflow}",
                self._below(state.started.trace),
                attributes={
                    "stepflow.run_id": state.id,
                    "stepflow.workflow": state.workflow,
                    "stepflow.continued": True,
                },
                start_time=state.created_ms * 1_000_000,
            )
        span.set_attribute("stepflow.outcome", state.status)
        if state.status == "failed":
            self._fail(span, state.error)
        span.end(end_ns)

    def _interrupt(self, run_id: str) -> None:
        span = self._open.pop(run_id)
        span.set_attribute("stepflow.continues", True)
        span.end()

    def close(self) -> None:
        """End the spans of runs that go on in another process."""
        for run_id in list(self._open):
            self._interrupt(run_id)

    def drop(self) -> None:
        """End as a killed process would: what is open is never told."""
        self._dropped = True
        self._open.clear()

    # ------------------------------------------------------------ attempts

    def attempt(self, actor: RunActor, name: str, key: str, number: int) -> AttemptSpan | None:
        """Begin the span of an attempt, if its run is traced."""
        state = actor.state
        started = state.started
        if started is None or not started.trace:
            return None
        try:
            span = self._tracer.start_span(
                f"step {name}",
                self._below(started.trace),
                attributes={
                    "stepflow.run_id": actor.id,
                    "stepflow.workflow": state.workflow,
                    "stepflow.step": name,
                    "stepflow.step_key": key,
                    "stepflow.attempt": number,
                },
            )
        except Exception:  # noqa: BLE001  border: a provider's own failure harms no run
            _log.exception("%s: no span of step %s could be begun", actor.id, key)
            return None
        return AttemptSpan(self, span)

    def tell_attempt(self, span: Span, outcome: str, error: bytes | None, end_ns: int) -> None:
        """End the attempt's span."""
        if self._dropped:
            return
        try:
            span.set_attribute("stepflow.outcome", outcome)
            if error is not None:
                self._fail(span, error)
            span.end(end_ns)
        except Exception:  # noqa: BLE001  border: a provider's own failure harms no run
            _log.exception("the span of an attempt could not be told")

    def _fail(self, span: Span, error: bytes | None) -> None:
        """Say an error as the records have it: cut to size, whatever its `__str__` does."""
        told: dict[str, Any] = orjson.loads(error) if error is not None else {}
        kind, message = str(told.get("type", "")), str(told.get("message", ""))
        event = {"exception.type": kind, "exception.message": message}
        if "traceback" in told:
            event["exception.stacktrace"] = str(told["traceback"])
        span.add_event("exception", event)
        span.set_status(self._api.StatusCode.ERROR, f"{kind}: {message}")


class AttemptSpan:
    """The span of one attempt, until it is told."""

    __slots__ = ("_end_ns", "_span", "_traces")

    def __init__(self, traces: Traces, span: Span) -> None:
        self._traces = traces
        self._span = span
        self._end_ns = 0

    def enter(self) -> None:
        """Make it the current span of the context in which this is called."""
        from opentelemetry import context, trace  # noqa: PLC0415  only where it is used already

        context.attach(trace.set_span_in_context(self._span))

    def stop(self) -> None:
        """The attempt has ended now."""
        self._end_ns = epoch_ns()

    def settled(
        self, actor: RunActor, key: str, number: int, failure: BaseException | None
    ) -> None:
        """The actor has heard of the end: tell it when what was recorded of it is durable."""
        outcome, error = _outcome(actor.open_state, key, number, failure)
        actor.sup.journal.when_durable(actor.lsn, partial(self._released, outcome, error))

    def _released(self, outcome: str, error: bytes | None, failed: BaseException | None) -> None:
        if failed is None:
            self._traces.tell_attempt(self._span, outcome, error, self._end_ns)

    def given_up(self, actor: RunActor) -> None:
        """Nobody waits for the attempt any more: nothing will be recorded of it."""
        outcome = "cancelled" if actor.sup.going else "interrupted"
        self._traces.tell_attempt(self._span, outcome, None, epoch_ns())


def _nearest(traceparent: str) -> str:
    """Return the caller's context, or the one that is current here where that is nearer."""
    current = current_traceparent()
    if not is_traceparent(traceparent) or traceparent[3:35] == current[3:35]:
        # Of one trace, the span in this process is the nearer one.
        return current
    return traceparent


def _outcome(
    state: RunState | None, key: str, number: int, failure: BaseException | None
) -> tuple[str, bytes | None]:
    """Return what became of the attempt, and its error."""
    error = None if failure is None else encode_error(failure)
    call = state.calls.get(key) if state is not None else None
    if call is not None and call.attempt == number:
        if call.status == "completed":
            return "completed", None
        if call.status == "failed" or call.due:
            # Also a result that could not be kept.
            return "failed" if call.status == "failed" else "retrying", call.error or error
    return "completed" if failure is None else "failed", error
