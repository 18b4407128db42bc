"""The dashboard in a browser: it is drawn, asks nothing of anybody else, and lets nothing in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from tests.browser.browser_kit import Browser, Service


def test_the_dashboard_draws_itself_from_this_server_alone(
    browser: Browser, service: Service
) -> None:
    for path in ("/ui", "/ui/"):
        page = browser.open(f"{service.url}{path}")
        assert page.status == 200
        page.until("document.querySelector('#app').innerText.length")
        hosts = {httpx.URL(seen["url"]).netloc.decode() for seen in page.requests()}
        assert hosts == {f"127.0.0.1:{service.port}"}
        assert page.heard()["violations"] == []


def test_a_browser_that_comes_without_a_path_lands_on_the_dashboard(
    browser: Browser, service: Service
) -> None:
    page = browser.open(f"{service.url}/")
    assert page.eval("location.pathname") == "/ui/"


def test_the_dashboard_makes_no_markup_out_of_text(browser: Browser, service: Service) -> None:
    page = browser.open(f"{service.url}/ui/")
    attempt = "try { document.body.innerHTML = '<b>' } catch (error) { return error.message }"
    assert "TrustedHTML" in page.eval(f"(() => {{ {attempt} }})()")
    page.eval(
        "document.body.append(Object.assign(document.createElement('img'),"
        " { src: 'http://127.0.0.1:1/x' }))"
    )
    page.until("true")
    heard = page.heard()["violations"]
    assert any("require-trusted-types-for" in line for line in heard)
    assert any("img-src" in line for line in heard)
