"""`/docs` needs nothing but itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from tests.browser.browser_kit import Browser, Service


def test_the_docs_page_draws_itself_without_any_other_request(
    browser: Browser, service: Service
) -> None:
    page = browser.open(f"{service.url}/docs")
    assert page.status == 200
    text = page.until("document.body.innerText")
    for path in ("/trigger/{workflowId}", "/runs/{runId}/stream", "/notify/{eventId}"):
        assert path in text
    hosts = {httpx.URL(seen["url"]).netloc.decode() for seen in page.requests()}
    assert hosts == {f"127.0.0.1:{service.port}"}
    assert [seen["type"] for seen in page.requests()] == ["document"]
    assert page.heard() == {"console": [], "violations": []}


def test_the_docs_page_lets_no_other_script_run(browser: Browser, service: Service) -> None:
    page = browser.open(f"{service.url}/docs")
    page.eval(
        "document.body.append(Object.assign(document.createElement('script'),"
        " { text: 'globalThis.pwned = true' }))"
    )
    assert page.eval("globalThis.pwned ?? null") is None
    page.until("true")
    assert any("script-src" in line for line in page.heard()["violations"])
