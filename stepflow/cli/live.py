"""A followed run in a terminal: its steps with what they do, moving. Needs rich.

::

    welcome-user  run_4fXo…  running  12s
      ✓ send-welcome   0.1s  {"sent":true}
      ☾ a-while         12s  sleeping, 8s left
      ◌ approval         3s  waiting for event approve-7
        send it: stepflow notify approve-7 '{}'

Rows of one name that are many are shown as one, with a count; what does not fit the screen is
counted too. A wide terminal shows a waterfall beside the steps: when each went on, from the run's
beginning to now or its end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from stepflow.cli.render import (
    detail,
    error_text,
    notify_command,
    progress_text,
    short,
    span,
    value_text,
)
from stepflow.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from stepflow.cli.watching import Row, RunWatch
    from stepflow.model.views import RunEvent

__all__ = ["Live", "picture"]

_MANY: Final = 8
_WIDE: Final = 100
_BAR: Final = 20
_FALL: Final = 24
_LINES_AROUND: Final = 7
_STYLES: Final = {
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "pending": "dim",
}
_SPINNER: Final = Spinner("dots", style="cyan")


class Live:
    """The display."""

    def __init__(self, watch: RunWatch, console: Console | None = None) -> None:
        self._watch = watch
        self._console = console or Console()
        self._lost = ""
        self._live = RichLive(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=10,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: RunEvent, watch: RunWatch) -> None:
        del event, watch  # the picture is drawn ten times a second anyway

    def lost(self, why: str) -> None:
        self._lost = why

    def _picture(self) -> RenderableType:
        return picture(
            self._watch,
            SystemClock().wall_ms(),
            height=self._console.height,
            width=self._console.width,
            lost=self._lost,
        )


def picture(
    watch: RunWatch, now_ms: int, *, height: int = 40, width: int = 80, lost: str = ""
) -> RenderableType:
    """Return the run as it is now."""
    # The other thread adds rows meanwhile: look at a copy.
    rows = list(watch.rows.values())
    whole = (watch.began_ms, watch.ended_ms or now_ms) if width >= _WIDE else None
    parts: list[RenderableType] = [_head(watch, now_ms), _steps(rows, now_ms, height, width, whole)]
    if watch.progress and not watch.ended:
        parts.append(Text(f"  progress: {progress_text(watch.progress)}", style="cyan"))
    if watch.emitted and not watch.ended:
        said = f"{short(watch.emitted['name'])} {value_text(watch.emitted.get('data'))}"
        parts.append(Text(f"  emitted: {short(said, width - 12)}", style="magenta"))
    for row in rows:
        if row.event_id and row.status == "running" and not watch.ended:
            parts.append(Text(f"  send it: {notify_command(row.event_id)}", style="yellow"))
            break
    if watch.ended:
        parts.append(_outcome(watch, width))
    elif lost:
        parts.append(Text(f"  connection lost, trying again: {short(lost)}", style="yellow"))
    return Group(*parts)


def _head(watch: RunWatch, now_ms: int) -> Text:
    end_ms = watch.ended_ms or now_ms
    status = watch.state if watch.state == "cancelling" else watch.status
    return Text.assemble(
        (watch.workflow, "bold"),
        f"  {watch.run_id}  ",
        (status, _STYLES.get(status, "yellow")),
        (f"  {span(max(0, end_ms - watch.began_ms) / 1000)}", "dim"),
    )


def _outcome(watch: RunWatch, width: int) -> Text:
    if watch.error:
        return Text(f"  {error_text(watch.error)}", style="red")
    return Text.assemble("  result ", (value_text(watch.result, width - 12) or "null", "green"))


def _steps(
    rows: list[Row], now_ms: int, height: int, width: int, whole: tuple[int, int] | None
) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(width=3, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    if whole is not None:
        table.add_column(width=_FALL, no_wrap=True)
    room_aside = 40 if whole is None else 40 + _FALL + 1
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(20, width - room_aside))
    lines = list(_lines(rows, now_ms, _BAR if width >= _WIDE else _BAR // 2, whole))
    room = max(5, height - _LINES_AROUND)
    hidden = len(lines) - room
    for line in lines[hidden:] if hidden > 0 else lines:
        table.add_row(*line)
    if hidden > 0:
        return Group(Text(f"  … {hidden} earlier", style="dim"), table)
    return table


def _lines(
    rows: list[Row], now_ms: int, bar: int, whole: tuple[int, int] | None
) -> Iterator[tuple[RenderableType, ...]]:
    counts = Counter(row.name for row in rows)
    shown: set[str] = set()
    for row in rows:
        if counts[row.name] <= _MANY:
            some, line = [row], _line(row, now_ms)
        elif row.name not in shown:
            shown.add(row.name)
            some = [other for other in rows if other.name == row.name]
            line = _many(some, now_ms, bar)
        else:
            continue
        yield line if whole is None else (*line[:3], _fall(some, now_ms, whole), line[3])


def _fall(rows: list[Row], now_ms: int, whole: tuple[int, int]) -> Text:
    """Return when the rows went on, between the run's beginning and its end, as a bar."""
    begin_ms, end_ms = whole
    span_ms = max(1, end_ms - begin_ms)
    first = min(row.began_ms for row in rows)
    last = max(now_ms if row.status == "running" else row.ended_ms for row in rows)
    left = min(_FALL - 1, max(0, (first - begin_ms) * _FALL // span_ms))
    right = min(_FALL, max(left + 1, -((begin_ms - last) * _FALL // span_ms)))
    waits = all(row.kind != "step" for row in rows)
    failed = any(row.status == "failed" for row in rows)
    style = "red" if failed else "blue" if waits else "green"
    return Text.assemble(" " * left, (("┄" if waits else "━") * (right - left), style))


def _line(row: Row, now_ms: int) -> tuple[RenderableType, ...]:
    style = "dim" if row.status == "completed" else _STYLES[row.status]
    took = span(row.elapsed_s(now_ms))
    return _mark(row), Text(row.name), took, Text(detail(row, now_ms), style=style)


def _mark(row: Row) -> RenderableType:
    if row.status == "completed":
        return Text("✓", style="green")
    if row.status == "failed":
        return Text("✗", style="bold red")
    waiting = {"sleep": "☾", "event": "◌", "child": "▸"}.get(row.kind)
    return _SPINNER if waiting is None else Text(waiting, style="blue")


def _many(rows: list[Row], now_ms: int, width: int) -> tuple[RenderableType, ...]:
    """Return one line for many rows of one name."""
    states = Counter(row.status for row in rows)
    done = states["completed"] + states["failed"]
    took = max(row.elapsed_s(now_ms) for row in rows)
    if states["failed"]:
        mark: RenderableType = Text("✗", style="bold red")
    else:
        mark = Text("✓", style="green") if done == len(rows) else _SPINNER
    words = [f"{count:,} {state}" for state, count in sorted(states.items())]
    filled = width * done // len(rows)
    bar = Text.assemble(
        ("━" * filled, "green"), ("━" * (width - filled), "dim"), "  ", ", ".join(words)
    )
    return mark, Text(f"{rows[0].name} × {len(rows):,}"), span(took), bar
