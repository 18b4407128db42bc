"""What is drawn: each plot's numbers out of the results, without the library that draws.

A plot says in a comment which numbers it was drawn from, so a test that has no matplotlib can hold
that what is committed belongs to the committed results.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from benchmarks.report import ROOT
from benchmarks.rows import ROWS, Row, at, label, spread_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMAGES: Final = ROOT / "docs" / "images"
PREFIX: Final = "bench-"

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one colour of bars, with the ends of its whiskers where it has them."""

    label: str
    values: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes. `at` are names for bars, numbers for lines."""

    kind: Literal["bars", "lines", "steps"]
    at: list[Any]
    series: list[Series]
    x: str = ""
    y: str = ""
    log_x: bool = False
    log_y: bool = False
    mark: float | None = None
    """Where the yardstick lies."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One file."""

    name: str
    title: str
    alt: str
    panels: list[Panel]

    @property
    def path(self) -> Path:
        return IMAGES / f"{PREFIX}{self.name}.svg"

    @property
    def stamp(self) -> str:
        """Return what the file says of the numbers that it was drawn from."""
        numbers = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return f"<!-- drawn from {hashlib.sha256(numbers.encode()).hexdigest()[:16]} -->"


# ------------------------------------------------------------------------ the charts


def peers(figures: Figures) -> Chart:
    of = figures["peers"]["contestants"]
    names = list(of)
    shown = [
        f"{name}\n(keeps nothing)" if of[name]["durability"].startswith("nothing") else name
        for name in names
    ]
    series = [
        Series(
            label,
            [of[name][n]["median"] if n in of[name] else None for name in names],
            [of[name][n]["min"] if n in of[name] else None for name in names],
            [of[name][n]["max"] if n in of[name] else None for name in names],
        )
        for n, label in (("1", "1 in flight"), ("64", "64 in flight"))
    ]
    return Chart(
        "peers",
        "Runs of three steps a second",
        "Runs of three steps a second for each engine, at 1 and 64 in flight, logarithmic",
        [Panel("bars", shown, series, x="runs a second (logarithmic)", log_x=True)],
    )


def _ratios(name: str, title: str, scripts: tuple[str, ...]) -> Callable[[Figures], Chart]:
    def draw(figures: Figures) -> Chart:
        rows = [row for row in ROWS if row.script in scripts and row.ratio]
        spreads = [
            (_named(row, figures[row.script]), s)
            for row in rows
            if (s := _spread(figures, row.script, row.ratio)) is not None
        ]
        whiskers = Series(
            "median, min to max",
            [s["median"] for _, s in spreads],
            [s["min"] for _, s in spreads],
            [s["max"] for _, s in spreads],
        )
        panel = Panel(
            "bars", [n for n, _ in spreads], [whiskers], x="times its yardstick", mark=1.0
        )
        return Chart(name, title, f"{title}: median, min and max of each ratio", [panel])

    return draw


def _named(row: Row, of: dict[str, Any]) -> str:
    return f"{label(row, of)}\nbeside {row.beside}".replace("`", "")


def _spread(figures: Figures, script: str, place: str) -> dict[str, float] | None:
    try:
        return spread_at(figures[script], place)
    except LookupError:
        return None


def _by_size(name: str, title: str, y: str, places: dict[str, str]) -> Callable[[Figures], Chart]:
    def draw(figures: Figures) -> Chart:
        sizes = figures["scale"]["sizes"]
        series = [
            Series(label, [_middle(of.get(place)) for of in sizes.values()])
            for place, label in places.items()
            if any(place in of for of in sizes.values())
        ]
        xs = [int(size) for size in sizes]
        panel = Panel("lines", xs, series, x="waiting runs", y=y, log_x=True)
        return Chart(name, title, f"{title}, from {xs[0]:,} to {xs[-1]:,}", [panel])

    return draw


def _middle(value: Any) -> float | None:
    return value["median"] if isinstance(value, dict) else value


def tail(figures: Figures) -> Chart:
    of = figures["tail"]
    edges = of["edges_ms"]
    panels = []
    for what in ("trigger", "step"):
        series = [
            Series(label, [_share(count, of[f"{how}_{what}_counts"]) for count in counts])
            for how, label in _HOWS
            if (counts := at(of, f"{how}_{what}_counts"))
        ]
        panels.append(
            Panel(
                "steps",
                edges,
                series,
                x=f"ms from asking for a {what} to its answer (logarithmic)",
                y="share (logarithmic)",
                log_x=True,
                log_y=True,
            )
        )
    return Chart(
        "tail",
        "How long a trigger and a step take",
        "Shares of triggers and of steps by milliseconds, alone and with everything else going on",
        panels,
    )


_HOWS: Final = (
    ("alone", "alone"),
    ("busy", "with everything else"),
    ("recovering", "while recovered runs go on"),
)


def _share(count: int, counts: list[int]) -> float | None:
    return count / sum(counts) if count else None


def soak(figures: Figures) -> Chart:
    of = figures["soak"]
    rows = of["stretches"]
    minutes = [round((n + 1) * of["stretch_s"] / 60, 2) for n in range(len(rows))]

    def series(place: str, label: str) -> Series:
        return Series(label, [row[place] for row in rows])

    return Chart(
        "soak",
        f"{minutes[-1]:.0f} minutes at half the peak",
        "Resident memory, p50 and p99 of a run, minute by minute",
        [
            Panel("lines", minutes, [series("rss_mib", "resident memory")], y="MiB"),
            Panel(
                "lines",
                minutes,
                [series("p50_ms", "p50 of a run"), series("p99_ms", "p99 of a run")],
                x="minute",
                y="ms (logarithmic)",
                log_y=True,
            ),
        ],
    )


# Which scripts' results it takes, and what draws it.
CHARTS: Final[dict[str, tuple[tuple[str, ...], Callable[[Figures], Chart]]]] = {
    "peers": (("peers",), peers),
    "in-process": (
        ("in_process",),
        _ratios("in-process", "Runs in process", ("in_process",)),
    ),
    "http": (
        ("http_triggers",),
        _ratios("http", "Over HTTP", ("http_triggers",)),
    ),
    "fan-out": (("fan_out",), _ratios("fan-out", "Events to many subscribers", ("fan_out",))),
    "memory": (
        ("scale",),
        _by_size("memory", "Memory a waiting run", "bytes", {"bytes_a_run": "beside its payload"}),
    ),
    "cost": (
        ("scale",),
        _by_size(
            "cost",
            "What one more costs",
            "µs of CPU time",
            {
                "run_us": "one more run",
                "step_us": "one more step",
                "waiter_us": "one more waiter",
                "timer_us": "one more timer",
                "subscriber_us": "one more subscriber",
                "wake_us": "one more wake-up",
                "get_us": "one run found by id",
            },
        ),
    ),
    "tail": (("tail",), tail),
    "soak": (("soak",), soak),
}


def chart(name: str, figures: Figures) -> Chart | None:
    """Return the chart, or None where a script that it needs has no results."""
    scripts, draw = CHARTS[name]
    return draw(figures) if all(script in figures for script in scripts) else None


def charts(figures: Figures) -> Iterator[Chart]:
    """Yield each chart that the results suffice for."""
    for name in CHARTS:
        if found := chart(name, figures):
            yield found
