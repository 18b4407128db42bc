"""Streams of the real engine: what is missed is sent, once, and no id means two things."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.model.views import RunEvent, sse_frame
from stepflow.runtime import hub
from tests.engine_kit import Service, held_back, service

if TYPE_CHECKING:
    from stepflow.engine.protocol import RunStream

pytestmark = pytest.mark.asyncio


def ids(data: bytes) -> list[int]:
    return [int(line[4:]) for line in data.splitlines() if line.startswith(b"id: ")]


async def to_the_end(stream: RunStream) -> bytes:
    """Read as a subscriber does, until the stream ends."""
    parts = []
    while not stream.ended:
        await stream.changed()
        parts.append(stream.read(64))
    while part := stream.read(64):
        parts.append(part)
    stream.close()
    return b"".join(parts)


async def test_ids_rise_and_are_never_given_twice_over_restarts() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 4})
        seen: dict[int, bytes] = {}
        last = 0
        for turn in range(6):
            await world.settle()
            await world.engine.notify("go-1" if not turn else "kept-1", b"%d" % turn)
            await world.settle()
            await world.durable()
            for event in await world.events(run_id, last or None):
                assert event.id > last
                last = event.id
                assert seen.setdefault(event.id, event.data) == event.data
            if turn == 4:
                break
            await (world.restart() if turn % 2 else world.crash())
            if not turn % 2:
                await world.start()
        await world.finished(run_id)
        events = await world.events(run_id)
        assert {event.id: event.data for event in events} == seen
        assert events[-1].event == "complete"


async def test_every_resume_gets_exactly_what_was_missed() -> None:
    async with service() as world:
        run_id = await world.trigger("doubles", 3)
        await world.finished(run_id)
        whole = await world.stream_bytes(run_id)
        frames = whole.split(b"\n\n")[:-1]
        numbers = ids(whole)
        assert numbers == sorted(set(numbers))
        for again in range(2):
            for place, number in enumerate(numbers):
                rest = await world.stream_bytes(run_id, number)
                assert rest == b"".join(frame + b"\n\n" for frame in frames[place + 1 :])
            assert await world.stream_bytes(run_id, 0) == whole
            if not again:
                await world.restart()


async def test_an_id_that_was_not_reached_gets_the_run_and_then_what_follows() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        stream = await world.engine.stream(run_id, 1_000_000)
        first = stream.read_events(10)
        assert [(event.event, event.id) for event in first] == [("resync", 0)]
        assert first[0].json() == msgspec.json.decode(msgspec.json.encode(await world.get(run_id)))
        assert stream.read_events(10) == []
        await world.engine.notify("ev", b'"hello"')
        await world.finished(run_id)
        assert [event.event for event in stream.read_events(10)] == ["step", "complete"]
        assert stream.finished
        stream.close()


async def test_an_id_not_reached_by_a_finished_run_gets_the_run_and_the_end() -> None:
    async with service() as world:
        run_id = await world.trigger("echo", 1)
        await world.finished(run_id)
        stream = await world.engine.stream(run_id, 99)
        assert not stream.ended
        assert b"event: resync" in stream.read(1 << 20)
        assert stream.finished
        stream.close()


async def test_the_present_run_of_a_resync_is_shown_when_it_is_on_disk() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        world.hold()
        notified = await held_back(world.engine.notify("ev", b"1"))
        resync = await held_back(world.engine.stream(run_id, 99))
        world.release()
        await notified
        (await resync).close()
        assert world.engine.sup.hub.subscribers == 0


async def test_a_finished_run_is_read_whole_and_from_its_last_id_is_at_its_end() -> None:
    async with service() as world:
        run_id = await world.trigger("doubles", 1)
        await world.finished(run_id)
        last = ids(await world.stream_bytes(run_id))[-1]
        stream = await world.engine.stream(run_id, last)
        assert stream.ended
        assert stream.finished
        assert stream.read(1 << 20) == b""
        stream.close()


async def test_subscribers_of_packed_and_open_runs_see_the_same_and_leave_the_run_packed() -> None:
    async with service() as world:
        waiting = await world.trigger("waits", "ev")
        done = await world.trigger("doubles", 1)
        await world.finished(done)
        await world.waiting(waiting)
        early = await world.engine.stream(waiting)
        await world.clock.advance(60)
        assert world.actor(waiting).session is None
        assert not world.actor(done).is_open
        late = await world.engine.stream(waiting)
        assert early.read(1 << 20) == late.read(1 << 20)
        old = await world.engine.stream(done)
        assert old.read(1 << 20)
        early.close()
        assert world.actor(waiting).is_open
        late.close()
        old.close()
        old.close()
        assert not world.actor(waiting).is_open
        assert not world.actor(done).is_open
        assert world.engine.sup.hub.subscribers == 0
        again = await world.engine.stream(waiting)
        await world.engine.notify("ev", b"1")
        assert b"event: complete" in await to_the_end(again)


async def test_many_subscribers_share_the_bytes_of_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[RunEvent] = []

    def counted(event: RunEvent) -> bytes:
        encoded.append(event)
        return sse_frame(event)

    monkeypatch.setattr(hub, "sse_frame", counted)
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        streams: list[Any] = [await world.engine.stream(run_id) for _ in range(500)]
        readers = [asyncio.ensure_future(to_the_end(stream)) for stream in streams]
        await world.settle()
        assert len({id(stream._feed) for stream in streams}) == 1
        await world.engine.notify("ev", b'"for all"')
        texts = await asyncio.gather(*readers)
        assert len(set(texts)) == 1
        assert b'"for all"' in texts[0]
        assert [event.id for event in encoded] == ids(texts[0])
        assert world.engine.sup.hub.subscribers == 0


async def test_a_slow_subscriber_costs_no_queue_and_loses_nothing() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 50})
        slow = await world.engine.stream(run_id)
        await world.settle()
        await world.engine.notify("go-1", b"0")
        for number in range(50):
            await world.engine.notify("kept-1", b"%d" % number)
        await world.finished(run_id)
        assert await to_the_end(slow) == await world.stream_bytes(run_id)


@pytest.mark.parametrize("how", ["begin_shutdown", "stop", "crash"])
async def test_streams_that_are_open_at_a_shutdown_end(how: str) -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        streams = [await world.engine.stream(run_id) for _ in range(3)]
        for stream in streams[:2]:
            stream.read(1 << 20)
        waits = [await held_back(stream.changed()) for stream in streams[:2]]
        if how == "begin_shutdown":
            world.engine.begin_shutdown()
        elif how == "stop":
            await world.stop()
        else:
            await world.crash()
        await asyncio.gather(*waits)
        for stream in streams:
            assert stream.ended
            assert not stream.finished
            await stream.changed()
            stream.close()


async def test_a_stream_of_a_purged_run_ends() -> None:
    async with service() as world:
        run_id = await world.trigger("doubles", 1)
        await world.finished(run_id)
        stream = await world.engine.stream(run_id)
        await world.engine.purge(run_id)
        assert stream.ended
        stream.close()


async def test_a_stream_may_be_read_while_its_run_is_replayed() -> None:
    async with service() as world:
        run_id = await world.trigger("declares", {"id": 1, "count": 2})
        stream = await world.engine.stream(run_id)
        reading = asyncio.ensure_future(to_the_end(stream))
        await world.settle()
        for event in ("go-1", "kept-1", "kept-1"):
            await world.clock.advance(60)
            assert world.actor(run_id).session is None
            await world.engine.notify(event, b"1")
        await world.finished(run_id)
        assert await reading == await world.stream_bytes(run_id)


async def test_the_embedded_stream_gives_the_events_and_ends() -> None:
    async with service() as world:
        handle = await world.flow.trigger("doubles", 2)
        events = [event async for event in handle.stream()]
        assert [event.event for event in events] == [
            "status",
            "status",
            "step",
            "status",
            "step",
            "complete",
        ]
        assert [event async for event in handle.stream(events[-2].id)] == events[-1:]
        assert [event async for event in handle.stream(-5)] == events


async def test_all_who_wait_on_one_stream_are_woken() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        stream: Any = await world.engine.stream(run_id)
        await world.waiting(run_id)
        stream.read(1 << 20)
        waits = [await held_back(stream.changed()) for _ in range(4)]
        await world.engine.notify("ev", b"1")
        await asyncio.gather(*waits)
        assert await finish(world, run_id) == "completed"
        stream.close()


async def finish(world: Service, run_id: str) -> str:
    return (await world.finished(run_id)).status
