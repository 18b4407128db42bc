"""A run in the dashboard: followed from trigger to end, and everything that can be done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.dashboard_kit import ORDER, dashboard_service, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Service


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Service]:
    with dashboard_service(tmp_path / "data") as service:
        yield service


def test_a_run_is_followed_from_trigger_to_end(browser: Browser, served: Service) -> None:
    tab = sign_in(browser, served, "#/workflows/order")
    tab.fill("id", ORDER["id"])
    tab.fill("email", ORDER["email"])
    tab.click("Add", "#trigger")
    tab.fill("items 1", "tea")
    tab.click("Trigger", "#trigger")
    tab.sees("payment")
    tab.sees("waits for the event 'paid-o-1042'")
    tab.click("Notify")
    tab.fill("Payload", '{"amount": 12}')
    tab.click("Notify", "dialog")
    tab.sees("It completed")
    assert tab.badge() == "completed"
    tab.sees('"amount": 12')
    steps = tab.page.eval(
        "[...document.querySelectorAll('.w-pick')].map((each) => each.dataset.key)"
    )
    assert steps == [
        "charge#1",
        *[key for key in steps if key.endswith("reserve[tea]")],
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
    heard = tab.page.heard()
    assert heard["violations"] == []
    assert [line for line in heard["console"] if "uncaught" in line] == []
