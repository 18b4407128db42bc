"""The dashboard that is left open: it sleeps, its connection dies, its login ends."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.auth.public_token import TokenSigner
from tests.browser.dashboard_kit import ORDER, Dashboard, dashboard_service, sign_in
from tests.browser.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Page, Service

LOGIN = "document.querySelector('#key')"
TOKEN_KEY = "c4" * 32
ALONE = "delete globalThis.SharedWorker;"
"""Run before the page: a browser without shared workers."""
SLEEPS = "const awake = Date.now; Date.now = () => awake() + (globalThis.slept ?? 0);"
"""The clock goes on while a machine sleeps; `slept` milliseconds of it."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with dashboard_service(tmp_path / "data", STEPFLOW_TOKEN_KEY=TOKEN_KEY) as service:
        yield service


def start(service: Service, steps: int = 1) -> str:
    run_id: str = service.post("/trigger/quick", {"steps": steps})["runId"]
    return run_id


def shows(tab: Dashboard, run: str, status: str = "completed") -> None:
    """Wait until the list has the run, in that status."""
    row = f"document.querySelector('[data-key={run}]')?.closest('.run-row')"
    tab.page.until(f"Boolean({row}?.innerText.includes({json.dumps(status)}))")


def streams_of(page: Page) -> list[dict[str, Any]]:
    """Return the page's own requests for a stream; those of a shared worker are not among them."""
    return page.requests(ending="/stream")


def asks_nothing(page: Page) -> bool:
    """Whether the page leaves the server alone, though the machine wakes and is on a network."""
    asked = -1
    while (now := len(page.requests())) != asked:
        # What was under way comes to its end.
        asked = now
        time.sleep(0.7)
    page.eval("dispatchEvent(new Event('online'))")
    page.eval("document.dispatchEvent(new Event('visibilitychange'))")
    page.eval("fetch('../health').then((answer) => answer.json())")
    return [seen["url"].rpartition("/")[2] for seen in page.requests()[asked:]] == ["health"]


# ---------------------------------------------------------------- asleep


@pytest.mark.parametrize("before", ["", ALONE], ids=["shared worker", "alone"])
def test_a_frozen_page_that_goes_on_shows_all_that_came_meanwhile(
    browser: Browser, served: Service, before: str
) -> None:
    waiting = served.post("/trigger/order", ORDER)["runId"]
    lists = sign_in(browser, served, before=before)
    one = sign_in(browser, served, f"#/runs/{waiting}", before=before)
    one.sees("waits for the event")
    shows(lists, waiting, "waiting")
    for tab in (lists, one):
        tab.sees("Live", ".line")
        tab.page.freeze()
    early = start(served)
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 7})
    served.kill()
    served.start()
    late = start(served)
    for tab in (lists, one):
        tab.page.thaw()
    one.sees("It completed")
    one.sees('"amount": 7')
    for run in (early, late, waiting):
        shows(lists, run)
    # Live again: what comes now comes by itself.
    lists.sees("Live", ".line")
    shows(lists, start(served))
    assert lists.trouble() == one.trouble() == []


@pytest.mark.parametrize("wakes", ["is told", "is not told"])
def test_a_connection_that_died_without_a_word_is_replaced_when_the_machine_wakes(
    browser: Browser, served: Service, wakes: str
) -> None:
    proxy = SilentProxy(served.port)
    served.url, direct = proxy.url, served.url
    try:
        tab = sign_in(browser, served, before=ALONE + SLEEPS)
        tab.sees("Live", ".line")
        shows(tab, start(served))
        assert proxy.fall_silent(b"GET /stream") == 1
        missed = start(served)
        assert len(streams_of(tab.page)) == 1
        # A minute of sleep. The socket is open as far as anybody can tell.
        tab.page.eval("globalThis.slept = 60_000")
        if wakes == "is told":
            browser.network(there=False)
            browser.network(there=True)
        while len(streams_of(tab.page)) < 2:
            time.sleep(0.05)
        assert streams_of(tab.page)[-1]["headers"]["last-event-id"]
        shows(tab, missed)
        shows(tab, start(served))
        tab.sees("Live", ".line")
        assert tab.trouble() == []
    finally:
        served.url = direct
        proxy.close()


def test_a_page_that_comes_back_too_late_for_its_cursor_lists_anew(
    browser: Browser, tmp_path: Path
) -> None:
    env = {"STEPFLOW_STREAM_KEPT_EVENTS": "100", "STEPFLOW_SNAPSHOT_INTERVAL_S": "1"}
    with dashboard_service(tmp_path / "data", **env) as service:
        waiting = service.post("/trigger/order", ORDER)["runId"]
        lists = sign_in(browser, service, before=ALONE)
        one = sign_in(browser, service, f"#/runs/{waiting}", before=ALONE)
        one.sees("waits for the event")
        lists.sees("Live", ".line")
        for tab in (lists, one):
            tab.page.freeze()
        service.kill()
        service.start()
        service.post(f"/notify/paid-{ORDER['id']}", {"amount": 7})
        made = service.post("/trigger/quick/batch", [{"steps": 3}] * 150)
        while service.http.get("/runs?limit=1").json()["counts"]["running"]:
            time.sleep(0.02)
        for tab in (lists, one):
            tab.page.thaw()
        one.sees("It completed")
        lists.page.until("document.querySelector('.chip.s-completed b').innerText === '152'")
        shows(lists, made[-1]["runId"])
        # It was told to: what it asked for is not kept any more.
        cursor = streams_of(lists.page)[-1]["headers"]["last-event-id"]
        with service.http.stream("GET", "/stream", headers={"Last-Event-ID": cursor}) as answer:
            text = ""
            for piece in answer.iter_text():
                text += piece
                if "\n\n" in text.partition("event: ")[2]:
                    break
        assert "event: resync" in text
        shows(lists, start(service))
        assert lists.trouble() == one.trouble() == []


def test_without_shared_workers_each_tab_has_a_stream_of_its_own(
    browser: Browser, served: Service
) -> None:
    run = served.post("/trigger/order", ORDER)["runId"]
    lists = sign_in(browser, served, before=ALONE)
    one = sign_in(browser, served, f"#/runs/{run}", before=ALONE)
    one.sees("waits for the event")
    for tab in (lists, one):
        tab.sees("Live", ".line")
    shows(lists, start(served))
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 1})
    one.sees("It completed")
    shows(lists, run)
    assert [len(streams_of(tab.page)) for tab in (lists, one)] == [1, 1]
    assert lists.trouble() == one.trouble() == []


# ---------------------------------------------------------------- over


@pytest.mark.parametrize("before", ["", ALONE], ids=["shared worker", "alone"])
def test_a_session_that_ends_under_an_open_page_asks_for_the_key_and_goes_on_there(
    browser: Browser, tmp_path: Path, before: str
) -> None:
    with dashboard_service(tmp_path / "data", STEPFLOW_SESSION_TTL_S="30") as service:
        run = service.post("/trigger/order", ORDER)["runId"]
        tab = sign_in(browser, service, f"#/runs/{run}", before=before)
        tab.sees("waits for the event")
        # Nobody touches the page.
        tab.page.until(LOGIN)
        assert asks_nothing(tab.page)
        again = sign_in(browser, service, f"#/runs/{run}", before=before)
        again.sees("waits for the event")
        service.post(f"/notify/paid-{ORDER['id']}", {"amount": 1})
        again.sees("It completed")
        assert tab.trouble() == again.trouble() == []


def test_a_link_whose_token_ends_says_so_and_asks_for_nothing_more(
    browser: Browser, served: Service
) -> None:
    run = served.post("/trigger/order", ORDER)["runId"]
    ends_ms = int(time.time() * 1000) + 6000
    token = TokenSigner(bytes.fromhex(TOKEN_KEY)).sign_run(run, ends_ms)
    link = f"{served.url}/ui/#/share/{run}?token={token}"
    page = browser.open(link, fresh=True)
    page.until("document.querySelectorAll('.w-row').length >= 5")
    page.until("document.querySelector('.line').innerText === 'Live'")
    page.until("document.querySelector('main').innerText.includes('The link has expired')")
    assert page.eval("document.querySelector('.line').innerText") == "Ended"
    # What was seen stays, and nothing is asked again, whatever happens.
    assert page.eval("document.querySelectorAll('.w-row').length") >= 5
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 1})
    served.kill()
    served.start()
    assert asks_nothing(page)
    # Who comes with it later is told why, once.
    late = browser.open(link, fresh=True)
    late.until("document.querySelector('main [role=alert]')")
    assert asks_nothing(late)
    assert page.heard()["violations"] == late.heard()["violations"] == []
