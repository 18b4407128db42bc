"""PURE. What a followed run looks like now: its events folded into rows, one a step.

A stream's events carry no times. What happens while we look is timed by our clock; what had
happened before is timed by the run itself, which `hint` reads once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET

from stepflow.model.views import RunView

if TYPE_CHECKING:
    from stepflow.model.views import RunEvent

__all__ = ["Row", "RunWatch", "millis"]

RowStatus = Literal["running", "completed", "failed"]


@dataclass(slots=True)
class Row:
    """One step, sleep, wait or child of the run."""

    key: str
    name: str
    kind: str
    status: RowStatus = "running"
    began_ms: int = 0
    ended_ms: int = 0
    attempt: int = 1
    due_ms: int = 0
    event_id: str = ""
    child: str = ""
    result: Any = None
    error: dict[str, Any] = field(default_factory=dict[str, Any])

    def elapsed_s(self, now_ms: int) -> float:
        """Return how long it took, or has taken so far."""
        end_ms = now_ms if self.status == "running" else self.ended_ms
        return max(0, end_ms - self.began_ms) / 1000


class RunWatch:
    """A run as its events tell it."""

    def __init__(self, run_id: str, workflow: str, now_ms: int) -> None:
        self.run_id = run_id
        self.workflow = workflow
        self.began_ms = now_ms
        self.ended_ms = 0
        self.status = "pending"
        self.state = ""
        self.rows: dict[str, Row] = {}
        self.result: Any = None
        self.error: dict[str, Any] = {}
        self.progress: dict[str, Any] = {}
        self.emitted: dict[str, Any] = {}
        self._times: dict[str, tuple[int, int]] = {}

    @property
    def ended(self) -> bool:
        """Say whether the run has ended."""
        return self.status in {"completed", "failed", "cancelled"}

    def hint(self, run: RunView) -> None:
        """Take over when things happened that the stream is about to tell of."""
        self.workflow = run.workflow_id
        self.began_ms = millis(run.created_at)
        for step in run.steps or []:
            began = millis(step.started_at) if step.started_at else 0
            ended = millis(step.completed_at) if step.completed_at else 0
            self._times[step.key] = (began, ended)

    def apply(self, event: RunEvent, now_ms: int) -> Row | None:
        """Take an event in; return the row that it is about."""
        data: Any = event.json()
        match event.event:
            case "status":
                return self._status(data, now_ms)
            case "step":
                return self._step(data, now_ms)
            case "progress":
                self.progress = data
            case "emit":
                self.emitted = data
            case "complete" | "error":
                self._end(data, now_ms)
            case "resync":
                self.resync(msgspec.json.decode(event.data, type=RunView))
            case _:
                pass
        return None

    def _status(self, data: dict[str, Any], now_ms: int) -> Row | None:
        self.status = data["status"]
        self.state = data.get("state", "")
        name = data.get("stepName")
        if name is None:
            return None
        row = self._row(data, name, now_ms)
        row.status = "running"
        row.attempt = data.get("attempt") or 1
        row.event_id = data.get("eventId", "")
        row.child = data.get("childRunId", "")
        row.due_ms = millis(data["dueAt"]) if "dueAt" in data else 0
        return row

    def _step(self, data: dict[str, Any], now_ms: int) -> Row:
        row = self._row(data, data["name"], now_ms)
        row.status = data["status"]
        row.ended_ms = self._times.get(row.key, (0, 0))[1] or now_ms
        row.result = data.get("result")
        row.error = data.get("error") or {}
        return row

    def _row(self, data: dict[str, Any], name: str, now_ms: int) -> Row:
        key = data.get("key") or name
        row = self.rows.get(key)
        if row is None:
            row = Row(key, name, data.get("kind", "step"))
            row.began_ms = self._times.get(key, (0, 0))[0] or now_ms
            self.rows[key] = row
        return row

    def _end(self, data: dict[str, Any], now_ms: int) -> None:
        self.status = data["status"]
        self.state = ""
        self.ended_ms = now_ms
        self.result = data.get("result")
        self.error = data.get("error") or {}

    def resync(self, run: RunView) -> None:
        """Begin anew from the whole run."""
        self.hint(run)
        self.status = run.status
        self.state = run.state or ""
        self.rows = {}
        for step in run.steps or []:
            row = Row(step.key, step.name, step.kind)
            row.began_ms, row.ended_ms = self._times[step.key]
            row.status = "running" if step.status == "pending" else step.status
            row.due_ms = millis(step.due_at) if step.due_at else 0
            row.event_id = step.event_id or ""
            row.child = step.child_run_id or ""
            row.attempt = step.attempts or 1
            row.result = _decoded(step.result)
            row.error = _decoded(step.error) or {}
            self.rows[step.key] = row
        self.result = _decoded(run.result)
        self.error = _decoded(run.error) or {}
        if self.ended:
            self.ended_ms = millis(run.updated_at)


def _decoded(value: Any) -> Any:
    return None if value is UNSET else msgspec.json.decode(value)


def millis(stamp: str) -> int:
    """Return an RFC 3339 time as milliseconds since 1970."""
    return round(datetime.fromisoformat(stamp).timestamp() * 1000)
