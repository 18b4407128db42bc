"""Draw the charts into docs/images: `make plots`. Needs the `plots` group of dependencies.

The files are the same for the same numbers, readable on light and on dark pages (the inks change
with the reader's preference, where the viewer knows it; else they stand on white), and their text
is text. Colours are told apart by those who see few, and never alone: lines have markers, bars
hatches.
"""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

mpl.use("svg")

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import results, table
from benchmarks.charts import IMAGES, PREFIX, Chart, Panel, Series, charts
from benchmarks.inks import DARK, LIGHT, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
HATCHES: Final = ("", "///", "...", "xxx", "---", "|||")
WIDTH: Final = 8.0
STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stepflow",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "text.color": LIGHT.ink,
    "axes.edgecolor": LIGHT.ink,
    "axes.labelcolor": LIGHT.ink,
    "xtick.color": LIGHT.ink,
    "ytick.color": LIGHT.ink,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LIGHT.grid,
    "figure.facecolor": LIGHT.paper,
    "axes.facecolor": LIGHT.paper,
    "hatch.color": LIGHT.paper,
    "hatch.linewidth": 1.5,
    "legend.frameon": False,
}


def drawn(chart: Chart) -> str:
    """Return the chart as SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(_height(panel) for panel in chart.panels) + 0.5))
        shares = [_height(panel) for panel in chart.panels]
        axes = figure.subplots(len(chart.panels), 1, squeeze=False, height_ratios=shares)
        for place, panel in zip(axes[:, 0], chart.panels, strict=True):
            {"bars": _bars, "lines": _lines, "steps": _steps}[panel.kind](place, panel)
            place.set_xlabel(panel.x)
            place.set_ylabel(panel.y)
        figure.suptitle(chart.title, fontsize=12)
        figure.tight_layout()
        with io.BytesIO() as file:
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            return _finished(chart, file.getvalue().decode())


def _height(panel: Panel) -> float:
    if panel.kind == "bars":
        return 0.9 + len(panel.at) * (0.28 * len(panel.series) + 0.25)
    return 2.6


def _bars(axes: Axes, panel: Panel) -> None:
    thick = 0.8 / len(panel.series)
    for number, series in enumerate(panel.series):
        places = [n + (number - (len(panel.series) - 1) / 2) * thick for n in range(len(panel.at))]
        axes.barh(
            places,
            [value or 0 for value in series.values],
            thick * 0.9,
            label=series.label,
            color=SERIES[number],
            hatch=HATCHES[number],
            xerr=_whiskers(series),
            error_kw={"ecolor": LIGHT.ink, "elinewidth": 1, "capsize": 3},
        )
        for place, value, high in zip(
            places, series.values, series.high or series.values, strict=True
        ):
            if value is not None and high is not None:
                axes.annotate(
                    f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
                    (high, place),
                    (5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                )
    axes.set_yticks(range(len(panel.at)), panel.at)
    axes.invert_yaxis()
    if panel.log_x:
        axes.set_xscale("log")
    axes.margins(x=0.12)
    _with_thousands(axes, "x")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    if panel.mark is not None:
        axes.axvline(panel.mark, color=LIGHT.ink, linestyle="--", linewidth=1)
    if len(panel.series) > 1:
        axes.legend()


def _whiskers(series: Series) -> list[list[float]] | None:
    if series.low is None or series.high is None:
        return None
    rows = zip(series.values, series.low, series.high, strict=True)
    ends = [(0.0, 0.0) if v is None else (v - (a or 0), (b or 0) - v) for v, a, b in rows]
    return [[below for below, _ in ends], [above for _, above in ends]]


def _lines(axes: Axes, panel: Panel) -> None:
    many = len(panel.at) > 20
    for number, series in enumerate(panel.series):
        axes.plot(
            panel.at,
            [float("nan") if value is None else value for value in series.values],
            label=series.label,
            color=SERIES[number],
            marker=MARKERS[number],
            markevery=5 if many else 1,
            markersize=5,
        )
    _scaled(axes, panel)
    if not panel.log_y:
        most = max((v for series in panel.series for v in series.values if v), default=1.0)
        axes.set_ylim(0, 1.25 * most)
    axes.legend()


def _steps(axes: Axes, panel: Panel) -> None:
    """Draw shares between edges; what lies above the last edge is its last step."""
    edges = [panel.at[0] / 2, *panel.at, panel.at[-1] * 2]
    for number, series in enumerate(panel.series):
        values = [value or 0.0 for value in series.values]
        axes.stairs(values, edges, label=series.label, color=SERIES[number], linewidth=1.8)
        middles = [(a * b) ** 0.5 for a, b in pairwise(edges)]
        axes.plot(
            middles[::4],
            [value or float("nan") for value in values[::4]],
            linestyle="",
            marker=MARKERS[number],
            markersize=5,
            color=SERIES[number],
        )
    _scaled(axes, panel)
    axes.legend()


def _scaled(axes: Axes, panel: Panel) -> None:
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
    _with_thousands(axes, "x")
    _with_thousands(axes, "y")
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _with_thousands(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def _finished(chart: Chart, svg: str) -> str:
    """Add what the file was drawn from, what it shows, and the inks of a dark page."""
    # Matplotlib's metadata name the library and its version, which would change the file.
    svg = re.sub(r" *<metadata>.*?</metadata>\n", "", svg, flags=re.DOTALL)
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in zip(LIGHT.all(), DARK.all(), strict=True)
        for kind in ("fill", "stroke")
    )
    text = f"text:not([style*=fill]){{fill:{DARK.ink}}}"
    head = (
        f"{chart.stamp}\n<title>{chart.alt}</title>\n<style>text{{fill:{LIGHT.ink}}}"
        f"@media (prefers-color-scheme: dark){{{rules}{text}}}</style>\n"
    )
    svg = re.sub(r"(<svg [^>]*>\n)", lambda m: m[1] + head, svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> None:
    figures = results.read()[results.FULL]
    IMAGES.mkdir(exist_ok=True)
    wanted = {chart.path: chart for chart in charts(figures)}
    for path in IMAGES.glob(f"{PREFIX}*.svg"):
        if path not in wanted:
            path.unlink()
    for path, chart in wanted.items():
        path.write_text(drawn(chart), encoding="utf-8")
        print(path.name)
    table.write()


if __name__ == "__main__":
    main()
