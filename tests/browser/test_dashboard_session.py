"""The dashboard's login in a real browser: in, out, shared, forged, and below a prefix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.browser_kit import KEY, Site
from tests.browser.dashboard_kit import ORDER, Dashboard, dashboard_service, sign_in
from tests.browser.prefix_proxy import PrefixProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Page, Service

INSIDE = "document.querySelector('.top nav') && document.querySelector('main section')"
LOGIN = "document.querySelector('#key')"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with dashboard_service(tmp_path / "data") as service:
        yield service


def enter(page: Page, key: str) -> None:
    page.until(LOGIN)
    page.eval(
        f"(() => {{ const key = {LOGIN}; key.value = {json.dumps(key)};"
        " key.form.requestSubmit(); })()"
    )


def sign_out(page: Page) -> None:
    page.eval("document.querySelector('[aria-label=\"Sign out\"]').click()")
    page.until(LOGIN)


def clean(page: Page) -> None:
    """The page has broken no rule of its own, and no key or session is where it can be read."""
    heard = page.heard()
    assert heard["violations"] == []
    assert [line for line in heard["console"] if "uncaught" in line] == []
    assert page.eval("document.cookie") == ""
    kept = page.eval("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href])")
    assert KEY not in kept
    assert "ses_" not in kept
    assert not [seen["url"] for seen in page.requests() if KEY in seen["url"]]


def runs_of(service: Service) -> int:
    return len(service.http.get("/runs").json()["runs"])


# ---------------------------------------------------------------- in and out


def test_a_wrong_key_stays_outside_and_a_right_one_stays_inside(
    browser: Browser, served: Service
) -> None:
    page = browser.open(f"{served.url}/ui/")
    enter(page, "not-the-key-0123456789")
    page.until("document.querySelector('#login-wrong').innerText")
    assert page.eval(f"Boolean({INSIDE})") is False
    enter(page, KEY)
    page.until(INSIDE)
    clean(page)
    # Another tab, and the same after the server was killed: nobody is asked again.
    served.kill()
    served.start()
    other = browser.open(f"{served.url}/ui/#/workflows")
    other.until(INSIDE)
    Dashboard(other).sees("order")
    clean(other)


def test_signing_out_ends_it_in_every_tab(browser: Browser, served: Service) -> None:
    tab, other = sign_in(browser, served), sign_in(browser, served)
    sent = [seen["headers"].get("cookie", "") for seen in tab.page.requests(ending="/runs")]
    copied = next(text for text in reversed(sent) if text)
    with httpx.Client(base_url=served.url) as thief:
        assert thief.get("/runs", headers={"Cookie": copied}).status_code == 200
        sign_out(tab.page)
        assert thief.get("/runs", headers={"Cookie": copied}).status_code == 401
    other.go("/workflows")
    other.page.until(LOGIN)
    clean(tab.page)


def test_what_the_page_offers_follows_the_keys_scopes(browser: Browser, served: Service) -> None:
    key = served.post("/keys", {"name": "reader", "scopes": ["read"]})
    page = browser.open(f"{served.url}/ui/#/workflows/order")
    enter(page, key["key"])
    page.until(INSIDE)
    assert "Keys" not in page.eval("document.querySelector('.top nav').innerText")
    Dashboard(page).sees("order")
    answer = "fetch('../trigger/order', {method: 'POST', body: '{}'}).then((r) => r.status)"
    assert page.eval(answer) == 403
    # Its key is revoked under the open page.
    assert served.http.delete(f"/keys/{key['id']}").status_code == 200
    Dashboard(page).go("/runs")
    page.until(LOGIN)


def test_without_authentication_the_page_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    with dashboard_service(tmp_path / "data", "--no-auth", STEPFLOW_API_KEYS="") as service:
        page = browser.open(f"{service.url}/ui/")
        page.until(INSIDE)
        assert page.eval("document.querySelector('[aria-label=\"Sign out\"]')") is None
        assert page.eval("fetch('../session').then((r) => r.json()).then((s) => s.kind)") == (
            "anonymous"
        )
        clean(page)


# ---------------------------------------------------------------- shared


def test_a_shared_run_is_read_by_who_has_the_link_and_nothing_else_is(
    browser: Browser, served: Service
) -> None:
    run = served.post("/trigger/order", ORDER)
    token = run["publicAccessToken"]
    page = browser.open(f"{served.url}/ui/#/share/{run['runId']}?token={token}")
    Dashboard(page).sees("payment")
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 12})
    Dashboard(page).sees("completed")
    # The page itself was asked for without the token, and no answer was told where it came from.
    for seen in page.requests():
        url = httpx.URL(seen["url"])
        assert "referer" not in seen["headers"] or "pat_" not in seen["headers"]["referer"]
        assert "cookie" not in seen["headers"]
        if "pat_" in seen["url"]:
            assert url.path.startswith(f"/runs/{run['runId']}")
            assert seen["method"] == "GET"
    names = page.eval("[...document.querySelectorAll('main button')].map((b) => b.innerText)")
    assert not {"Cancel", "Retry", "Purge", "Notify"} & {name.strip() for name in names}
    assert page.eval("document.querySelector('.top nav')") is None
    other = served.post("/trigger/order", {**ORDER, "id": "o-2"})["runId"]
    for path, status in ((f"runs/{other}", 404), ("runs", 403), ("session", 403), ("keys", 403)):
        code = f"fetch('../{path}?token={token}').then((r) => r.status)"
        assert page.eval(code) == status, path
    assert page.heard()["violations"] == []


# ---------------------------------------------------------------- forged

FORGERIES = {
    "trigger": "fetch('{url}/trigger/order', {{method: 'POST', body: '{{}}', {how}}})",
    "purge": "fetch('{url}/runs/{run}', {{method: 'DELETE', {how}}})",
    "logout": "fetch('{url}/session', {{method: 'DELETE', {how}}})",
    "login": "fetch('{url}/session', {{method: 'POST', body: '{{\"key\":\"{key}\"}}', {how}}})",
    "read": "fetch('{url}/runs', {{{how}}}).then((r) => r.text())",
}


def test_a_page_of_another_origin_does_nothing_with_the_session(
    browser: Browser, served: Service
) -> None:
    """Another port of this host is the same site: the browser sends it the cookie all the same."""
    tab = sign_in(browser, served)
    served.post("/trigger/order", ORDER)
    run = served.http.get("/runs").json()["runs"][0]["id"]
    site = Site()
    try:
        evil = browser.open(f"{site.origin}/watch.html")
        for how in ("mode: 'no-cors', credentials: 'include'", "credentials: 'include'"):
            for name, code in FORGERIES.items():
                made = code.format(url=served.url, run=run, key=KEY, how=how)
                got = evil.eval(
                    f"{made}.then((r) => typeof r === 'string' ? r : r.type, (e) => e.name)"
                )
                assert got in {"opaque", "TypeError", ""}, name
        cookies = [seen["headers"].get("cookie", "") for seen in evil.requests()]
        assert any("stepflow_session=ses_" in text for text in cookies)
        # A form, which asks nobody before it is sent.
        evil.eval(
            "(() => { const form = document.createElement('form'); form.method = 'post';"
            f" form.action = '{served.url}/trigger/order'; form.enctype = 'text/plain';"
            " form.target = 'result'; const frame = document.createElement('iframe');"
            " frame.name = 'result'; document.body.append(frame, form); form.submit(); })()"
        )
        evil.until("document.querySelector('iframe').contentWindow.length === 0")
        assert runs_of(served) == 1
        assert served.http.get(f"/runs/{run}").status_code == 200
        assert tab.page.eval("fetch('../session').then((r) => r.status)") == 200
    finally:
        site.close()


def test_a_login_forged_from_another_origin_changes_nobody(
    browser: Browser, served: Service
) -> None:
    site = Site()
    try:
        evil = browser.open(f"{site.origin}/watch.html")
        code = FORGERIES["login"].format(
            url=served.url, key=KEY, how="mode: 'no-cors', credentials: 'include'"
        )
        assert evil.eval(f"{code}.then((r) => r.type)") == "opaque"
    finally:
        site.close()
    page = browser.open(f"{served.url}/ui/")
    page.until(LOGIN)
    assert page.eval("fetch('../session').then((r) => r.status)") == 401


def test_nobody_frames_the_dashboard(browser: Browser, served: Service) -> None:
    sign_in(browser, served)
    site = Site()
    try:
        evil = browser.open(f"{site.origin}/watch.html")
        loaded: Any = evil.eval(
            "new Promise((done) => { const frame = document.createElement('iframe');"
            f" frame.src = '{served.url}/ui/'; frame.onload = () => done(frame.contentDocument);"
            " document.body.append(frame); })"
        )
        assert loaded is None
        assert any("frame" in line for line in evil.heard()["console"])
    finally:
        site.close()


# ---------------------------------------------------------------- below a prefix


def test_below_a_base_path_the_cookie_is_for_that_path_alone(
    browser: Browser, tmp_path: Path
) -> None:
    with dashboard_service(tmp_path / "data", base_path="/a/ui/flows") as service:
        tab = sign_in(browser, service)
        tab.go("/workflows")
        tab.sees("order")
        clean(tab.page)
        codes = [f"fetch('{path}')" for path in ("/a/ui/flows/runs", "/a/ui/other", "/a/ui/flowsx")]
        tab.page.eval(f"Promise.all([{', '.join(codes)}]).then(() => true)")
        sent = {
            httpx.URL(seen["url"]).path: "stepflow_session" in seen["headers"].get("cookie", "")
            for seen in tab.page.requests()
        }
        assert sent["/a/ui/flows/runs"] is True
        assert sent["/a/ui/other"] is sent["/a/ui/flowsx"] is False
        tab.page.shut()
        again = browser.open(f"{service.url}/ui")
        again.until(INSIDE)
        sign_out(again)


def test_behind_a_proxy_that_takes_a_prefix_away_everything_works(
    browser: Browser, served: Service
) -> None:
    proxy = PrefixProxy(served.port, "/gw/flows")
    try:
        for path in ("/ui", "/ui/"):
            page = browser.open(f"{proxy.url}{path}")
            enter(page, KEY)
            page.until(INSIDE)
            tab = Dashboard(page)
            run = served.post("/trigger/order", ORDER)
            tab.go(f"/runs/{run['runId']}")
            tab.sees("payment")
            tab.click("Notify")
            tab.fill("Payload", '{"amount": 12}')
            tab.click("Notify", "dialog")
            tab.sees("It completed")
            clean(page)
            paths = {httpx.URL(seen["url"]).path for seen in page.requests()}
            assert all(each.startswith("/gw/flows/") for each in paths)
            sign_out(page)
            page.shut()
    finally:
        proxy.close()
