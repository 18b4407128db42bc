"""The stream of all runs: each event once, in order, over restarts and kills, never too early."""

from __future__ import annotations

import asyncio
import random
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow import Context  # noqa: TC001  the workflow's annotation is read
from stepflow.clock import next_pass, rfc3339
from stepflow.journal import api, recovery
from stepflow.model.event_filter import EVERYTHING, EventFilter
from stepflow.model.records import decode_record
from stepflow.model.views import passing_emit
from stepflow.runtime import firehose
from tests.engine_kit import Service, service

if TYPE_CHECKING:
    from stepflow.engine.protocol import AllStream
    from stepflow.model.views import RunEvent

pytestmark = pytest.mark.asyncio

OUGHT = re.compile(
    rb',"at":"(?P<at>[^"]+)","runId":"(?P<run>run_\w+)","workflowId":"(?P<workflow>[^"]*)"\}$'
)


async def all_of(
    world: Service, after: str | None = None, where: EventFilter = EVERYTHING
) -> list[RunEvent]:
    """Everything that follows the cursor."""
    stream = await world.engine.stream_all(where, after)
    try:
        return read(stream)
    finally:
        stream.close()


def read(stream: AllStream) -> list[RunEvent]:
    events: list[RunEvent] = []
    before = -1
    while before != stream.cursor or len(events) == 0:
        before = stream.cursor
        some = stream.read_events(1000)
        events += some
        if not some and before == stream.cursor:
            break
    return events


async def beginning(world: Service) -> str:
    """The cursor before anything that a run does."""
    return f"{world.engine.sup.journal.store_id}-0"


def by_run(events: list[RunEvent]) -> dict[str, list[tuple[str, bytes]]]:
    """Names and data by run, without what the stream of all adds."""
    found: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
    for event in events:
        match = OUGHT.search(event.data)
        assert match is not None, event
        found[match["run"].decode()].append((event.event, event.data[: match.start()] + b"}"))
    return dict(found)


async def own_streams(world: Service) -> dict[str, list[tuple[str, bytes]]]:
    return {
        run_id: [(event.event, event.data) for event in await world.events(run_id)]
        for run_id in list(world.engine.sup.runs)
    }


async def some_runs(world: Service) -> list[str]:
    """Runs of several kinds, ended, failed and waiting."""
    ids = [await world.trigger("doubles", n) for n in range(3)]
    ids.append(await world.trigger("fails"))
    ids.append(await world.trigger("declares", {"id": 1, "count": 2}))
    await world.settle()
    await world.engine.notify("go-1", b'{"first":true}')
    await world.engine.notify("kept-1", b'"kept"')
    await world.settle()
    await world.durable()
    return ids


async def test_it_tells_each_run_as_the_runs_own_stream_does() -> None:
    async with service() as world:
        await some_runs(world)
        begin = await beginning(world)
        assert by_run(await all_of(world, begin)) == await own_streams(world)
        await world.restart()
        assert by_run(await all_of(world, begin)) == await own_streams(world)


async def test_each_event_says_when_its_record_was_made() -> None:
    async with service() as world:
        await some_runs(world)
        begin = await beginning(world)
        told = [event.json() for event in await all_of(world, begin)]
        for run_id in world.engine.sup.runs:
            records = map(decode_record, world.actor(run_id).peek().records)
            times = {rfc3339(record.ts) for record in records if record is not None}
            seen = [each["at"] for each in told if each["runId"] == run_id]
            assert seen == sorted(seen)
            assert set(seen) <= times
        await world.restart()
        assert [event.json() for event in await all_of(world, begin)] == told


async def test_its_ids_are_the_store_and_the_records_number_and_rise() -> None:
    async with service() as world:
        await some_runs(world)
        stream = await world.engine.stream_all(EVERYTHING, await beginning(world))
        data = b"".join(iter(lambda: stream.read(1 << 20), b""))
        stream.close()
        store = world.engine.sup.journal.store_id.encode()
        marks = re.findall(rb"^id: (.*)-(\d+)$", data, re.MULTILINE)
        assert {found for found, _ in marks} == {store}
        numbers = [int(number) for _, number in marks]
        assert numbers == sorted(set(numbers))
        assert data.count(b"\n\n") == len(numbers)


async def test_without_a_cursor_it_begins_now() -> None:
    async with service() as world:
        await some_runs(world)
        stream = await world.engine.stream_all(EVERYTHING)
        assert stream.read(1 << 20) == b""
        run_id = await world.trigger("doubles", 9)
        await world.finished(run_id)
        assert list(by_run(read(stream))) == [run_id]
        stream.close()


async def test_nothing_is_read_before_it_is_durable() -> None:
    async with service() as world:
        stream = await world.engine.stream_all(EVERYTHING)
        world.hold()
        asking = asyncio.ensure_future(world.trigger("echo", 1))
        await world.settle()
        assert stream.read(1 << 20) == b""
        world.release()
        await asking
        await world.settle()
        assert b'"status":"running"' in stream.read(1 << 20)
        stream.close()


@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_every_resume_gets_exactly_what_was_missed(how: str) -> None:
    async with service() as world:
        await some_runs(world)
        whole = await all_of(world, await beginning(world))
        cursors = [f"{world.engine.sup.journal.store_id}-{event.id}" for event in whole]
        if how == "restart":
            await world.restart()
        else:
            await world.crash()
            await world.start()
        for place, cursor in enumerate(cursors, 1):
            assert await all_of(world, cursor) == whole[place:]


async def test_kills_between_events_leave_no_gap_and_tell_nothing_twice() -> None:
    rng = random.Random(7)
    async with service(seed=7) as world:
        seen: list[RunEvent] = []
        cursor = await beginning(world)
        for turn in range(12):
            for n in range(rng.randrange(1, 4)):
                await world.trigger(rng.choice(["doubles", "fails", "retries", "echo"]), n)
            stream = await world.engine.stream_all(EVERYTHING, cursor)
            for _ in range(rng.randrange(30)):
                await asyncio.sleep(0)
                seen += stream.read_events(rng.randrange(1, 4))
                cursor = stream.stream_cursor
            if turn == 6:
                assert await world.engine.snapshot()
            await world.crash()
            await world.start()
        await world.settle()
        await world.durable()
        seen += await all_of(world, cursor)
        assert [event.id for event in seen] == sorted({event.id for event in seen})
        assert seen == await all_of(world, await beginning(world))
        assert by_run(seen) == await own_streams(world)


async def test_a_list_and_then_the_stream_from_its_cursor_miss_nothing() -> None:
    async with service() as world:
        ids = [await world.trigger("gated") for _ in range(5)]
        await world.settle()
        page = await world.page()
        assert {run.status for run in page.runs} == {"running"}
        world.gate.set()
        for run_id in ids:
            await world.finished(run_id)
        await world.crash()
        await world.start()
        ends = [e for e in await all_of(world, page.stream_cursor) if e.event == "complete"]
        assert set(by_run(ends)) == set(ids)


async def test_what_moves_while_the_list_is_made_comes_after_its_cursor(monkeypatch) -> None:
    monkeypatch.setattr("stepflow.engine.listing._LIST_SLICE", 1)
    async with service() as world:
        ids = [await world.trigger("gated") for _ in range(5)]
        await world.settle()
        asking = asyncio.ensure_future(world.page())
        await asyncio.sleep(0)
        world.gate.set()
        page = await asking
        for run_id in ids:
            await world.finished(run_id)
        shown_ended = {run.id for run in page.runs if run.status == "completed"}
        told = set(
            by_run([e for e in await all_of(world, page.stream_cursor) if e.event == "complete"])
        )
        assert shown_ended | told == set(ids)


# ---------------------------------------------------------------- what is not kept


@pytest.mark.parametrize(
    "cursor",
    [
        *("", "1", "-", "0123456789abcdef-1", "{store}-", "{store}-x", "{store}-999", "{store}--1"),
        *("{store}-\u0661", "{store}-" + "9" * 5000, "{store}-1 ", "\x00"),
    ],
)
async def test_a_cursor_that_is_not_this_stores_gets_a_resync_then_live(cursor: str) -> None:
    async with service() as world:
        await some_runs(world)
        store = world.engine.sup.journal.store_id
        stream = await world.engine.stream_all(EVERYTHING, cursor.replace("{store}", store))
        assert stream.stream_cursor == ""
        (first,) = stream.read_events(10)
        assert first.event == "resync"
        here = world.engine.sup.journal.durable_lsn
        assert msgspec.json.decode(first.data) == {"streamCursor": f"{store}-{here}"}
        run_id = await world.trigger("echo", 1)
        await world.finished(run_id)
        assert list(by_run(read(stream))) == [run_id]
        stream.close()


async def test_the_last_events_are_kept_and_who_wants_older_ones_is_told_so() -> None:
    async with service(stream_kept_events=64) as world:
        begin = await beginning(world)
        for n in range(80):
            await world.trigger("echo", n)
        await world.settle()
        await world.durable()
        ((resync,), kept) = (await all_of(world, begin))[:1], world.engine.sup.journal.recent
        assert resync.event == "resync"
        events = await all_of(world, f"{world.engine.sup.journal.store_id}-{kept.first_lsn - 1}")
        assert 64 <= len(events) <= 70
        await world.restart()
        again = await all_of(world, f"{world.engine.sup.journal.store_id}-{events[-64].id - 1}")
        assert again == events[-64:]


async def test_they_are_bounded_in_bytes() -> None:
    async with service(stream_kept_bytes=64 * 1024) as world:
        for n in range(100):
            await world.trigger("echo", str(n) * 1000)
            if n % 10 == 0:
                world.engine.sup.journal.recent.fold()
        await world.settle()
        recent = world.engine.sup.journal.recent
        recent.fold()
        assert 16 * 1024 < recent.nbytes <= 64 * 1024
        # What is rendered counts for what it takes.
        await all_of(world, f"{world.engine.sup.journal.store_id}-{recent.first_lsn - 1}")
        assert recent.nbytes <= 64 * 1024


async def test_a_seconds_records_are_folded_some_in_each_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "_FOLD_SLICE", 3)
    async with service() as world:
        recent = world.engine.sup.journal.recent
        for n in range(8):
            await world.finished(await world.trigger("echo", n))
        begun, seen = recent.next_lsn, [recent.next_lsn]
        folding = asyncio.ensure_future(world.engine.sup.journal.fold())
        while not folding.done():
            await next_pass()
            seen.append(recent.next_lsn)
        assert seen == sorted(seen)
        assert len(set(seen)) >= 4
        assert recent.next_lsn == world.engine.sup.journal.durable_lsn + 1 > begun + 8


async def test_a_reader_that_falls_behind_what_is_kept_is_told_to_begin_anew() -> None:
    async with service(stream_kept_events=64) as world:
        stream = await world.engine.stream_all(EVERYTHING)
        for n in range(100):
            await world.trigger("echo", n)
        await world.settle()
        first, *others = read(stream)
        assert first.event == "resync"
        assert others == []
        stream.close()


async def test_a_restart_keeps_what_stands_before_the_newest_snapshot() -> None:
    async with service() as world:
        await some_runs(world)
        before = await all_of(world, await beginning(world))
        assert await world.engine.snapshot()
        await world.trigger("echo", 1)
        await world.settle()
        await world.durable()
        whole = await all_of(world, await beginning(world))
        await world.crash()
        await world.start()
        assert whole[: len(before)] == before
        assert await all_of(world, await beginning(world)) == whole


@pytest.mark.parametrize(
    ("what", "offset"), [(b"damage", 0), (b"damage", 600)], ids=["its header", "a frame"]
)
async def test_damage_in_a_segment_that_nothing_else_needs_costs_the_streams_their_past(
    what: bytes, offset: int
) -> None:
    async with service() as world:
        await some_runs(world)
        assert await world.engine.snapshot()
        await world.trigger("echo", 1)
        await world.settle()
        begin = await beginning(world)
        await world.crash()
        first = min(name for name in world.disk.listdir() if name.startswith("wal-"))
        file = world.disk.open(first)
        file.pwrite(what, offset)
        file.fdatasync()
        file.close()
        await world.start()
        assert [event.event for event in await all_of(world, begin)] == ["resync"]


async def test_a_frame_whose_lengths_do_not_add_up_there_does_so_as_well(monkeypatch) -> None:
    async with service() as world:
        await some_runs(world)
        assert await world.engine.snapshot()
        begin = await beginning(world)
        await world.crash()
        whole = recovery.frame_records

        def records(data: bytes, frame: Any) -> list[bytes]:
            if frame.first_lsn == 2:
                raise ValueError("the writer was wrong")
            return whole(data, frame)

        monkeypatch.setattr(recovery, "frame_records", records)
        await world.start()
        assert [event.event for event in await all_of(world, begin)] == ["resync"]


# ---------------------------------------------------------------- what is wanted


async def test_a_filter_takes_what_it_says_and_no_more() -> None:
    async with service() as world:
        ids = await some_runs(world)
        tagged = await world.engine.trigger("echo", b"1", tags=["red", "blue"])
        await world.settle()
        begin = await beginning(world)
        everything = await all_of(world, begin)

        async def wanted(**where: Any) -> list[RunEvent]:
            return await all_of(world, begin, EventFilter(**where))

        def runs_of(events: list[RunEvent]) -> set[str]:
            return set(by_run(events))

        assert runs_of(await wanted(workflow_id="doubles")) == set(ids[:3])
        assert runs_of(await wanted(tags=frozenset({"red"}))) == {tagged}
        assert runs_of(await wanted(tags=frozenset({"red", "blue"}))) == {tagged}
        assert await wanted(tags=frozenset({"red", "green"})) == []
        assert runs_of(await wanted(run_ids=frozenset(ids[:2]))) == set(ids[:2])
        assert await wanted(run_ids=frozenset()) == []
        assert {e.event for e in await wanted(status=frozenset({"failed"}))} == {"error"}
        assert {e.event for e in await wanted(status=frozenset({"completed"}))} == {"complete"}
        running = await wanted(status=frozenset({"running"}))
        ended = await wanted(status=frozenset({"completed", "failed", "cancelled", "pending"}))
        assert sorted(running + ended, key=lambda e: e.id) == everything
        assert await wanted(workflow_id="doubles", status=frozenset({"failed"})) == []


async def test_a_pending_run_is_one_that_waits_to_begin() -> None:
    async with service() as world:
        await world.engine.trigger("echo", b"1", delay_ms=60_000)
        pending = EventFilter(status=frozenset({"pending"}))
        events = await all_of(world, await beginning(world), pending)
        assert [msgspec.json.decode(e.data)["status"] for e in events] == ["pending"]


async def test_a_filter_that_takes_little_does_not_hold_the_loop(monkeypatch) -> None:
    monkeypatch.setattr(firehose, "_WORK_AT_ONCE", 10)
    async with service() as world:
        for n in range(40):
            await world.trigger("echo", n)
        last = await world.trigger("fails")
        await world.settle()
        await world.durable()
        stream = await world.engine.stream_all(
            EventFilter(status=frozenset({"failed"})), await beginning(world)
        )
        reads = 0
        events: list[RunEvent] = []
        while not events:
            before = stream.cursor
            events = stream.read_events(10)
            assert stream.cursor > before
            reads += 1
            await asyncio.wait_for(stream.changed(), 5) if not events else None
        assert reads > 10
        assert list(by_run(events)) == [last]
        stream.close()


# ---------------------------------------------------------------- what is undone, purged, passing


async def test_an_end_that_a_retry_has_undone_is_not_told_again() -> None:
    async with service() as world:
        live = await world.engine.stream_all(EVERYTHING)
        run_id = await world.trigger("fails")
        await world.finished(run_id)
        assert [e.event for e in read(live)][-1] == "error"
        await world.engine.retry(run_id)
        await world.finished(run_id)
        events = await all_of(world, await beginning(world))
        assert [e.event for e in events].count("error") == 1
        assert events[-1].event == "error"
        await world.restart()
        assert await all_of(world, await beginning(world)) == events
        live.close()


async def test_a_purged_run_is_not_told_again() -> None:
    async with service() as world:
        gone = await world.trigger("echo", "secret")
        kept = await world.trigger("echo", 2)
        await world.finished(gone)
        await world.finished(kept)
        await world.engine.purge(gone)
        assert set(by_run(await all_of(world, await beginning(world)))) == {kept}
        await world.restart()
        assert set(by_run(await all_of(world, await beginning(world)))) == {kept}


async def test_what_passes_by_goes_to_who_reads_now_in_its_place_and_is_kept_nowhere() -> None:
    async with service() as world:
        register_passing(world)
        begin = await beginning(world)
        # Nobody reads: nothing at all is done.
        await world.finished(await world.trigger("passing", 1))
        assert world.engine.sup.hub.firehose.passed == 0
        live = await world.engine.stream_all(EVERYTHING)
        other = await world.engine.stream_all(EventFilter(workflow_id="other"))
        run_id = await world.trigger("passing", 3)
        await world.finished(run_id)
        events = read(live)
        assert [(e.event, e.id > 0) for e in events] == [
            *[("status", True), ("emit", False), ("emit", False), ("emit", False)],
            ("complete", True),
        ]
        assert [msgspec.json.decode(e.data)["data"] for e in events[1:4]] == [0, 1, 2]
        assert list(by_run(events)) == [run_id]
        assert read(other) == []
        assert [e.event for e in await all_of(world, begin)].count("emit") == 0
        live.close()
        other.close()
        assert world.engine.sup.hub.firehose.readers == 0


def register_passing(world: Service) -> None:
    @world.flow.workflow("passing")
    async def passing(ctx: Context, count: int) -> int:
        for number in range(count):
            await ctx.emit("n", number, durable=False)
        return count


async def test_nothing_passes_by_of_a_run_that_may_still_be_lost() -> None:
    async with service() as world:
        register_passing(world)
        listener = Listener(await world.engine.stream_all(EVERYTHING))
        world.hold()
        asking = asyncio.ensure_future(world.trigger("passing", 2))
        await world.settle()
        assert world.engine.sup.hub.firehose.passed == 2
        assert listener.data == b""
        calls = listener.calls
        await world.settle()
        assert listener.calls == calls, "it must not spin"
        world.release()
        await world.finished(await asking)
        await world.settle()
        names = re.findall(rb"^event: (\w+)$", listener.data, re.MULTILINE)
        assert names == [b"status", b"emit", b"emit", b"complete"]
        listener.stream.listen(None)
        listener.stream.close()


async def test_of_what_passes_by_so_much_is_kept_for_a_slow_reader(monkeypatch) -> None:
    monkeypatch.setattr(firehose, "_PASSING", 2)
    async with service() as world:
        register_passing(world)
        live = await world.engine.stream_all(EVERYTHING)
        await world.finished(await world.trigger("passing", 5))
        emits = [e for e in read(live) if e.event == "emit"]
        assert [msgspec.json.decode(e.data)["data"] for e in emits] == [3, 4]
        live.close()


async def test_a_purged_run_that_passes_something_by_is_not_told() -> None:
    async with service() as world:
        live = await world.engine.stream_all(EVERYTHING)
        run_id = await world.trigger("echo", 1)
        await world.finished(run_id)
        actor = world.actor(run_id)
        await world.engine.purge(run_id)
        world.engine.sup.hub.firehose.tell(actor, passing_emit("n", b"1"))
        assert [e.event for e in read(live)] == []
        live.close()


# ---------------------------------------------------------------- who is woken, and when


class Listener:
    """What our own connection is to a reader: it writes what is new, when it is told to."""

    def __init__(self, stream: Any, nbytes: int = 1 << 20) -> None:
        self.stream = stream
        self.nbytes = nbytes
        self.data = b""
        self.calls = 0
        stream.listen(self.more)

    def more(self) -> None:
        self.calls += 1
        self.data += self.stream.read(self.nbytes)


async def test_readers_that_listen_are_written_to_as_it_becomes_durable() -> None:
    async with service() as world:
        listeners = [Listener(await world.engine.stream_all(EVERYTHING)) for _ in range(250)]
        small = Listener(await world.engine.stream_all(EVERYTHING), 1)
        run_id = await world.trigger("doubles", 1)
        await world.finished(run_id)
        await world.settle()
        whole = listeners[0].data
        assert whole.count(b"\n\n") == 6
        assert {listener.data for listener in [*listeners, small]} == {whole}
        assert small.calls > listeners[0].calls
        # Bytes that several read from one place are the same object.
        assert len({id(listener.data) for listener in listeners}) <= len(listeners)
        for listener in [*listeners, small]:
            listener.stream.listen(None)
            listener.stream.close()
        assert world.engine.sup.hub.firehose.idle == {}


async def test_a_reader_that_fails_does_not_stop_the_others(caplog) -> None:
    async with service() as world:
        broken: Any = await world.engine.stream_all(EVERYTHING)
        broken.listen(lambda: 1 / 0)
        listener = Listener(await world.engine.stream_all(EVERYTHING))
        await world.finished(await world.trigger("echo", 1))
        await world.settle()
        assert listener.data.count(b"\n\n") == 2
        assert "a reader of all runs could not be woken" in caplog.text
        broken.listen(None)
        broken.close()
        listener.stream.close()


async def test_an_idle_reader_that_does_not_read_costs_a_commit_nothing() -> None:
    async with service() as world:
        await world.engine.stream_all(EVERYTHING)
        hose = world.engine.sup.hub.firehose
        await world.finished(await world.trigger("echo", 1))
        assert hose.idle == {}
        assert not hose._due


async def test_a_task_waits_until_there_is_something_and_is_given_up_without_a_trace() -> None:
    async with service() as world:
        stream = await world.engine.stream_all(EVERYTHING)
        waiting = asyncio.ensure_future(stream.changed())
        await world.settle()
        assert not waiting.done()
        assert len(world.engine.sup.hub.firehose.idle) == 1
        waiting.cancel()
        await world.settle()
        assert world.engine.sup.hub.firehose.idle == {}
        waiting = asyncio.ensure_future(stream.changed())
        await world.trigger("echo", 1)
        await waiting
        assert stream.read(1 << 20) != b""
        stream.close()
        await stream.changed()


async def test_when_the_engine_ends_its_streams_all_readers_are_told() -> None:
    async with service() as world:
        stream = await world.engine.stream_all(EVERYTHING)
        listener = Listener(await world.engine.stream_all(EVERYTHING))
        waiting = asyncio.ensure_future(stream.changed())
        await world.settle()
        world.engine.begin_shutdown()
        await waiting
        await world.settle()
        assert stream.ended
        assert not stream.finished
        assert listener.calls == 1
        stream.close()
        stream.close()
        listener.stream.close()


async def test_commits_cost_nothing_more_once_nobody_reads() -> None:
    async with service() as world:
        journal, hub = world.engine.sup.journal, world.engine.sup.hub
        plain = journal.on_commit
        stream = await world.engine.stream_all(EVERYTHING)
        assert journal.on_commit != plain
        stream.close()
        await world.finished(await world.trigger("echo", 1))
        assert journal.on_commit == plain == hub.commit


async def test_who_watches_one_run_and_who_watches_all_share_one_encoding() -> None:
    async with service() as world:
        run_id = await world.trigger("gated")
        own = await world.engine.stream(run_id)
        live = await world.engine.stream_all(EVERYTHING, await beginning(world))
        world.gate.set()
        await world.finished(run_id)
        assert by_run(read(live))[run_id] == [
            (event.event, event.data) for event in own.read_events(100)
        ]
        own.close()
        live.close()


async def test_many_runs_are_told_with_their_own_names(monkeypatch) -> None:
    monkeypatch.setattr(firehose, "_KNOWN_MAX", 2)
    monkeypatch.setattr(firehose, "_JOINED", 2)
    async with service() as world:
        await some_runs(world)
        begin = await beginning(world)
        assert by_run(await all_of(world, begin)) == await own_streams(world)
        streams = [await world.engine.stream_all(EVERYTHING, begin) for _ in range(4)]
        read_by = [b"".join(iter(lambda s=stream: s.read(100), b"")) for stream in streams]
        assert len(set(read_by)) == 1
        for stream in streams:
            stream.close()
