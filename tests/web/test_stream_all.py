"""`GET /stream` over HTTP: who may read it, what is asked of the engine, what is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from web_harness import Call, rest

from stepflow.model.event_filter import EventFilter
from stepflow.web.event_stream import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine
    from starlette.applications import Starlette

pytestmark = pytest.mark.asyncio

RUN, OTHER = "run_0123456789abcdefABCDEF", "run_1123456789abcdefABCDEF"
PATH = "/stream"
KEY = {"X-API-Key": "test-key-0123456789"}
EVENT = b'id: fake-7\nevent: step\ndata: {"name":"a","runId":"r","workflowId":"w"}\n\n'


@pytest.fixture(autouse=True, params=["application", "our own connection"])
def behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Call, "offers_parts", request.param == "our own connection")
    return str(request.param)


async def watch(app: Starlette, query: str = "", **more: Any) -> Call:
    headers = {**KEY, **more.pop("headers", {})}
    return await Call(app, PATH, headers=headers, query=query, **more).start()


async def test_it_begins_at_once_and_says_where_it_is(app, engine: FakeEngine):
    call = await watch(app)
    assert call.status == 200
    assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert call.headers["cache-control"] == "no-store, no-transform"
    assert call.headers["x-accel-buffering"] == "no"
    assert call.body == b"retry: 1000\n\nid: fake-0\n\n"
    engine.everything[0].tell(EVENT, "fake-7")
    await rest()
    assert call.body.endswith(EVENT)
    assert not call.done
    await call.hang_up()
    await call.end()
    assert engine.everything[0].closed


async def test_a_comment_says_how_far_it_is(app, engine: FakeEngine, clock):
    call = await watch(app)
    engine.everything[0].stream_cursor = "fake-99"
    await clock.advance(15)
    assert call.body.endswith(b": still here\nid: fake-99\n\n")
    await call.hang_up()
    await call.end()


async def test_a_stream_that_must_begin_anew_does_not_say_where_it_is(app, engine: FakeEngine):
    class Lost:
        stream_cursor = ""

    lost: Any = Lost()
    assert mark_of(lost) == b"\n"


async def test_a_shutdown_ends_it_cleanly(app, engine: FakeEngine):
    call = await watch(app)
    engine.begin_shutdown()
    await call.end()
    assert call.ended
    assert engine.everything[0].closed


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("", EventFilter()),
        ("workflowId=checkout", EventFilter(workflow_id="checkout")),
        ("tag=red", EventFilter(tags=frozenset({"red"}))),
        ("status=failed", EventFilter(status=frozenset({"failed"}))),
        ("status=failed,cancelled", EventFilter(status=frozenset({"failed", "cancelled"}))),
        ("status=failed&status=cancelled", EventFilter(status=frozenset({"failed", "cancelled"}))),
        (f"runId={RUN}&runId={OTHER}", EventFilter(run_ids=frozenset({RUN, OTHER}))),
        (f"runId={RUN},{OTHER}", EventFilter(run_ids=frozenset({RUN, OTHER}))),
    ],
)
async def test_the_query_says_what_is_wanted(app, engine: FakeEngine, query, where):
    call = await watch(app, query)
    assert engine.everything[0].where == where
    await call.hang_up()
    await call.end()


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("status=done", "status: 'done' is none of"),
        ("status=", "status: '' is none of"),
        ("runId=x", "runId: a run id is"),
        ("runId=", "runId: a run id is"),
        (f"runId={RUN},", "runId: a run id is"),
    ],
)
async def test_a_filter_that_nobody_could_mean_is_400(app, engine: FakeEngine, query, error):
    call = await watch(app, query)
    assert call.status == 400
    assert error.encode() in call.body
    assert b'"code":"INVALID_INPUT"' in call.body
    assert engine.everything == []


@pytest.mark.parametrize(
    ("sent", "query", "after"),
    [
        ("", "", None),
        ("", "lastEventId=", None),
        ("s-1", "", "s-1"),
        ("", "lastEventId=s-1", "s-1"),
        ("s-2", "lastEventId=s-1", "s-2"),
        ("nonsense", "", "nonsense"),
    ],
)
async def test_a_cursor_comes_in_the_header_or_in_the_query(
    app, engine: FakeEngine, sent, query, after
):
    call = await watch(app, query, headers={"Last-Event-ID": sent} if sent else {})
    assert engine.everything[0].after == after
    await call.hang_up()
    await call.end()


async def test_a_head_request_subscribes_to_nothing(app, engine: FakeEngine):
    call = await watch(app, method="HEAD")
    assert (call.status, call.body, call.ended) == (200, b"", True)
    assert engine.everything == []


async def test_a_browser_that_comes_too_early_is_told_to_come_again(app, engine: FakeEngine):
    engine.state = "starting"
    call = await watch(app, headers={"Accept": "text/event-stream"})
    assert (call.status, call.body, call.ended) == (200, b"retry: 1000\n\n: starting\n\n", True)
    call = await watch(app)
    assert call.status == 503


# ---------------------------------------------------------------- who may read it


async def test_without_credentials_it_is_401(app, engine: FakeEngine):
    call = await Call(app, PATH).start()
    assert call.status == 401
    assert engine.everything == []


async def test_without_the_scope_it_is_403(make_app: Callable[..., Starlette], engine: FakeEngine):
    from stepflow.auth.principal import Principal

    app = make_app(auth=lambda _: Principal("bot", "key", frozenset({"trigger"})))
    call = await watch(app)
    assert call.status == 403
    assert engine.everything == []


async def test_a_token_of_one_run_is_403_and_says_where_it_is_good(app, engine, signer, clock):
    engine.begin(RUN)
    token = signer.sign_run(RUN, clock.wall_ms() + 60_000)
    for query in (f"token={token}", f"runId={RUN}&token={token}"):
        call = await Call(app, PATH, query=query).start()
        assert call.status == 403
        assert b"/runs/{runId}/stream" in call.body
    assert engine.everything == []


async def test_a_token_of_runs_reads_those_and_no_others(app, engine: FakeEngine, signer, clock):
    token = signer.sign_runs([RUN], clock.wall_ms() + 60_000)
    seen = []
    for query in ("", f"runId={RUN}&", f"runId={OTHER}&", "tag=red&"):
        call = await Call(app, PATH, query=f"{query}token={token}").start()
        assert call.status == 200
        seen.append(engine.everything[-1].where)
        await call.hang_up()
        await call.end()
    assert [where.run_ids for where in seen] == [{RUN}, {RUN}, frozenset(), {RUN}]
    assert [where.tags for where in seen] == [frozenset(), frozenset(), frozenset(), {"red"}]


async def test_a_token_of_a_tag_reads_what_bears_it(app, engine: FakeEngine, signer, clock):
    token = signer.sign_tag("red", clock.wall_ms() + 60_000)
    for query, tags in (("", {"red"}), ("tag=blue&", {"red", "blue"}), ("tag=red&", {"red"})):
        call = await Call(app, PATH, query=f"{query}token={token}").start()
        assert engine.everything[-1].where.tags == tags
        await call.hang_up()
        await call.end()


async def test_it_ends_when_the_token_does(app, engine: FakeEngine, signer, clock):
    token = signer.sign_tag("red", clock.wall_ms() + 60_000)
    call = await Call(app, PATH, query=f"token={token}").start()
    await clock.advance(60.1)
    assert b"event: expired\n" in call.body
    assert call.ended
    await call.end()
    assert engine.everything[0].closed


async def test_the_route_goes_with_that_of_a_runs_own_stream(make_app, engine: FakeEngine):
    from stepflow.web.presets import Endpoints

    call = await watch(make_app(endpoints=Endpoints(runs_stream=False)))
    assert call.status == 404
    assert all(task is asyncio.current_task() for task in asyncio.all_tasks())
