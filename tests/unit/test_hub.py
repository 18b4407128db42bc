"""A subscriber is a cursor: it reads what is durable, once, and is woken when there is more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.ids import RunId
from stepflow.model.records import encode_record
from stepflow.model.run import RunState
from stepflow.model.views import RunEvent
from stepflow.runtime.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = RunId("run_aaaaaaaa")


class Actor:
    """One run, as far as the hub looks."""

    def __init__(self, left_alone: Callable[[], None]) -> None:
        self.state = RunState(RUN)
        self.open_state: RunState | None = None
        self.feed: Any = None
        self.purged = False
        self.left_alone = left_alone

    @property
    def lsn(self) -> int:
        return self.state.lsn


def loop_of_here() -> Any:
    """Return the running loop, or one that never runs."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return SimpleNamespace(call_soon=lambda *_: None)


class Bench:
    """A hub over a journal that is durable as far as the test says, and one run."""

    def __init__(self) -> None:
        self.journal: Any = SimpleNamespace(durable_lsn=0, last_lsn=0, store_id="s")
        runs: Any = SimpleNamespace()
        self.hub = Hub(self.journal, loop_of_here(), runs)
        self.actor: Any = Actor(self._left)
        self.left = 0
        self.write(rec.RunStarted, workflow="w", input=Raw(b"1"))

    def _left(self) -> None:
        self.left += 1

    def write(self, kind: Any, **fields: Any) -> int:
        state = self.actor.state
        lsn: int = state.lsn + 3
        self.journal.last_lsn = lsn
        record = kind(lsn=lsn, r=RUN, rs=state.rs + 1, ts=1, **fields)
        state.apply(record, encode_record(record))
        if self.actor.feed is not None:
            self.hub.note(lsn, self.actor.feed)
        return lsn

    def emit(self, number: int) -> int:
        return self.write(rec.Emitted, key=f"e{number}", name="n", data=Raw(b"%d" % number))

    def sync(self, lsn: int | None = None) -> None:
        self.journal.durable_lsn = self.actor.state.lsn if lsn is None else lsn
        self.hub.commit(self.journal.durable_lsn)


def numbers(events: list[RunEvent]) -> list[int]:
    return [event.id for event in events]


@given(st.lists(st.sampled_from(["emit", "silent", "sync", "read", "bytes", "join"]), max_size=60))
def test_whatever_happens_each_reader_gets_the_durable_events_once_and_in_order(
    acts: list[str],
) -> None:
    bench = Bench()
    readers: list[tuple[Any, list[int]]] = [(bench.hub.join(bench.actor, 0), [])]
    for number, act in enumerate(acts):
        if act == "emit":
            bench.emit(number)
        elif act == "silent":
            # A record that makes no event.
            bench.write(rec.ValueRecorded, key=f"v{number}", value=Raw(b"1"))
        elif act == "sync":
            bench.sync()
        elif act == "join":
            readers.append((bench.hub.join(bench.actor, 0), []))
        for reader, seen in readers:
            if act == "read":
                seen.extend(numbers(reader.read_events(2)))
            elif act == "bytes":
                text = reader.read(1).decode()
                seen.extend(
                    [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
                )
            assert max(seen, default=0) * 3 <= bench.journal.durable_lsn
    bench.sync()
    every = []
    for place, data in enumerate(bench.actor.state.records, 1):
        if b'"t":"value"' not in data:
            every.append(place)
    for reader, seen in readers:
        assert seen + numbers(reader.read_events(1000)) == every
        reader.close()
    assert bench.hub.subscribers == 0
    assert bench.left == 1


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_reader_is_woken_by_the_commit_and_not_by_the_record() -> None:
    bench = Bench()
    reader = bench.hub.join(bench.actor, 1)
    waiting = asyncio.ensure_future(reader.changed())
    await turns()
    first = bench.emit(1)
    second = bench.emit(2)
    await turns()
    assert not waiting.done()
    bench.sync(first)
    await waiting
    assert numbers(reader.read_events(10)) == [2]
    again = asyncio.ensure_future(reader.changed())
    await turns()
    assert not again.done()
    bench.sync(second)
    await again
    assert numbers(reader.read_events(10)) == [3]
    reader.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["close", "hub", "purge"])
async def test_whatever_ends_a_stream_wakes_its_reader(how: str) -> None:
    bench = Bench()
    reader = bench.hub.join(bench.actor, 1)
    waiting = asyncio.ensure_future(reader.changed())
    await turns()
    if how == "close":
        reader.close()
    elif how == "hub":
        bench.hub.close()
    else:
        bench.actor.purged = True
        bench.actor.feed.wake()
    await waiting
    assert reader.ended
    assert not reader.finished
    reader.close()
    reader.close()
    assert bench.hub.subscribers == 0


@pytest.mark.asyncio
async def test_the_end_is_reached_when_all_was_read_and_not_before() -> None:
    bench = Bench()
    reader = bench.hub.join(bench.actor, 0, RunEvent(0, "resync", b"{}"))
    bench.write(rec.RunCompleted, result=Raw(b"1"))
    assert not reader.ended
    assert [event.event for event in reader.read_events(10)] == ["resync"]
    assert reader.read_events(10) == []
    bench.sync()
    await reader.changed()
    assert [event.event for event in reader.read_events(10)] == ["status", "complete"]
    assert reader.ended
    assert reader.finished
    assert reader.cursor == 2
    await reader.changed()


def test_the_last_to_leave_takes_the_feed_along() -> None:
    bench = Bench()
    first = bench.hub.join(bench.actor, 0)
    second = bench.hub.join(bench.actor, 0)
    feed = bench.actor.feed
    first.close()
    assert bench.actor.feed is feed
    second.close()
    assert bench.actor.feed is None
    assert bench.left == 1


@pytest.mark.asyncio
async def test_many_subscribers_have_their_turn_some_at_a_time_and_get_the_same_bytes() -> None:
    bench = Bench()
    got: list[bytes] = []
    for _ in range(250):
        reader = bench.hub.join(bench.actor, 1)
        reader.listen(lambda reader=reader: got.append(reader.read(1000)))  # type: ignore[misc]
    bench.emit(1)
    bench.emit(2)
    assert got == []
    bench.sync()
    assert got == []
    seen: list[int] = []
    while len(got) < 250:
        await asyncio.sleep(0)
        seen.append(len(got))
    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) == 100
    assert len({id(data) for data in got}) == 1
    assert got[0].count(b"event: emit") == 2
    await turns()
    assert bench.hub.joined == b""


@pytest.mark.asyncio
async def test_a_subscriber_that_has_its_turn_coming_gets_no_second_one() -> None:
    bench = Bench()
    got: list[bytes] = []
    reader = bench.hub.join(bench.actor, 1)
    reader.listen(lambda: got.append(reader.read(1000)))
    bench.sync(bench.emit(1))
    bench.sync(bench.emit(2))
    await turns()
    (both,) = got
    assert both.count(b"event: emit") == 2
    bench.sync(bench.emit(3))
    await turns()
    assert len(got) == 2
    reader.close()
    assert bench.hub.joined_at is None


@pytest.mark.asyncio
async def test_a_subscriber_that_fails_stops_none_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    got: list[bytes] = []
    first, second = bench.hub.join(bench.actor, 1), bench.hub.join(bench.actor, 1)

    def fail() -> None:
        raise ZeroDivisionError

    for reader in bench.actor.feed.subscribers:
        reader.listen(fail if reader is first else lambda: got.append(second.read(1000)))
    bench.sync(bench.emit(1))
    await turns()
    assert len(got) == 1
    assert "ZeroDivisionError" in caplog.text


def test_what_was_joined_for_one_place_is_not_read_from_another() -> None:
    bench = Bench()
    bench.emit(1)
    bench.sync()
    first, second = bench.hub.join(bench.actor, 0), bench.hub.join(bench.actor, 1)
    assert first.read(1000).count(b"id: ") == 2
    assert second.read(1000).count(b"id: ") == 1
    assert first.read(1000) == second.read(1000) == b""
    third = bench.hub.join(bench.actor, 0)
    assert third.read(1).count(b"id: ") == 1
    assert third.read(1000).count(b"id: ") == 1
