"""A run in the dashboard: followed from trigger to end, and everything that can be done to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.browser.dashboard_kit import ORDER, dashboard_service, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Service

LOG = "[...document.querySelectorAll('.log-row .l-id')].map((each) => each.innerText)"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with dashboard_service(tmp_path / "data") as service:
        yield service


def start(service: Service, workflow: str, body: object) -> str:
    run_id: str = service.post(f"/trigger/{workflow}", body)["runId"]
    return run_id


def test_a_run_is_followed_from_trigger_to_end(browser: Browser, served: Service) -> None:
    tab = sign_in(browser, served, "#/workflows/order")
    tab.fill("id", ORDER["id"])
    tab.fill("email", ORDER["email"])
    tab.click("Add", "#trigger")
    tab.fill("items 1", "tea")
    tab.click("Trigger", "#trigger footer")
    tab.sees("waits for the event 'paid-o-1042'")
    tab.click("Notify")
    tab.fill("Payload", '{"amount": 12}')
    tab.click("Notify", "dialog footer")
    tab.sees("It completed")
    assert tab.badge() == "completed"
    tab.sees('"amount": 12')
    keys = tab.page.eval("[...document.querySelectorAll('.w-pick')].map((e) => e.dataset.key)")
    assert [key.rpartition("/")[2] for key in keys] == [
        "charge#1",
        "reserve[tea]",
        "carrier#1",
        "cool-off#1",
        "payment#1",
        "label#1",
    ]
    # The carrier failed twice before it was booked: three attempts, two waits between them.
    tab.page.until("document.querySelectorAll('.p-attempt.o-failed').length === 2")
    assert tab.count(".p-wait") == 2
    tab.click("Event log")
    tab.sees("carrier failed at attempt 2: ConnectionError: the carrier answered 502 at attempt 2")
    tab.sees("Run completed")
    tab.click("Children")
    tab.sees("label")
    assert tab.trouble() == []


def test_an_open_page_goes_on_when_the_server_is_killed_and_comes_back(
    browser: Browser, served: Service
) -> None:
    run = start(served, "order", ORDER)
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("waits for the event")
    served.kill()
    tab.sees("The server is not reached", ".banner-place")
    served.start()
    # Nobody touches the page: what comes next reaches it by the stream that it opened again.
    tab.page.until("document.querySelector('.banner-place').innerText === ''")
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 1})
    tab.sees("It completed")
    tab.click("Event log")
    tab.sees("Run completed")
    records = served.http.get(f"/runs/{run}/export").text.splitlines()[1:]
    want = json.dumps(sorted(str(json.loads(line).get("rs", "")) for line in records))
    tab.page.until(f"JSON.stringify({LOG}.toSorted()) === JSON.stringify({want})")
    # The list behind it has not missed a run that began and ended while the page looked elsewhere.
    tab.go("#/runs")
    tab.sees("completed")
    served.kill()
    served.start()
    other = start(served, "quick", {"steps": 2})
    tab.page.until(
        f"document.querySelector('[data-key={other}]')?.closest('.run-row')"
        ".innerText.includes('completed')"
    )
    assert tab.trouble() == []


def test_a_run_is_paused_resumed_and_cancelled_with_a_reason(
    browser: Browser, served: Service
) -> None:
    run = start(served, "nap", None)
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("It sleeps in 'three-days'")
    tab.page.until("document.querySelector('.p-sleep.open')")
    tab.page.until("document.querySelector('.w-wait').innerText === 'in 2d 23h'")
    tab.click("Pause")
    tab.click("Pause", "dialog footer")
    tab.page.until("document.querySelector('.run-title .badge').innerText === 'paused'")
    tab.click("Resume")
    tab.click("Go on", "dialog footer")
    tab.page.until("document.querySelector('.run-title .badge').innerText === 'sleeping'")
    # What destroys asks first, and closing the question does nothing.
    tab.click("Cancel")
    tab.page.until("document.querySelector('dialog[open]')")
    tab.press("Escape")
    tab.page.until("!document.querySelector('dialog')")
    assert served.http.get(f"/runs/{run}").json()["status"] == "running"
    tab.click("Cancel")
    tab.fill("Reason", "no longer wanted")
    tab.click("Cancel the run", "dialog footer")
    tab.page.until("document.querySelector('.run-title .badge').innerText === 'cancelled'")
    acts = served.http.get(f"/runs/{run}/audit").json()["audit"]
    assert (acts[-1]["action"], acts[-1].get("reason")) == (
        "cancel",
        "no longer wanted",
    )


def test_what_cannot_be_done_says_why(browser: Browser, served: Service) -> None:
    run = start(served, "quick", {"steps": 1})
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("It completed")
    why = tab.page.eval(
        "Object.fromEntries([...document.querySelectorAll('.run-head .act')].map((each) =>"
        " [each.innerText, each.getAttribute('aria-disabled') && each.title]))"
    )
    assert why["Cancel"] == "This cannot be done: it has completed."
    assert why["Retry"] == "Only a run that failed or was cancelled is tried again."
    assert why["Notify"] == "It waits for no event."
    assert why["Fork"] is None
    assert why["Purge"] is None
    tab.click("Cancel")
    assert tab.count("dialog") == 0
    tab.click("Purge")
    tab.sees("There is no way back", "dialog")
    tab.click("Purge for good", "dialog footer")
    tab.sees("No runs yet")
    assert served.http.get(f"/runs/{run}").status_code == 404


def test_a_failed_run_shows_its_traceback_and_goes_on_when_it_is_retried(
    browser: Browser, served: Service, tmp_path: Path
) -> None:
    run = start(served, "ledger", "o-7")
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("NonRetryableError: the ledger refused o-7")
    tab.page.eval("document.querySelector('[data-key=\"settle#1\"]').click()")
    tab.sees("raise NonRetryableError(message)", "aside")
    (tmp_path / "healed").touch()
    tab.click("Retry")
    tab.click("Retry", "dialog footer")
    tab.sees("It completed")
    tab.sees('"settled"')


def test_a_fork_with_another_input_shows_the_difference_first(
    browser: Browser, served: Service
) -> None:
    run = start(served, "quick", {"steps": 2, "name": "first"})
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("It completed")
    tab.click("Fork")
    tab.fill("From step", "tick#2")
    tab.sees("Kept: tick#1", "dialog")
    tab.fill("Input", '{"steps": 3, "name": "first"}')
    shown = tab.page.eval(
        "[...document.querySelectorAll('.d-add, .d-cut')].map((each) => each.innerText.trim())"
    )
    assert shown == ['-   "steps": 2,', '+   "steps": 3,']
    tab.fill("Input", '{"steps": ')
    assert tab.page.eval("document.querySelector('dialog footer .primary').disabled") is True
    tab.fill("Input", '{"steps": 3, "name": "first"}')
    tab.click("Fork", "dialog footer")
    tab.sees("Forked from")
    fork = tab.page.eval("location.hash.split('/').at(-1)")
    assert fork != run
    tab.sees("It completed")
    assert served.http.get(f"/runs/{fork}").json()["result"] == 3


def test_a_shared_link_reads_one_run_and_nothing_else(browser: Browser, served: Service) -> None:
    run = start(served, "order", ORDER)
    tab = sign_in(browser, served, f"#/runs/{run}")
    tab.sees("waits for the event")
    tab.click("Share")
    tab.click("Make a link", "dialog footer")
    link = tab.page.until("document.querySelector('#share-link')?.value")
    other = browser.open(link, fresh=True)
    other.until("document.querySelectorAll('.w-row').length >= 6")
    assert other.eval("document.querySelectorAll('.act, .top nav').length") == 0
    served.post(f"/notify/paid-{ORDER['id']}", {"amount": 12})
    other.until("document.querySelector('.run-title .badge').innerText === 'completed'")
    other.eval("document.querySelector('#tab-log').click()")
    other.until("document.querySelector('.log').innerText.includes('Run completed')")
    # The token went to that run's own routes alone, and no key went anywhere.
    for seen in other.requests():
        if "token=" in seen["url"]:
            assert f"/runs/{run}" in seen["url"]
        assert "x-api-key" not in seen["headers"]
    other.eval("location.hash = '#/runs'")
    other.until("document.querySelector('#key')")


def test_a_form_says_at_its_field_what_is_wrong_and_raw_json_does_as_well(
    browser: Browser, served: Service
) -> None:
    tab = sign_in(browser, served, "#/workflows/order")
    tab.fill("amount", "many")
    tab.click("Trigger", "#trigger footer")
    tab.sees("This is no number.")
    assert tab.page.until("document.activeElement.getAttribute('aria-invalid')") == "true"
    tab.click("Raw JSON")
    tab.fill("Input", '{"id": 7}')
    tab.click("Trigger", "#trigger footer")
    # The server has the last word, and names the field.
    tab.sees("id", "#trigger .wrong")
    tab.fill("Input", json.dumps(ORDER))
    tab.click("Trigger", "#trigger footer")
    tab.sees("waits for the event 'paid-o-1042'")
