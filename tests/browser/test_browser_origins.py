"""A page on another site may call when its exact origin is listed, and not otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser.browser_kit import KEY, Service, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Page

CLOSED = 2


@pytest.fixture
def service(site: Site, tmp_path: Path) -> Iterator[Service]:
    """A service that lists the origin of `site`."""
    service = Service(tmp_path / "data", STEPFLOW_CORS_ORIGINS=site.origin)
    yield service
    service.close()


@pytest.fixture
def stranger() -> Iterator[Site]:
    """The same pages on an origin that is not listed."""
    stranger = Site()
    yield stranger
    stranger.close()


def trigger_from(page: Page, service: Service) -> str:
    """Have the page start a run with its key; return the status, or what fetch raised."""
    options = {
        "method": "POST",
        "headers": {"X-API-Key": KEY, "Content-Type": "application/json", "Idempotency-Key": "one"},
        "body": "{}",
    }
    url = json.dumps(f"{service.url}/trigger/staged")
    return page.eval(
        f"fetch({url}, {json.dumps(options)}).then((r) => String(r.status), (e) => e.name)"
    )


def test_a_listed_origin_triggers_and_streams(
    browser: Browser, service: Service, site: Site
) -> None:
    page, run = browser.open(f"{site.origin}/watch.html"), service.trigger()
    assert trigger_from(page, service) == "200"
    page.watch("run", service.url + run.stream_path)
    page.until("diary.run.events.length")
    service.cut()
    service.open_gate(run, 0)
    assert page.until("diary.run.ended") == "complete"
    assert page.events("run") == service.fresh_read(run)
    assert page.diary("run")["opens"] == 2


def test_another_origin_gets_nothing(browser: Browser, service: Service, stranger: Site) -> None:
    page, run = browser.open(f"{stranger.origin}/watch.html"), service.trigger()
    assert trigger_from(page, service) == "TypeError"
    page.watch("run", service.url + run.stream_path, reopens=False)
    page.until(f"sources.run.readyState == {CLOSED}")
    notes = page.diary("run")
    assert (notes["opens"], notes["events"], notes["refusals"]) == (0, [], 1)


def test_without_a_list_no_other_origin_is_allowed(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    closed = Service(tmp_path / "closed")
    try:
        page, run = browser.open(f"{site.origin}/watch.html"), closed.trigger()
        page.watch("run", closed.url + run.stream_path, reopens=False)
        page.until(f"sources.run.readyState == {CLOSED}")
        assert page.diary("run")["events"] == []
    finally:
        closed.close()
