"""A run's records in words, for those who look for what went wrong. PURE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stepflow.model import records as rec

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import Raw

    from stepflow.model.records import Record

__all__ = ["elapsed", "words_of"]

_SHOWN_MAX = 80


def elapsed(milliseconds: int) -> str:
    """Return a span as `3d 02:00:00`, with milliseconds where there are some."""
    seconds, ms = divmod(milliseconds, 1000)
    days, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return (f"{days}d " if days else "") + clock + (f".{ms:03d}" if ms else "")


def words_of(record: Record) -> str:
    """Return what the record says, in a few words."""
    words = _STARTS.get(type(record)) or _OTHERS.get(type(record))
    # A type that is not told here is named as the journal names it.
    return words(record) if words is not None else str(type(record).__struct_config__.tag)


def _plain(key: str) -> str:
    """Return a step key as its author thinks of it."""
    return key.removesuffix("#1")


def _json(raw: Raw) -> str:
    text = bytes(raw).decode()
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _error(raw: Raw) -> str:
    error: dict[str, Any] = msgspec.json.decode(raw)
    return f"{error.get('type')}: {error.get('message')}"[:_SHOWN_MAX]


def _attempt(number: int) -> str:
    return f", attempt {number}" if number > 1 else ""


_STARTS: dict[type[Record], Callable[[Any], str]] = {
    rec.RunStarted: lambda r: f"run of {r.workflow} started" + (" as a child" if r.parent else ""),
    rec.StepStarted: lambda r: f"step {_plain(r.key)} begins{_attempt(r.attempt)}",
    rec.SleepStarted: lambda r: f"sleep {_plain(r.key)} begins",
    rec.WaitStarted: lambda r: f"wait {_plain(r.key)} for event {r.event} begins",
    rec.ChildStarted: lambda r: f"child {_plain(r.key)} ({r.workflow}) begins",
}
_OTHERS: dict[type[Record], Callable[[Any], str]] = {
    rec.RunReleased: lambda _: "the run may begin",
    rec.CancelRequested: lambda _: "the run is being cancelled",
    rec.RunCompleted: lambda r: f"run completed: {_json(r.result)}",
    rec.RunFailed: lambda r: f"run failed: {_error(r.error)}",
    rec.RunCancelled: lambda r: "run cancelled" + (" by force" if r.forced else ""),
    rec.StepRetrying: lambda r: f"step {_plain(r.key)} failed, is tried again: {_error(r.error)}",
    rec.StepCompleted: lambda r: f"step {_plain(r.key)} completed: {_json(r.result)}",
    rec.StepFailed: lambda r: f"step {_plain(r.key)} failed: {_error(r.error)}",
    rec.SleepEnded: lambda r: f"sleep {_plain(r.key)} is over",
    rec.WaitResolved: lambda r: f"wait {_plain(r.key)} got its event",
    rec.WaitTimedOut: lambda r: f"wait {_plain(r.key)} timed out",
    rec.ChildEnded: lambda r: f"child {_plain(r.key)} ended",
    rec.NotifySent: lambda r: f"the run sent an event to {r.count} run(s)",
    rec.CallCancelled: lambda r: f"{_plain(r.key)} was given up",
    rec.CallAdopted: lambda r: f"{_plain(r.key)} took a result recorded for another call",
    rec.ValueRecorded: lambda r: f"{_plain(r.key).removeprefix('@')} gave {_json(r.value)}",
    rec.VersionChosen: lambda r: f"version {r.name} is {r.n}",
    rec.Emitted: lambda r: f"{r.name} emitted {_json(r.data)}",
    rec.Progressed: lambda r: f"progress {r.done:g}",
    rec.EventReceived: lambda r: f"event {r.event} came: {_json(r.payload)}",
    rec.EventKept: lambda r: f"event {r.event} is kept for a later wait",
}
