"""The list of runs stays live and small while runs come: `make dashboard-soak`, in short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.dashboard_kit import dashboard_service
from tests.browser.dashboard_soak import Feed, Tab

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.browser_kit import Browser

RUNS = 2000
ROUNDS = 8
A_ROUND = 40
ROWS_MOST = 80  # what a window of 800 pixels has, and what is drawn above and below it


def test_a_list_of_thousands_stays_live_and_draws_no_more_than_is_in_sight(
    browser: Browser, tmp_path: Path
) -> None:
    with dashboard_service(tmp_path / "data") as service:
        feed = Feed(service)
        feed.until_done(feed.start(RUNS, steps=0))
        tab = Tab(browser, service)
        tab.load(RUNS)
        costs = []
        for _ in range(ROUNDS):
            tab.shows_on_top(feed.start(A_ROUND, steps=3))
            costs.append(tab.cost())
        first, last = costs[1], costs[-1]
        assert all(cost.browser_bytes > cost.heap_bytes > 0 for cost in costs)
        assert first.total < last.total
        assert last.total >= RUNS + A_ROUND
        assert 0 < max(cost.rows for cost in costs) <= ROWS_MOST
        assert last.elements <= first.elements * 1.2
        assert last.nodes <= first.nodes * 1.5
