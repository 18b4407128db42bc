"""How a programme is shown: live lines in a terminal, plain ones in a pipe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from tests.torture.parts import Part
    from tests.torture.process import Outcome

EVERY_S: Final = 10.0
"""How often a part may speak where lines stay."""


class Plain:
    """A line for each start, each end, and now and then what a part says."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._spoke: dict[tuple[str, int], float] = {}

    def started(self, part: Part, seed: int, seconds: float) -> None:
        self._line(part.name, f"{part.what}, {seconds:.0f} s, seed {seed}")

    def said(self, part: Part, seed: int, text: str) -> None:
        now = time.monotonic()
        if now - self._spoke.get((part.name, seed), now - EVERY_S) >= EVERY_S:
            self._spoke[part.name, seed] = now
            self._line(part.name, text)

    def ended(self, outcome: Outcome) -> None:
        self._line(outcome.part, ending(outcome))

    def _line(self, name: str, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {name:9} {text}", flush=True)


class Lively:
    """One line a part that changes in its place. A context manager."""

    def __init__(self, console: Console) -> None:
        self._rows: dict[tuple[str, int], tuple[float, float, str]] = {}
        self._ended: dict[tuple[str, int], Outcome] = {}
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, part: Part, seed: int, seconds: float) -> None:
        self._rows[part.name, seed] = (time.monotonic(), seconds, part.what)

    def said(self, part: Part, seed: int, text: str) -> None:
        began, seconds, _ = self._rows[part.name, seed]
        self._rows[part.name, seed] = (began, seconds, text)

    def ended(self, outcome: Outcome) -> None:
        self._ended[outcome.part, outcome.seed] = outcome

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, padding=(0, 1))
        for (name, seed), (began, seconds, text) in self._rows.items():
            outcome = self._ended.get((name, seed))
            if outcome is None:
                clock = f"{time.monotonic() - began:.0f} of {seconds:.0f} s"
                table.add_row(Text(name), Text(clock), Text(text, no_wrap=True))
            else:
                style = "green" if outcome.passed else "bold red"
                clock = f"{outcome.took_s:.0f} s"
                table.add_row(Text(name, style), Text(clock), Text(ending(outcome), no_wrap=True))
        return table


def ending(outcome: Outcome) -> str:
    """Return in a line how the part ended."""
    left = f"; killed what it left: {', '.join(outcome.left)}" if outcome.left else ""
    if outcome.passed:
        counted = ", ".join(f"{count:,} {name}" for name, count in outcome.counts.items() if count)
        return f"passed: {counted or 'nothing counted'}{left}"
    return f"{outcome.verdict.upper()}: {outcome.why.splitlines()[0]}{left}"
