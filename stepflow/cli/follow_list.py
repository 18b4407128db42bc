"""Following many runs: a page of them, then their events, in one of three displays.

As with one run (follow.py): JSON lines, a moving list in a terminal with rich, or a line for each
run that begins or ends. A server that is gone is waited for, and what happened meanwhile follows.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self

import click
import orjson

from stepflow.cli.errors import INTERRUPTED, failing
from stepflow.cli.printing import COLOURS
from stepflow.cli.render import short, span
from stepflow.clock import SystemClock
from stepflow.errors import OutcomeUnknownError, RateLimitedError, UnavailableError
from stepflow.log import escaped_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.cli.run_list import ListRow, RunList
    from stepflow.client import SyncClient
    from stepflow.model.all_event import AllEvent

__all__ = ["ListDisplay", "follow_list", "pick_list_display"]

_PAUSE_S: Final = 0.25
_PAUSE_S_MAX: Final = 5.0
_COUNTED_S: Final = 2.0
"""So often, at most, the server is asked how many runs there are."""
_GONE: Final = (UnavailableError, OutcomeUnknownError, RateLimitedError)


class ListDisplay(Protocol):
    """Shows runs that are followed."""

    has_counts: ClassVar[bool]
    """Whether it shows how many runs have each status."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def event(self, event: AllEvent, row: ListRow | None) -> None:
        """Show what has happened; the list has taken it in already."""
        ...

    def lost(self, why: str) -> None:
        """Say that the server is gone; empty when it is back."""
        ...


def follow_list(
    client: SyncClient, runs: RunList, display: ListDisplay, *, workflow_id: str, tag: str
) -> int:
    """Show the runs until somebody stops it; return the command's exit status."""
    clock = SystemClock()
    counted_s = clock.monotonic_s()
    try:
        with failing():
            page = client.list_runs(workflow_id=workflow_id, tag=tag, limit=200)
            runs.fill(page.runs)
            runs.count(page.counts or None)
            with display:
                cursor = page.stream_cursor
                for event in _events(client, display, cursor, workflow_id, tag):
                    if event.event == "resync":
                        # Away for so long that what happened is not kept.
                        page = client.list_runs(workflow_id=workflow_id, tag=tag)
                        runs.fill(page.runs)
                        runs.count(page.counts or None)
                    row = runs.apply(event, clock.wall_ms())
                    if display.has_counts and clock.monotonic_s() - counted_s > _COUNTED_S:
                        # What was purged, or is not in the list, no event tells of. A server that
                        # is gone is the stream's to notice.
                        with contextlib.suppress(*_GONE):
                            page = client.list_runs(workflow_id=workflow_id, tag=tag, limit=1)
                            runs.count(page.counts or None)
                        counted_s = clock.monotonic_s()
                    display.event(event, row)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _events(
    client: SyncClient, display: ListDisplay, cursor: str, workflow_id: str, tag: str
) -> Iterator[AllEvent]:
    pause_s = _PAUSE_S
    while True:
        try:
            for event in client.stream_all(
                workflow_id=workflow_id, tag=tag, after=cursor, tries_max=1
            ):
                cursor = event.cursor or cursor
                yield event
        except _GONE as error:
            display.lost(error.message)
            while not _is_back(client, pause_s):
                pause_s = min(pause_s * 2, _PAUSE_S_MAX)
            display.lost("")
            pause_s = _PAUSE_S


def _is_back(client: SyncClient, pause_s: float) -> bool:
    threading.Event().wait(pause_s)
    try:
        client.ready()
    except _GONE:
        return False
    return True


def pick_list_display(runs: RunList, *, as_json: bool) -> ListDisplay:
    """Return the display that fits where the output goes."""
    if as_json:
        return JsonList()
    if sys.stdout.isatty():
        try:
            from stepflow.cli.live_list import LiveList  # noqa: PLC0415  rich is an extra
        except ImportError:
            return PlainList(runs)
        return LiveList(runs)
    return PlainList(runs)


class JsonList:
    """One event a line, as `{"cursor","event","runId","workflowId","data"}`."""

    has_counts: ClassVar[bool] = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: AllEvent, row: ListRow | None) -> None:
        del row
        line: dict[str, Any] = {
            "cursor": event.cursor or None,
            "event": event.event,
            "runId": event.run_id or None,
            "workflowId": event.workflow_id or None,
            "data": event.json(),
        }
        click.echo(escaped_json(orjson.dumps(line).decode()))

    def lost(self, why: str) -> None:
        if why:
            click.echo(f"connection lost, trying again: {short(why)}", err=True)


class PlainList:
    """A line for each run that there is, begins, ends, or changes its state."""

    has_counts: ClassVar[bool] = False

    def __init__(self, runs: RunList) -> None:
        self._runs = runs

    def __enter__(self) -> Self:
        for row in reversed(self._runs.shown()):
            click.echo(_line(row))
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: AllEvent, row: ListRow | None) -> None:
        if row is None:
            click.echo("what happened is not kept: the list was read again")
        elif _changes_the_run(event) and self._runs.shows(row):
            click.echo(_line(row))

    def lost(self, why: str) -> None:
        click.echo(f"connection lost, trying again: {short(why)}" if why else "connected again")


def _changes_the_run(event: AllEvent) -> bool:
    if event.event == "status":
        return "stepName" not in event.json()
    return event.event in {"complete", "error"}


def _line(row: ListRow) -> str:
    age_s = row.age_s(SystemClock().wall_ms())
    took = "" if age_s is None else span(age_s)
    status = click.style(f"{row.status:<9}", fg=COLOURS.get(row.status))
    return f"{row.run_id}  {short(row.workflow)}  {status}  {took:>7}  {row.doing}".rstrip()
