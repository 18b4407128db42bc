"""A page with a plain EventSource sees a run to its end, whatever happens to the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.browser.browser_kit import Browser, Page, Service

PAGE = "/_pages/watch.html"
CLOSED = 2


def page_of(browser: Browser, service: Service) -> Page:
    return browser.open(service.url + PAGE)


def test_a_page_follows_a_run_to_its_end_and_closes(browser: Browser, service: Service) -> None:
    page, run = page_of(browser, service), service.trigger()
    page.watch("run", run.stream_path)
    page.until("diary.run.opens")
    service.open_gate(run, 0)
    assert page.until("diary.run.ended") == "complete"
    assert page.events("run") == service.fresh_read(run)
    assert page.eval("sources.run.readyState") == CLOSED
    assert page.diary("run")["transportErrors"] == 0
    assert len(page.requests(ending="/stream")) == 1


def test_a_stream_that_the_network_drops_resumes_by_last_event_id(
    browser: Browser, service: Service
) -> None:
    page, run = page_of(browser, service), service.trigger(stages=3)
    page.watch("run", run.stream_path)
    last_seen = []
    for stage in range(3):
        # All that the run has said up to its gate is on the page, and then the connection goes.
        page.until(f"diary.run.events.some(([, , data]) => data.includes('\"gate-{stage}\"'))")
        last_seen.append(page.events("run")[-1][0])
        opens = page.diary("run")["opens"]
        assert service.cut() == 1
        service.open_gate(run, stage)
        page.until(f"diary.run.opens > {opens}")
    assert page.until("diary.run.ended") == "complete"
    assert page.events("run") == service.fresh_read(run)
    streams = page.requests(ending="/stream")
    assert [seen["headers"].get("last-event-id") for seen in streams] == [None, *last_seen]
    assert all(f"token={run.token}" in seen["url"] for seen in streams)


def test_a_page_that_drops_a_stream_and_opens_it_again_misses_nothing(
    browser: Browser, service: Service
) -> None:
    page, run = page_of(browser, service), service.trigger(stages=2)
    page.watch("run", run.stream_path)
    page.until("diary.run.events.length > 2")
    page.eval("drop('run')")
    before = page.events("run")
    service.until_gate(run, 0)
    service.open_gate(run, 0)
    service.until_gate(run, 1)
    page.eval("resume('run')")
    service.open_gate(run, 1)
    assert page.until("diary.run.ended") == "complete"
    assert page.events("run") == service.fresh_read(run)
    assert f"lastEventId={before[-1][0]}" in page.requests(ending="/stream")[-1]["url"]


def test_a_failed_run_is_told_apart_from_a_broken_connection(
    browser: Browser, service: Service
) -> None:
    page, run = page_of(browser, service), service.trigger(fails=True)
    page.watch("run", run.stream_path)
    page.until("diary.run.events.length > 2")
    service.cut()
    page.until("diary.run.opens == 2")
    notes = page.diary("run")
    assert (notes["transportErrors"], notes["serverErrors"]) == (1, [])
    service.open_gate(run, 0)
    assert page.until("diary.run.ended") == "error"
    notes = page.diary("run")
    assert notes["transportErrors"] == 1
    [told] = notes["serverErrors"]
    assert told["status"] == "failed"
    assert told["error"]["message"] == "the card was refused"
    assert page.events("run") == service.fresh_read(run)


def test_a_page_that_forgets_to_close_is_stopped_by_204(browser: Browser, service: Service) -> None:
    page, run = page_of(browser, service), service.trigger()
    page.watch("run", run.stream_path, closes=False)
    service.open_gate(run, 0)
    assert page.until("diary.run.ended") == "complete"
    # It reconnects once, is told that there is nothing more, and then it is over for good.
    page.until(f"sources.run.readyState == {CLOSED}")
    notes = page.diary("run")
    assert (notes["opens"], notes["transportErrors"], notes["refusals"]) == (1, 2, 1)
    streams = page.requests(ending="/stream")
    last_id = page.events("run")[-1][0]
    assert [seen["headers"].get("last-event-id") for seen in streams] == [None, last_id]
    assert page.events("run") == service.fresh_read(run)


def test_a_run_that_has_ended_is_told_whole_to_a_page_that_comes_late(
    browser: Browser, service: Service
) -> None:
    page, run = page_of(browser, service), service.trigger()
    service.open_gate(run, 0)
    fresh = service.fresh_read(run)
    page.watch("run", run.stream_path)
    assert page.until("diary.run.ended") == "complete"
    assert page.events("run") == fresh
