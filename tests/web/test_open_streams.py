"""How many streams may be open, for how long, by whom: bounds that no page can take up alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from web_harness import Call, rest

from stepflow.auth.principal import ANONYMOUS, Principal
from stepflow.config import Settings
from stepflow.errors import RateLimitedError, UnavailableError
from stepflow.web.open_streams import OpenStreams

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine
    from starlette.applications import Starlette

RUN, OTHER = "run_0123456789abcdefABCDEF", "run_1123456789abcdefABCDEF"
KEY = {"X-API-Key": "test-key-0123456789"}
READER = {"X-API-Key": "reader-key-0123456789"}


def stream_of(run_id: str) -> str:
    return f"/runs/{run_id}/stream"


async def opened(app: Starlette, path: str, headers: Any = KEY, query: str = "") -> Call:
    return await Call(app, path, headers=headers, query=query).start()


async def closed(*calls: Call) -> None:
    for call in calls:
        await call.hang_up()
        await call.end()


def refused(call: Call, status: int, code: str) -> bool:
    assert call.status == status
    assert f'"code":"{code}"'.encode() in call.body
    assert call.headers["retry-after"] == "5"
    return True


@pytest.mark.asyncio
async def test_all_streams_together_are_bounded(
    make_app: Callable[..., Starlette], engine: FakeEngine
):
    engine.begin(RUN)
    app = make_app(settings=Settings(streams_max=2))
    one, two = await opened(app, stream_of(RUN)), await opened(app, "/stream")
    assert refused(await opened(app, "/stream"), 503, "UNAVAILABLE")
    assert refused(await opened(app, stream_of(RUN)), 503, "UNAVAILABLE")
    await closed(one)
    three = await opened(app, "/stream")
    assert three.status == 200
    await closed(two, three)


@pytest.mark.asyncio
async def test_the_streams_of_one_run_are_bounded(make_app, engine: FakeEngine):
    engine.begin(RUN)
    engine.begin(OTHER)
    app = make_app(settings=Settings(streams_per_run_max=1))
    one = await opened(app, stream_of(RUN))
    assert refused(await opened(app, stream_of(RUN), READER), 429, "RATE_LIMITED")
    others = [await opened(app, stream_of(OTHER)), await opened(app, "/stream")]
    assert [call.status for call in others] == [200, 200]
    await closed(one, *others)
    assert engine.runs[RUN].subscribers == set()


@pytest.mark.asyncio
async def test_the_streams_of_one_key_are_bounded(make_app, engine: FakeEngine):
    engine.begin(RUN)
    app = make_app(settings=Settings(streams_per_key_max=1))
    one = await opened(app, "/stream")
    assert refused(await opened(app, "/stream"), 429, "RATE_LIMITED")
    assert refused(await opened(app, stream_of(RUN)), 429, "RATE_LIMITED")
    two = await opened(app, "/stream", READER)
    assert two.status == 200
    await closed(one, two)


@pytest.mark.asyncio
async def test_tokens_count_by_what_they_are_for(make_app, engine, signer, clock):
    engine.begin(RUN)
    app = make_app(settings=Settings(streams_per_key_max=1))
    soon = clock.wall_ms() + 60_000
    red, blue = (f"token={signer.sign_tag(tag, soon)}" for tag in ("red", "blue"))
    calls = [await opened(app, "/stream", {}, red), await opened(app, "/stream", {}, blue)]
    assert refused(await opened(app, "/stream", {}, red), 429, "RATE_LIMITED")
    # Those of one run have that run's own bound.
    run = f"token={signer.sign_run(RUN, soon)}"
    calls += [await opened(app, stream_of(RUN), {}, run) for _ in range(3)]
    assert [call.status for call in calls] == [200] * 5
    await closed(*calls)


def test_where_everybody_is_let_in_nobody_is_told_apart():
    streams = OpenStreams(Settings(streams_per_key_max=1, streams_max=3))
    with streams.enter(ANONYMOUS), streams.enter(ANONYMOUS), streams.enter(ANONYMOUS):
        assert streams.count == 3
        with pytest.raises(UnavailableError), streams.enter(ANONYMOUS):
            pass
    assert streams.count == 0


def test_a_refused_stream_is_not_counted():
    streams = OpenStreams(Settings(streams_per_key_max=1))
    somebody = Principal("somebody", "jwt", frozenset())
    with streams.enter(somebody, RUN):
        for _ in range(3):
            with pytest.raises(RateLimitedError), streams.enter(somebody, RUN):
                pass
    with streams.enter(somebody, RUN):
        assert streams.count == 1


# ---------------------------------------------------------------- for how long


def test_leases_of_streams_that_were_opened_together_do_not_end_together():
    streams = OpenStreams(Settings(stream_age_s=1000))
    ages = set()
    for _ in range(64):
        with streams.enter(ANONYMOUS) as age_s:
            ages.add(age_s)
    assert len(ages) == 64
    assert 900 <= min(ages) < max(ages) <= 1000
    with OpenStreams(Settings(stream_age_s=0)).enter(ANONYMOUS) as age_s:
        assert age_s is None


@pytest.mark.asyncio
@pytest.mark.parametrize("own", [False, True], ids=["application", "our own connection"])
@pytest.mark.parametrize("path", [stream_of(RUN), "/stream"])
async def test_a_stream_ends_cleanly_when_its_lease_is_over_and_is_resumed(
    app, engine: FakeEngine, clock, monkeypatch, path, own
):
    monkeypatch.setattr(Call, "offers_parts", own)
    engine.begin(RUN)
    call = await opened(app, path)
    await clock.advance(3200)
    assert not call.done
    await clock.advance(400)
    assert call.done
    assert call.ended
    assert b"event: expired" not in call.body
    assert engine.runs[RUN].subscribers == set()
    assert all(stream.closed for stream in engine.everything)
    again = await Call(app, path, headers={**KEY, "Last-Event-ID": "1"}).start()
    assert again.status == 200
    await closed(again)


@pytest.mark.asyncio
async def test_a_lease_that_is_over_does_not_cut_off_who_is_just_sent_something(
    app, engine: FakeEngine, clock
):
    engine.begin(RUN)
    call = await opened(app, stream_of(RUN))
    await clock.advance(3590)
    call.hold()
    engine.tell(RUN, 2, "emit", {"name": "n", "data": 1})
    await clock.advance(15)
    assert not call.done
    call.release()
    await rest()
    await clock.advance(2)
    assert call.ended
    assert call.body.endswith(b'id: 2\nevent: emit\ndata: {"name":"n","data":1}\n\n')


# ---------------------------------------------------------------- tokens of many runs


@pytest.mark.asyncio
async def test_a_token_for_runs_opens_their_streams_and_the_one_of_many(
    client, stranger, app, engine: FakeEngine
):
    engine.begin(RUN)
    engine.begin(OTHER)
    answer = await client.post("/tokens", json={"runIds": [RUN], "ttl": "2h"})
    assert answer.status_code == 200
    assert answer.json()["expiresAt"] == "2024-01-15T12:30:00.000Z"
    token = answer.json()["publicAccessToken"]
    assert (await stranger.get(f"/runs/{RUN}?token={token}")).status_code == 200
    assert (await stranger.get(f"/runs/{OTHER}?token={token}")).status_code == 404
    call = await opened(app, "/stream", {}, f"token={token}")
    assert engine.everything[0].where.run_ids == {RUN}
    await closed(call)


@pytest.mark.asyncio
async def test_a_token_for_a_tag_reads_what_bears_it(client, stranger, app, engine: FakeEngine):
    engine.begin(RUN, "welcome-user", "red")
    engine.begin(OTHER)
    answer = await client.post("/tokens", json={"tag": "red"})
    assert answer.json()["expiresAt"] == "2024-01-16T10:30:00.000Z"
    token = answer.json()["publicAccessToken"]
    assert (await stranger.get(f"/runs/{RUN}?token={token}")).status_code == 200
    assert (await stranger.get(f"/runs/{OTHER}?token={token}")).status_code == 404
    call = await opened(app, "/stream", {}, f"token={token}")
    assert engine.everything[0].where.tags == {"red"}
    await closed(call)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"{}", b"[]", b"{", b"1", b'{"tag":""}', b'{"runIds":[]}', b'{"tag":1}'),
        *(b'{"runIds":["x"]}', b'{"tag":"a","runIds":["%b"]}' % RUN.encode(), b'{"gat":"a"}'),
        *(b'{"tag":"a","ttl":59}', b'{"tag":"a","ttl":"soon"}', b'{"ttl":60}'),
        b'{"runIds":[%b]}' % b",".join(b'"run_%022d"' % n for n in range(101)),
    ],
)
async def test_a_token_for_nothing_or_for_too_much_is_400(client, engine: FakeEngine, body):
    engine.begin(RUN)
    answer = await client.post("/tokens", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "INVALID_INPUT"


@pytest.mark.asyncio
async def test_a_token_for_a_run_that_is_not_there_is_404(client, engine: FakeEngine):
    engine.begin(RUN)
    answer = await client.post("/tokens", json={"runIds": [RUN, OTHER]})
    assert (answer.status_code, answer.json()["code"]) == (404, "RUN_NOT_FOUND")


@pytest.mark.asyncio
async def test_tokens_of_many_runs_are_for_operators(app, call_with, signer, engine):
    engine.begin(RUN)
    body = {"tag": "red"}
    assert (await call_with(app, None).post("/tokens", json=body)).status_code == 401
    assert (await call_with(app, READER["X-API-Key"]).post("/tokens", json=body)).status_code == 403
    token = signer.sign_tag("red", 1 << 45)
    answer = await call_with(app, None).post(f"/tokens?token={token}", json=body)
    assert answer.status_code == 403
