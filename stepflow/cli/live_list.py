"""A live list of runs in a terminal. Needs rich.

::

    12 running  1 failed  340 completed   workflow checkout   4.2 ended a second
    ● run_4fXo…  checkout  running     12s  charge
    ✓ run_9aQm…  checkout  completed  0.4s  {"ok":true}
    ✗ run_0mYq…  checkout  failed     3.1s  CardError: declined (step charge)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from stepflow.cli.render import short, span
from stepflow.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stepflow.cli.run_list import ListRow, RunList
    from stepflow.model.all_event import AllEvent

__all__ = ["LiveList", "list_picture"]

_LINES_AROUND: Final = 4
_STYLES: Final = {
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "pending": "dim",
}
_MARKS: Final = {"completed": "✓", "failed": "✗", "cancelled": "⊘", "running": "●", "pending": "○"}
_ORDER: Final = ("running", "pending", "failed", "cancelled", "completed")


class LiveList:
    """The display."""

    has_counts: ClassVar[bool] = True

    def __init__(self, runs: RunList, console: Console | None = None) -> None:
        self._runs = runs
        self._console = console or Console()
        self._lost = ""
        self._live = RichLive(
            console=self._console, get_renderable=self._picture, refresh_per_second=8, screen=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: AllEvent, row: ListRow | None) -> None:
        del event, row  # the picture is drawn several times a second anyway

    def lost(self, why: str) -> None:
        self._lost = why

    def _picture(self) -> RenderableType:
        now_ms = SystemClock().wall_ms()
        size = self._console.size
        return list_picture(
            self._runs, now_ms, height=size.height, width=size.width, lost=self._lost
        )


def list_picture(
    runs: RunList, now_ms: int, *, height: int = 40, width: int = 80, lost: str = ""
) -> RenderableType:
    """Return the list as it is now."""
    rows = runs.shown()
    room = max(3, height - _LINES_AROUND)
    parts: list[RenderableType] = [_head(runs)]
    if rows:
        parts.append(_table(rows[:room], now_ms, width))
    else:
        parts.append(Text("  no runs yet: stepflow trigger WORKFLOW '{}'", style="dim"))
    if len(rows) > room:
        parts.append(Text(f"  … {len(rows) - room:,} more", style="dim"))
    if lost:
        parts.append(Text(f"  connection lost, trying again: {short(lost)}", style="yellow"))
    return Group(*parts)


def _head(runs: RunList) -> Text:
    counts = runs.counts()
    words = [
        (f"{counts[status]:,} {status}  ", _STYLES[status]) for status in _ORDER if counts[status]
    ]
    ended = sum(runs.ended_total.values())
    since = f" {runs.began_total:,} begun, {ended:,} ended since you look"
    return Text.assemble(*words, (since, "dim"))


def _table(rows: list[ListRow], now_ms: int, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(width=3, justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(12, width // 5))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(16, width - 70))
    for row in rows:
        style = _STYLES.get(row.status, "")
        age_s = row.age_s(now_ms)
        table.add_row(
            Text(_MARKS.get(row.status, "?"), style=style),
            Text(row.run_id),
            Text(short(row.workflow)),
            Text(row.status, style=style),
            "" if age_s is None else span(age_s),
            Text(row.doing, style="red" if row.status == "failed" else "dim"),
        )
    return table
