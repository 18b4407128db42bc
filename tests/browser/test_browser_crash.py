"""The server is killed with -9 again and again under a page's EventSource."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from tests.browser.browser_kit import Service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.browser_kit import Browser, Page, Site

ROUNDS = 6
RUNS = 4  # a browser has six connections a host
STEPS = 8
EVENTS_A_STAGE = 4 * STEPS


def count(page: Page) -> int:
    return page.eval("Object.values(diary).reduce((sum, { events }) => sum + events.length, 0)")


def until_count(page: Page, number: int) -> None:
    page.until(
        "Object.values(diary).reduce((sum, { events }) => sum + events.length, 0)"
        f" >= {number} || Object.values(diary).every(({{ ended }}) => ended)"
    )


def test_a_page_gets_every_event_once_while_the_server_is_killed(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    seed = int(os.environ.get("STEPFLOW_CRASH_SEED", str(random.randrange(10**6))))
    print(f"STEPFLOW_CRASH_SEED={seed}")  # noqa: T201  how to try it again
    rng = random.Random(seed)
    service = Service(tmp_path / "data", serve=True, STEPFLOW_CORS_ORIGINS=site.origin)
    try:
        _follow_through_crashes(browser.open(f"{site.origin}/watch.html"), service, rng)
    finally:
        service.close()


def _follow_through_crashes(page: Page, service: Service, rng: random.Random) -> None:
    runs = [service.trigger(stages=ROUNDS, steps=STEPS) for _ in range(RUNS)]
    for run in runs:
        page.watch(run.id, service.url + run.stream_path)
    seen = 0
    for stage in range(ROUNDS):
        # A moment by progress: so many more events than at the last kill.
        until_count(page, seen + rng.randint(1, RUNS * EVENTS_A_STAGE // 2))
        service.kill()
        seen = count(page)
        service.start()
        for run in runs:
            service.open_gate(run, stage)
    opens = 0
    for run in runs:
        page.until(f"diary['{run.id}'].ended")
        notes = page.diary(run.id)
        assert notes["ended"] == "complete"
        assert notes["unasked"] == []
        opens += notes["opens"]
        assert page.events(run.id) == service.fresh_read(run)
        assert page.eval(f"sources['{run.id}'].readyState") == 2
    # The last life opened them all, and each before it gave an event, so that some stream was
    # open. One by one they need not: a life can be shorter than the wait to reconnect.
    assert opens > max(RUNS, ROUNDS)
