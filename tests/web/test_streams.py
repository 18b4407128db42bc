"""One run's stream, message by message: what is sent, when it ends, and that nothing leaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from web_harness import Call, rest

from stepflow.config import Settings
from stepflow.web.sse import last_event_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine
    from starlette.applications import Starlette

pytestmark = pytest.mark.asyncio

RUN = "run_0123456789abcdefABCDEF"
PATH = f"/runs/{RUN}/stream"
KEY = {"X-API-Key": "test-key-0123456789"}
FIRST = b'id: 1\nevent: status\ndata: {"status":"running"}\n\n'
LAST = b'id: 4\nevent: complete\ndata: {"status":"completed","result":7}\n\n'


@pytest.fixture
def run(engine: FakeEngine) -> Any:
    return engine.begin(RUN)


@pytest.fixture(autouse=True, params=["application", "our own connection"])
def behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every claim here holds behind any server and behind ours, which writes without a task."""
    monkeypatch.setattr(Call, "offers_parts", request.param == "our own connection")
    return str(request.param)


async def no_task_is_left() -> bool:
    await rest()
    return all(task is asyncio.current_task() for task in asyncio.all_tasks())


async def watch(app: Starlette, **more: Any) -> Call:
    return await Call(app, PATH, headers={**KEY, **more.pop("headers", {})}, **more).start()


async def test_a_stream_begins_at_once_with_its_headers_and_the_retry_time(app, engine, run):
    call = await watch(app)
    assert call.status == 200
    assert call.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store, no-transform",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    assert call.messages[1]["body"].startswith(b"retry: 1000\n\nid: 1\nevent: status\n")
    assert call.body == b"retry: 1000\n\n" + FIRST
    assert not call.done
    await call.hang_up()
    await call.end()


async def test_a_stream_is_history_then_what_follows_then_its_end(app, engine, run):
    call = await watch(app)
    engine.tell(RUN, 3, "step", {"name": "send-welcome", "status": "completed"})
    await rest()
    assert call.body.endswith(
        b'id: 3\nevent: step\ndata: {"name":"send-welcome","status":"completed"}\n\n'
    )
    engine.complete(RUN, 4, 7)
    await call.end()
    assert call.body.endswith(LAST)
    assert call.ended
    assert call.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert not run.subscribers


async def test_a_finished_run_is_history_and_the_end(app, engine, run):
    engine.complete(RUN, 4, 7)
    call = await watch(app)
    assert call.body == b"retry: 1000\n\n" + FIRST + LAST
    assert call.ended
    await call.end()


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_stream_goes_on_after_the_last_event_that_the_client_has(app, engine, run, way):
    engine.tell(RUN, 2, "step", {"name": "a"})
    engine.complete(RUN, 4, 7)
    more: dict[str, Any] = {"headers": {"Last-Event-ID": "2"}}
    call = await watch(app, **(more if way == "header" else {"query": "lastEventId=2"}))
    assert call.body == b"retry: 1000\n\n" + LAST


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_finished_run_whose_end_the_client_has_is_204(app, engine, run, way):
    engine.complete(RUN, 4, 7)
    more: dict[str, Any] = {"headers": {"Last-Event-ID": "4"}}
    call = await watch(app, **(more if way == "header" else {"query": "lastEventId=4"}))
    assert (call.status, call.body, call.ended) == (204, b"", True)
    assert "content-type" not in call.headers
    assert not run.subscribers


async def test_an_id_that_was_never_given_brings_the_run_anew(app, engine, run):
    call = await watch(app, headers={"Last-Event-ID": "999"})
    assert b"\n\nevent: resync\ndata: {" in b"\n\n" + call.body
    assert b'"id":"run_0123456789abcdefABCDEF"' in call.body
    assert b"id: 1" not in call.body
    await call.hang_up()
    await call.end()


@pytest.mark.parametrize(
    ("sent", "query", "after"),
    [
        ("12", "", 12),
        ("12", "lastEventId=3", 12),
        ("", "lastEventId=3", 3),
        ("x", "lastEventId=3", 3),
        ("9999999999999999999", "", 9999999999999999999),
        ("99999999999999999999", "", None),
        ("-1", "", None),
        ("1\u00b2", "", None),
        ("1;2", "lastEventId=", None),
        ("", "lastEventId=%d9%a1", None),
        ("", "", None),
    ],
)
async def test_what_is_no_id_counts_as_none(sent, query, after):
    scope = Call(None, PATH, headers={"Last-Event-ID": sent}, query=query).scope
    assert last_event_id(scope) == after


async def test_a_long_history_goes_in_slices_and_others_have_their_turn(
    make_app: Callable[..., Starlette], engine, run
):
    for number in range(2, 200):
        engine.tell(RUN, number, "emit", {"name": "n", "data": "x" * 100})
    app = make_app(settings=Settings(stream_slice_bytes=1000))
    turns = 0
    call = Call(app, PATH, headers=KEY)
    call.feed(b"")
    task = asyncio.ensure_future(call._app(call.scope, call._inbox.get, call._send))
    while b"id: 199" not in call.body:
        await asyncio.sleep(0)
        turns += 1
    slices = [len(message["body"]) for message in call.messages[2:]]
    assert max(slices) < 1300
    assert turns >= len(slices) > 20
    call.task = task
    await call.hang_up()
    await call.end()


# ---------------------------------------------------------------- who may watch


async def test_a_browser_watches_with_the_token_in_the_query(app, run, signer, clock):
    token = signer.sign_run(RUN, clock.wall_ms() + 60_000)
    call = await Call(app, PATH, query=f"token={token}").start()
    assert call.body == b"retry: 1000\n\n" + FIRST
    await call.hang_up()
    await call.end()


async def test_a_tokens_stream_ends_when_the_token_does(app, run, signer, clock, engine):
    token = signer.sign_run(RUN, clock.wall_ms() + 60_000)
    call = await Call(app, PATH, query=f"token={token}").start()
    await clock.advance(59.9)
    assert not call.done
    await clock.advance(0.2)
    assert call.body.endswith(b'event: expired\ndata: {"reason":"expired"}\n\n')
    assert call.ended
    await call.end()
    assert not run.subscribers


async def test_a_run_that_nobody_knows_has_no_stream(app, engine):
    call = await watch(app)
    assert call.status == 404
    assert call.body == b'{"error":"Run not found","code":"RUN_NOT_FOUND"}'
    assert engine.subscriptions == 0


async def test_a_caller_without_the_scope_is_403_and_subscribes_to_nothing(
    make_app: Callable[..., Starlette], engine, run
):
    from stepflow.auth.principal import Principal

    app = make_app(auth=lambda _: Principal("bot", "key", frozenset({"trigger"})))
    call = await watch(app)
    assert call.status == 403
    assert engine.subscriptions == 0


async def test_head_says_the_headers_and_subscribes_to_nothing(app, engine, run):
    call = await watch(app, method="HEAD")
    assert (call.status, call.body, call.ended) == (200, b"", True)
    assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert engine.subscriptions == 0
    assert call.done


# ---------------------------------------------------------------- time


async def test_silence_is_broken_by_a_comment_every_15_seconds(app, engine, run, clock):
    call = await watch(app)
    before = call.body
    await clock.advance(14.9)
    assert call.body == before
    await clock.advance(0.2)
    assert call.body == before + b": still here\n\n"
    await clock.advance(30)
    assert call.body == before + b": still here\n\n" * 3
    await call.hang_up()
    await call.end()
    assert clock.pending == 0


async def test_an_event_puts_the_comment_off(app, engine, run, clock):
    call = await watch(app)
    await clock.advance(10)
    engine.tell(RUN, 2, "emit", {})
    await rest()
    await clock.advance(10)
    assert b": still here" not in call.body
    await clock.advance(5.1)
    assert call.body.endswith(b": still here\n\n")
    await call.hang_up()
    await call.end()


async def test_a_reader_that_reads_nothing_for_30_seconds_is_closed(app, engine, run, clock):
    aborted: list[str] = []
    extension = {"stepflow.abort": {"abort": lambda: aborted.append("cut")}}
    call = await watch(app, extensions=extension)
    call.hold()
    engine.tell(RUN, 2, "emit", {})
    await clock.advance(29)
    assert not call.done
    await clock.advance(2)
    assert call.done
    await call.end()
    assert aborted == ["cut"]
    assert not call.ended
    assert not run.subscribers
    assert clock.pending == 0
    assert await no_task_is_left()


async def test_a_blocked_reader_is_cut_off_in_time_however_rare_the_comments_are(
    make_app: Callable[..., Starlette], engine, run, clock
):
    app = make_app(settings=Settings(stream_comment_s=3600, stream_blocked_s=30))
    call = await watch(app)
    call.hold()
    engine.tell(RUN, 2, "emit", {})
    await clock.advance(61)
    assert call.done
    assert not run.subscribers


async def test_a_reader_that_reads_again_in_time_stays(app, engine, run, clock):
    call = await watch(app)
    call.hold()
    engine.tell(RUN, 2, "emit", {})
    await clock.advance(29)
    call.release()
    engine.tell(RUN, 3, "emit", {})
    await clock.advance(10)
    assert call.body.endswith(b"id: 3\nevent: emit\ndata: {}\n\n")
    await call.hang_up()
    await call.end()


async def test_an_event_in_the_pass_of_the_comment_is_not_lost(app, engine, run, clock):
    call = await watch(app)
    engine.tell(RUN, 2, "emit", {})
    await clock.advance(0)
    clock_callbacks = [timer for _, _, timer in clock._timers if timer.callback]
    for number in range(3, 20):
        clock._now_s += 15
        engine.tell(RUN, number, "emit", {})
        for timer in clock_callbacks:
            timer.callback()
        clock_callbacks = [timer for _, _, timer in clock._timers if timer.callback]
        await rest()
        assert call.body.count(b"id: ") == number
        assert not call.done
    await call.hang_up()
    await call.end()


# ---------------------------------------------------------------- going away


async def test_a_client_that_leaves_in_mid_stream_gives_its_subscription_back(
    app, engine, run, clock
):
    call = await watch(app)
    assert len(run.subscribers) == 1
    await call.hang_up()
    await call.end()
    assert not run.subscribers
    assert clock.pending == 0
    assert await no_task_is_left()


async def test_a_client_that_left_before_the_first_byte_gives_its_subscription_back(
    app, engine, run, clock
):
    call = Call(app, PATH, headers=KEY)
    call.hold()
    call._inbox.put_nowait({"type": "http.disconnect"})
    await call.begin()
    await call.end()
    assert call.messages == []
    assert not run.subscribers
    assert clock.pending == 0
    assert await no_task_is_left()


async def test_a_client_that_leaves_while_we_send_gives_its_subscription_back(
    app, engine, run, clock
):
    call = await watch(app)
    call.hold()
    engine.tell(RUN, 2, "emit", {})
    await rest()
    await call.hang_up()
    await call.end()
    assert not run.subscribers
    assert await no_task_is_left()


async def test_a_server_that_raises_when_the_client_has_gone_ends_the_stream_quietly(
    app, engine, run, caplog
):
    call = await watch(app)
    call.refuse_send = OSError("connection reset")
    engine.tell(RUN, 2, "emit", {})
    await rest()
    await call.end()
    assert not run.subscribers
    assert await no_task_is_left()
    assert caplog.text == ""


async def test_a_shutdown_ends_streams_cleanly_so_that_browsers_come_back(app, engine, run, clock):
    calls = [await watch(app) for _ in range(3)]
    engine.begin_shutdown()
    for call in calls:
        await call.end()
        assert call.ended
        assert b"event: complete" not in call.body
        assert b"event: expired" not in call.body
    assert not run.subscribers
    assert clock.pending == 0
    assert await no_task_is_left()


async def test_a_server_that_cancels_the_request_ends_the_stream_at_once(app, engine, run, clock):
    call = await watch(app)
    assert call.task is not None
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.end()
    assert not run.subscribers
    assert clock.pending == 0
    assert await no_task_is_left()


async def test_a_cancellation_in_the_very_pass_of_a_disconnect_is_not_swallowed(app, engine, run):
    call = await watch(app)
    assert call.task is not None
    call._inbox.put_nowait({"type": "http.disconnect"})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.task.cancel()
    await asyncio.wait([call.task])
    assert not run.subscribers


async def test_a_timeout_around_the_stream_works(app, engine, run):
    call = Call(app, PATH, headers=KEY)
    call.feed(b"")

    async def served() -> str:
        try:
            async with asyncio.timeout(0):
                await app(call.scope, call._inbox.get, call._send)
        except TimeoutError:
            return "timeout"
        return "ended"

    assert await served() == "timeout"
    assert not run.subscribers


async def test_while_the_engine_starts_an_eventsource_is_told_to_come_back(app, engine, run):
    engine.state = "starting"
    call = await watch(app, headers={"Accept": "text/event-stream"})
    await call.end()
    assert call.status == 200
    assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert call.body == b"retry: 1000\n\n: starting\n\n"
    other = await watch(app)
    await other.end()
    assert other.status == 503


async def test_behind_our_own_connection_an_event_is_written_without_the_task(
    app, engine, run, behind
):
    call = await watch(app)
    before = len(call.messages)
    engine.tell(RUN, 2, "emit", {})
    # In the very turn of the event, or after the task was woken.
    assert len(call.messages) - before == (behind == "our own connection")
    await rest()
    engine.tell(RUN, 3, "emit", {})
    await rest()
    assert call.written_at_once == (2 if behind == "our own connection" else 0)
    engine.complete(RUN, 4, 7)
    await call.end()
    assert call.body.count(b"id: ") == 4
    assert call.ended


async def test_events_keep_their_order_while_a_client_reads_now_and_then(app, engine, run):
    call = await watch(app)
    for number in range(2, 60):
        engine.tell(RUN, number, "emit", {})
        if number % 7 == 0:
            call.hold()
        if number % 5 == 0:
            await rest(1)
        if number % 11 == 0:
            call.release()
    call.release()
    await rest(200)
    ids = [int(line[4:]) for line in call.body.decode().splitlines() if line.startswith("id: ")]
    assert ids == list(range(1, 60))
    await call.hang_up()
    await call.end()


async def test_a_request_that_brings_a_body_is_watched_by_reading_it(app, engine, run):
    call = Call(app, PATH, headers={**KEY, "Content-Length": "5"})
    call.feed(b"12345")
    await call.begin()
    assert call.gone is None
    engine.tell(RUN, 2, "emit", {})
    await call.hang_up()
    await call.end()
    assert not run.subscribers
    assert call.written_at_once == 0
