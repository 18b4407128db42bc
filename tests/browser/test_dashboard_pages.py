"""The dashboard for everybody: by keys, by screen reader, whatever it shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.browser_kit import HERE
from tests.browser.dashboard_app import HOSTILE
from tests.browser.dashboard_kit import ORDER, Dashboard, dashboard_service, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Page, Service

PAGES = {
    "#/runs": ".run-row",
    "#/workflows/order": "#trigger",
    "#/events": "table",
    "#/schedules": "table",
    "#/system": ".tile",
    "#/keys": "table",
}
WIDTHS = {"wide": 1280, "narrow": 360}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with dashboard_service(tmp_path / "data") as service:
        yield service


def populate(service: Service) -> str:
    """Have runs of every kind; return one that waits, with all kinds of steps."""
    service.post("/trigger/ledger", "o-7")
    service.post("/trigger/nap", None)
    for steps in range(3):
        service.post("/trigger/quick", {"steps": steps})
    run_id: str = service.post("/trigger/order", ORDER)["runId"]
    return run_id


def serious(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical."""
    page.run_script(HERE / "node_modules" / "axe-core" / "axe.min.js")
    found: list[dict[str, Any]] = page.eval("axe.run().then(({ violations }) => violations)")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_fault_for_those_who_do_not_see_it(
    browser: Browser, served: Service, scheme: str, width: str
) -> None:
    how: dict[str, Any] = {"scheme": scheme, "width": WIDTHS[width]}
    login = browser.open(f"{served.url}/ui/", **how)
    login.until("document.querySelector('#key')")
    assert serious(login) == []
    login.shut()
    run = populate(served)
    revoked = served.post("/keys", {"name": "old", "scopes": ["read"]})["id"]
    served.http.delete(f"/keys/{revoked}").raise_for_status()
    served.post("/keys", {"name": "deploy", "scopes": ["read", "trigger"], "ttl": "90d"})
    tab = sign_in(browser, served, **how)
    for where, shows in PAGES.items():
        tab.go(where)
        tab.page.until(f"document.querySelector({json.dumps(shows)})")
        assert serious(tab.page) == [], where
    for button in ("Make a key", "Revoke"):
        tab.click(button)
        tab.page.until("document.querySelector('dialog[open]')")
        assert serious(tab.page) == [], button
        tab.press("Escape")
        tab.page.until("!document.querySelector('dialog')")
    tab.go(f"#/runs/{run}")
    tab.sees("waits for the event")
    tab.page.eval("document.querySelector('[data-key=\"carrier#1\"]').click()")
    tab.page.until("document.querySelector('aside.step')")
    assert serious(tab.page) == []
    tab.click("Event log")
    assert serious(tab.page) == []
    for key in "cfns?":
        tab.press(key)
        tab.page.until("document.querySelector('dialog[open]')")
        assert serious(tab.page) == [], key
        tab.press("Escape")
        tab.page.until("!document.querySelector('dialog')")
    token = served.post(f"/runs/{run}/token")["publicAccessToken"]
    shared = browser.open(f"{served.url}/ui/#/share/{run}?token={token}", fresh=True, **how)
    shared.until("document.querySelector('.w-row')")
    assert serious(shared) == []
    shared.eval("document.querySelector('#tab-log').click()")
    shared.until("document.querySelector('.log-row')")
    assert serious(shared) == []
    # What is no page, and what cannot be read.
    tab.go("#/runs/run_00000000")
    tab.page.until("document.querySelector('main [role=alert], main .empty')")
    assert serious(tab.page) == []


def test_hostile_texts_are_texts_wherever_they_stand(browser: Browser, served: Service) -> None:
    run = served.post("/trigger/hostile", {"text": HOSTILE, "more": {HOSTILE[:40]: HOSTILE}})
    tab = sign_in(browser, served, f"#/runs/{run['runId']}")
    tab.sees("evil-<b>event")
    tab.sees(HOSTILE[:40])
    tab.click("Event log")
    tab.page.until("document.querySelectorAll('.log-row').length >= 4")
    tab.page.eval(
        "[...document.querySelectorAll('.log-row button')]"
        ".find((each) => each.innerText.startsWith('Emitted')).click()"
    )
    tab.sees("onerror=", ".log")
    tab.press("n")
    tab.sees("evil-<b>event", "dialog[open]")
    tab.press("Escape")
    for where in ("#/runs", "#/workflows/hostile", "#/events", f"#/runs/{HOSTILE}"):
        tab.go(where)
        tab.page.until("document.querySelector('main section')")
    tab.go("#/events")
    tab.click("Notify")
    tab.fill("Payload", json.dumps(HOSTILE))
    tab.click("Notify", "dialog footer")
    tab.go(f"#/runs/{run['runId']}")
    tab.page.until("document.querySelector('.run-title .badge')?.innerText === 'failed'")
    tab.sees("onerror=", ".error-box")
    tab.go("#/runs?q=onerror")
    tab.sees("NonRetryableError: <img")
    assert tab.page.eval("globalThis.pwned ?? null") is None
    assert tab.count("main img, main script, main b b") == 0
    assert tab.trouble() == []


def test_eight_tabs_are_all_live_over_one_stream(browser: Browser, served: Service) -> None:
    run = served.post("/trigger/order", ORDER)["runId"]
    tabs = [sign_in(browser, served, f"#/runs/{run}" if n % 2 else "#/runs") for n in range(8)]
    for tab in tabs:
        tab.sees("Live", ".line")
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 1})
    for n, tab in enumerate(tabs):
        tab.sees("It completed" if n % 2 else "completed")
    other = served.post("/trigger/quick", {"steps": 1})["runId"]
    for tab in tabs[::2]:
        tab.page.until(f"Boolean(document.querySelector('[data-key={other}]'))")
    # No tab holds a stream of its own: it is the worker's.
    assert [seen for tab in tabs for seen in tab.page.requests(ending="/stream")] == []


def test_everything_is_reached_by_keys(browser: Browser, served: Service) -> None:
    run = populate(served)
    tab = sign_in(browser, served)
    tab.page.until("document.querySelectorAll('.run-row').length === 6")
    for key, page in zip(
        "wesyr", ("workflows", "events", "schedules", "system", "runs"), strict=True
    ):
        tab.press("g")
        tab.press(key)
        tab.page.until(f"location.hash === '#/{page}'")
    tab.page.until("document.querySelectorAll('.run-row').length === 6")
    newest = served.http.get("/runs").json()["runs"]
    tab.press("j")
    tab.press("j")
    tab.page.until(f"document.activeElement.dataset.key === {json.dumps(newest[1]['id'])}")
    tab.press("k")
    tab.page.until(f"document.activeElement.dataset.key === {json.dumps(newest[0]['id'])}")
    # The focus stays with its row while others come in above it.
    served.post("/trigger/quick", {"steps": 1})
    tab.page.until("document.querySelectorAll('.run-row').length === 7")
    focused = tab.page.eval("document.activeElement.dataset.key")
    assert focused == newest[0]["id"]
    tab.press("/")
    tab.type("nap")
    tab.page.until("document.querySelectorAll('.run-row').length === 1")
    tab.press("Escape")
    tab.press("Escape")
    tab.page.until("document.querySelectorAll('.run-row').length === 7")
    tab.go(f"#/runs/{run}")
    tab.sees("waits for the event")
    tab.press("j")
    tab.page.until("document.querySelector('aside.step')")
    tab.page.until("document.activeElement.dataset.key === 'charge#1'")
    tab.press("Escape")
    tab.page.until("!document.querySelector('aside.step')")
    tab.press("l")
    tab.sees("Run started", ".log")
    tab.press("n")
    tab.page.until("document.querySelector('dialog textarea') === document.activeElement")
    tab.press("Escape")
    tab.page.until("!document.querySelector('dialog')")
    tab.press("?")
    tab.sees("even out long waits", "dialog[open]")
    # A dialog keeps the focus: Tab goes round in it.
    for _ in range(4):
        tab.press("Tab")
        assert tab.page.eval(
            "document.activeElement === document.body"
            " || Boolean(document.activeElement.closest('dialog'))"
        )
    tab.press("Escape")
    tab.page.until("!document.querySelector('dialog')")
    tab.press("t")
    tab.page.until("document.querySelector('.tools').innerText.includes('UTC')")
    tab.press("d")
    tab.page.until("document.documentElement.dataset.theme === 'light'")
    tab.press("d")
    tab.page.until("document.documentElement.dataset.theme === 'dark'")
    tab.press("Escape")
    tab.page.until("location.hash === '#/runs'")


def test_a_wrong_key_is_refused_and_the_right_one_lets_in(
    browser: Browser, served: Service
) -> None:
    page = browser.open(f"{served.url}/ui/")
    page.until("document.querySelector('#key')")
    enter = (
        "((text) => {{ const key = document.querySelector('#key'); key.value = text;"
        " key.form.requestSubmit(); }})({})"
    )
    page.eval(enter.format(json.dumps("not-the-key-of-this-server")))
    page.until("document.querySelector('#login-wrong').innerText.includes('not good')")
    assert page.eval("document.activeElement.id") == "key"
    tab = sign_in(browser, served)
    tab.sees("No runs yet")
    tab.sees("stepflow trigger")
    tab.page.eval("document.querySelector('[aria-label=\"Sign out\"]').click()")
    tab.page.until("document.querySelector('#key')")


def test_filters_and_counts_follow_what_happens(browser: Browser, served: Service) -> None:
    populate(served)
    tab = sign_in(browser, served, "#/runs?status=failed")
    tab.page.until("document.querySelectorAll('.run-row').length === 1")
    tab.sees("the ledger refused o-7")
    served.post("/trigger/ledger", "o-8")
    tab.sees("the ledger refused o-8")
    tab.go("#/runs?q=tag%3Ashop")
    tab.page.until("document.querySelectorAll('.run-row').length === 1")
    tab.go("#/runs?workflow=quick")
    tab.page.until("document.querySelector('.chip.s-completed b')?.innerText === '3'")
    served.post("/trigger/quick", {"steps": 1})
    tab.page.until("document.querySelector('.chip.s-completed b')?.innerText === '4'")
    tab.go("#/runs?q=nothing-is-called-so")
    tab.sees("No run is like that")


def chips(tab: Dashboard) -> dict[str, str]:
    """Return what stands beside each status."""
    told: dict[str, str] = tab.page.eval(
        "Object.fromEntries([...document.querySelectorAll('.chip')].map((each) =>"
        " each.innerText.split(/\\s+/).slice(0, 2)))"
    )
    return told


def test_the_counts_are_of_all_runs_however_few_the_page_has_loaded(
    browser: Browser, served: Service
) -> None:
    made = served.post("/trigger/quick/batch", [{"steps": 0}] * 333)
    served.post("/trigger/nap?delay=1h", None)
    served.post("/trigger/ledger", "o-7")
    tab = sign_in(browser, served, "#/runs?status=failed")
    tab.page.until("document.querySelector('.chip.s-completed b')?.innerText === '333'")
    # Neither the filter nor what it leaves out changes what there is.
    every = {"pending": "1", "running": "0", "completed": "333", "failed": "1", "cancelled": "0"}
    assert chips(tab) == every
    tab.go("#/runs")
    tab.page.until("document.querySelectorAll('.run-row').length > 1")
    tab.sees("200 runs loaded", ".status-line")
    assert chips(tab) == every
    for row in made[:3]:
        served.http.delete(f"/runs/{row['runId']}").raise_for_status()
    served.post("/trigger/quick", {"steps": 1})
    tab.page.until("document.querySelector('.chip.s-completed b')?.innerText === '331'")
    tab.go("#/runs?workflow=nap")
    tab.page.until("document.querySelector('.chip.s-completed b')?.innerText === '0'")
    assert chips(tab) == dict.fromkeys(every, "0") | {"pending": "1"}
    # Of a tag nobody keeps count: what stands there is of the rows that are here.
    served.post("/trigger/order", ORDER)
    tab.go("#/runs?q=tag%3Ashop")
    tab.page.until("document.querySelector('.chip.s-running b')?.innerText === '1'")
    assert "loaded" in tab.page.eval("document.querySelector('.chip.s-running b').title")


def test_how_a_workflow_goes_is_what_the_server_has_measured(
    browser: Browser, served: Service
) -> None:
    served.post("/trigger/quick/batch", [{"steps": 1}] * 250)
    tab = sign_in(browser, served, "#/workflows/quick")
    # More than the page has loaded, and none that it has counted by itself.
    tab.sees("of 250 runs", ".charts")
    tab.sees("a minute over the last", ".charts")
    told = served.http.get("/workflows/quick").json()["pace"]
    assert told["sampled"] == 250
    tab.sees("0 runs under way")


def test_it_is_the_same_below_a_prefix(browser: Browser, tmp_path: Path) -> None:
    with dashboard_service(tmp_path / "data", base_path="/flows/deep") as service:
        run = service.post("/trigger/order", ORDER)["runId"]
        tab = sign_in(browser, service, f"#/runs/{run}")
        tab.sees("waits for the event")
        tab.sees("Live", ".line")
        assert tab.trouble() == []
