"""Following a run: its events, across restarts of the server, into one of three displays.

======== ======================================================================
display  chosen when
======== ======================================================================
Json     `--json`: one event a line
Live     a terminal, and rich is installed: the steps, moving
Plain    everything else: one line for each thing that happens
======== ======================================================================
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import click
import orjson

from stepflow.cli.errors import FAILED, INTERRUPTED, failing
from stepflow.cli.render import PlainLines, short
from stepflow.clock import SystemClock
from stepflow.errors import OutcomeUnknownError, RateLimitedError, UnavailableError
from stepflow.log import escaped_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.cli.watching import RunWatch
    from stepflow.client import SyncClient
    from stepflow.model.views import RunEvent

__all__ = ["Display", "follow", "pick_display"]

_PAUSE_S: Final = 0.25
_PAUSE_S_MAX: Final = 5.0
_GONE: Final = (UnavailableError, OutcomeUnknownError, RateLimitedError)


class Display(Protocol):
    """Shows a run that is followed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def event(self, event: RunEvent, watch: RunWatch) -> None:
        """Show what has happened; `watch` has taken it in already."""
        ...

    def lost(self, why: str) -> None:
        """Say that the server is gone; empty when it is back."""
        ...


def follow(client: SyncClient, run_id: str, display: Display, watch: RunWatch) -> int:
    """Show the run until it ends; return the command's exit status."""
    clock = SystemClock()
    try:
        with failing(), display:
            for event in _events(client, run_id, display):
                watch.apply(event, clock.wall_ms())
                display.event(event, watch)
            if not watch.ended:
                watch.resync(client.get_run(run_id))
    except KeyboardInterrupt:
        click.echo(f"\nThe run goes on. Watch it again: stepflow runs watch {run_id}", err=True)
        return INTERRUPTED
    return 0 if watch.status == "completed" else FAILED


def _events(client: SyncClient, run_id: str, display: Display) -> Iterator[RunEvent]:
    """Yield the run's events; a server that is gone is waited for, and its absence shown.

    The last event is asked for again: a run that waits may send nothing else for days, and its
    arrival says that this stream, not only the server, is back.
    """
    last = 0
    pause_s = _PAUSE_S
    is_lost = False
    while True:
        try:
            for event in client.stream(run_id, max(0, last - 1), tries_max=1):
                if is_lost:
                    display.lost("")
                    is_lost, pause_s = False, _PAUSE_S
                if _is_known(event, last):
                    continue
                last = event.id or last
                yield event
        except _GONE as error:
            if not is_lost:
                display.lost(error.message)
                is_lost = True
            threading.Event().wait(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_S_MAX)
        else:
            return


def _is_known(event: RunEvent, last: int) -> bool:
    # A resync is a whole run in place of what is missing, whatever its number.
    return 0 < event.id <= last and event.event != "resync"


def pick_display(watch: RunWatch, *, as_json: bool) -> Display:
    """Return the display that fits where the output goes."""
    if as_json:
        return Json()
    if sys.stdout.isatty():
        try:
            from stepflow.cli.live import Live  # noqa: PLC0415  rich is an extra
        except ImportError:
            return Plain(watch)
        return Live(watch)
    return Plain(watch)


class Json:
    """One event a line, as `{"id","event","data"}`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: RunEvent, watch: RunWatch) -> None:
        del watch
        line: dict[str, Any] = {"id": event.id or None, "event": event.event, "data": event.json()}
        click.echo(escaped_json(orjson.dumps(line).decode()))

    def lost(self, why: str) -> None:
        if why:
            click.echo(f"connection lost, trying again: {short(why)}", err=True)


class Plain:
    """One line for each thing that happens."""

    def __init__(self, watch: RunWatch) -> None:
        self._lines = PlainLines(watch)

    def __enter__(self) -> Self:
        click.echo(self._lines.head())
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: RunEvent, watch: RunWatch) -> None:
        del watch
        for line in self._lines.of(event, SystemClock().wall_ms()):
            click.echo(line)

    def lost(self, why: str) -> None:
        click.echo(f"  connection lost, trying again: {short(why)}" if why else "  connected again")
