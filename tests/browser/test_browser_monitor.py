"""The page of the examples shows a run live, to its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.browser.browser_kit import Service, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.browser_kit import Browser, Page, Watched

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(EXAMPLES)
    yield site
    site.close()


@pytest.fixture
def service(site: Site, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data", STEPFLOW_CORS_ORIGINS=site.origin)
    yield service
    service.close()


def monitor(browser: Browser, site: Site, service: Service, run: Watched) -> Page:
    query = urlencode({"base": service.url, "runId": run.id, "token": run.token})
    return browser.open(f"{site.origin}/monitor.html?{query}")


def test_the_monitor_shows_a_run_live_to_its_end(
    browser: Browser, site: Site, service: Service
) -> None:
    run = service.trigger()
    page = monitor(browser, site, service, run)
    page.until("document.body.innerText.includes('waiting for event gate-0')")
    assert page.eval("document.getElementById('status').textContent") == "running"
    service.cut()
    service.open_gate(run, 0)
    page.until("seen.ended")
    assert page.eval("document.getElementById('status').textContent") == "completed"
    assert '{"stages":1}' in page.eval("document.body.innerText")
    assert page.eval("document.querySelectorAll('li:not(.completed)').length") == 0
    assert page.eval("seen.ids.map(String)") == [event[0] for event in service.fresh_read(run)]
    assert page.eval("[seen.opens, seen.drops]") == [2, 1]


def test_the_monitor_shows_why_a_run_failed(browser: Browser, site: Site, service: Service) -> None:
    run = service.trigger(fails=True)
    page = monitor(browser, site, service, run)
    service.open_gate(run, 0)
    page.until("seen.ended")
    assert page.eval("document.getElementById('status').textContent") == "failed"
    assert "the card was refused" in page.eval("document.getElementById('result').textContent")
