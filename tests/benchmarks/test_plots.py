"""The committed plots are those of the committed results, and can be read by everybody."""

from __future__ import annotations

import importlib.util
import itertools
import re

import pytest

from benchmarks import results
from benchmarks.charts import CHARTS, IMAGES, PREFIX, Chart, Panel, Series, charts
from benchmarks.inks import DARK, LIGHT, SERIES, contrast
from benchmarks.report import ROOT


def committed():
    return list(charts(results.read()[results.FULL]))


def test_each_plot_was_drawn_from_the_committed_results():
    stale = [
        chart.path.name
        for chart in committed()
        if not chart.path.exists() or chart.stamp not in chart.path.read_text(encoding="utf-8")
    ]
    assert stale == [], "make plots"


def test_no_plot_is_there_that_no_results_give():
    there = {path.name for path in IMAGES.glob(f"{PREFIX}*.svg")}
    assert there == {chart.path.name for chart in committed()}


def test_every_plot_stands_in_the_page_on_performance():
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert [name for name in CHARTS if f"<!-- results: {name}-plot -->" not in page] == []


def test_plots_say_what_they_show_and_know_dark_pages():
    for chart in committed():
        svg = chart.path.read_text(encoding="utf-8")
        assert f"<title>{chart.alt}</title>" in svg
        assert "prefers-color-scheme: dark" in svg
        assert "<text" in svg


def test_other_numbers_have_another_stamp():
    one, other = (
        Chart("x", "x", "x", [Panel("bars", ["a"], [Series("s", [value])])]) for value in (1.0, 2.0)
    )
    assert one.stamp != other.stamp


@pytest.mark.parametrize("inks", [LIGHT, DARK])
def test_text_and_series_stand_out_from_the_paper(inks):
    assert contrast(inks.ink, inks.paper) > 7
    assert all(contrast(colour, inks.paper) > 3 for colour in SERIES)


def test_inks_are_told_apart_by_name():
    """A dark page replaces colours by what they are: no two may be the same."""
    assert len({*LIGHT.all(), *SERIES}) == len(LIGHT.all()) + len(SERIES)
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in itertools.chain(LIGHT.all(), SERIES))


# Where they can be drawn, as in CI (make plots-env); no program of the tests' needs them elsewhere.
if importlib.util.find_spec("matplotlib"):

    def test_the_same_numbers_give_the_same_file():
        from benchmarks.plots import drawn

        bars = Panel(
            "bars", ["a", "b"], [Series("s", [1.0, None], [0.5, None], [2.0, None])], mark=1.0
        )
        lines = Panel("lines", [1, 10], [Series("s", [1.0, 2.0])], log_x=True)
        steps = Panel("steps", [1, 10], [Series("s", [0.5, None, 0.5])], log_x=True, log_y=True)
        chart = Chart("x", "a title", "what it shows", [bars, lines, steps])
        assert drawn(chart) == drawn(chart)
        assert chart.stamp in drawn(chart)
        assert "/usr" not in drawn(chart)
