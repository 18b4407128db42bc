"""PURE. A followed run as words: durations, values, and a line for each thing that happens."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import orjson

from stepflow.log import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.cli.watching import Row, RunWatch
    from stepflow.model.views import RunEvent

__all__ = ["PlainLines", "detail", "error_text", "notify_command", "short", "span", "value_text"]

_WIDTH = 60
_NAMED = 3


def span(seconds: float) -> str:
    """Return a duration for people: `0.4s`, `12s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {whole:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24}h"


def short(text: str, width: int = _WIDTH) -> str:
    """Return the text on one line, cut to `width`; nothing in it commands the terminal."""
    line = escaped(" ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def value_text(value: Any, width: int = _WIDTH) -> str:
    """Return a JSON value, cut; nothing for null."""
    return "" if value is None else short(orjson.dumps(value).decode(), width)


def error_text(error: dict[str, Any], width: int = 2 * _WIDTH) -> str:
    """Return `ValueError: no such card (step charge; not undone: reserve)`."""
    text = f"{error.get('type', 'Error')}: {error.get('message', '')}"
    step = error.get("step")
    notes = [f"step {step}"] if step else []
    if left := error.get("compensation"):
        more = max(0, len(left) - _NAMED) + error.get("compensationMore", 0)
        names = ", ".join(short(each["key"]) for each in left[:_NAMED])
        notes.append(f"not undone: {names}" + (f" and {more} more" if more else ""))
    return short(text, width) + (f" ({'; '.join(notes)})" if notes else "")


def notify_command(event_id: str) -> str:
    """Return the command that sends the event."""
    return f"stepflow notify {escaped(shlex.quote(event_id))} '{{}}'"


def detail(row: Row, now_ms: int) -> str:
    """Return what a row is doing, or what came of it."""
    if row.status == "failed":
        return error_text(row.error)
    if row.status == "completed":
        return value_text(row.result)
    match row.kind:
        case "sleep":
            return f"sleeping, {span(max(0, row.due_ms - now_ms) / 1000)} left"
        case "event":
            return f"waiting for event {escaped(row.event_id)}"
        case "child":
            return f"waiting for {row.child}"
        case _:
            return f"running, attempt {row.attempt}" if row.attempt > 1 else "running"


class PlainLines:
    """Lines for a pipe, a log or a terminal without rich."""

    def __init__(self, watch: RunWatch) -> None:
        self._watch = watch

    def head(self) -> str:
        """Return the line that says what is followed."""
        return f"{self._watch.run_id}  {self._watch.workflow}"

    def of(self, event: RunEvent, now_ms: int) -> Iterator[str]:
        """Yield what an event that the watch has taken in looks like."""
        watch = self._watch
        data: Any = event.json()
        match event.event:
            case "status" if "stepName" in data:
                row = watch.rows[data.get("key") or data["stepName"]]
                yield f"  {'begun':<10}{row.name}  {detail(row, now_ms)}"
                if row.event_id:
                    yield f"  {'':<10}send it: {notify_command(row.event_id)}"
            case "status" if data.get("state"):
                yield f"  {data['state']}"
            case "step":
                row = watch.rows[data.get("key") or data["name"]]
                took = span(row.elapsed_s(now_ms))
                yield f"  {row.status:<10}{row.name}  {took}  {detail(row, now_ms)}".rstrip()
            case "emit":
                again = f"  attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
                said = f"{short(data['name'])}  {value_text(data.get('data'))}{again}"
                yield f"  {'emitted':<10}{said}"
            case "progress":
                yield f"  {'progress':<10}{progress_text(data)}"
            case "complete" | "error":
                yield f"{watch.status}  {self._outcome()}".rstrip()
            case "resync":
                yield f"  {'resync':<10}history is not kept; the run is {watch.status}"
            case _:
                pass

    def _outcome(self) -> str:
        watch = self._watch
        return error_text(watch.error) if watch.error else value_text(watch.result)


def progress_text(data: dict[str, Any]) -> str:
    """Return `3 of 10  importing`."""
    total = data.get("total")
    text = f"{data['done']:g}" if total is None else f"{data['done']:g} of {total:g}"
    return f"{text}  {short(data.get('message') or '')}".rstrip()
