"""The last durable records: what stands where, what is dropped, and what counts as an event."""

from __future__ import annotations

import random

import pytest
from msgspec import Raw

from stepflow.journal import recovery
from stepflow.journal.recent import NO_EVENTS, SLOT_BYTES, Recent, Told, events_in, kind_of
from stepflow.journal.recovery import Recovery
from stepflow.journal.store import read_store
from stepflow.model import records as rec
from stepflow.model.records import Record, encode_record
from stepflow.model.views import event_of
from tests.journal_kit import handmade, record

EVENT = b'{"t":"emit","n":%d}'
NONE = b'{"t":"value","n":%d}'


class Row(Told, frozen=True, gc=False):
    pass


def filled(count: int, *, events: int = 64, nbytes: int = 1 << 20, text: bytes = EVENT) -> Recent:
    recent = Recent(events, nbytes)
    for lsn in range(1, count + 1):
        recent.keep(((text % lsn,),))
    recent.fold()
    return recent


def slots_of(recent: Recent) -> list[object]:
    found = []
    for lsn in range(recent.first_lsn, recent.next_lsn):
        chunk, place = recent.find(lsn)
        found.append(chunk.slots[place])
    return found


def test_it_is_folded_some_commits_at_a_time():
    recent = Recent(1_000_000, 1 << 30)
    for commit in range(40):
        first = 1 + 10 * commit
        recent.keep([[EVENT % lsn for lsn in range(first, first + 10)]])
    folded = []
    more = True
    while more:
        more = recent.fold_some(95)
        folded.append(recent.next_lsn - 1)
    assert folded == [100, 200, 300, 400]
    assert not recent.fold_some(95)
    assert slots_of(recent) == [EVENT % lsn for lsn in range(1, 401)]


def test_records_stand_by_lsn_whatever_groups_they_came_in():
    rng = random.Random(1)
    recent = Recent(1_000_000, 1 << 30)
    texts = [EVENT % lsn for lsn in range(1, 3000)]
    at = 0
    while at < len(texts):
        commit = []
        for _ in range(rng.randrange(1, 9)):
            size = rng.randrange(1, 300)
            commit.append(tuple(texts[at : at + size]))
            at += size
        recent.keep(commit)
        if rng.randrange(3) == 0:
            recent.fold()
        elif rng.randrange(3) == 0:
            recent.fold_some(rng.randrange(1, 500))
    recent.fold()
    assert (recent.first_lsn, recent.next_lsn) == (1, 3000)
    assert slots_of(recent) == texts
    assert recent.raw(2999) == texts[-1]
    assert recent.raw(0) == recent.raw(3000) == b""


def test_the_oldest_go_when_the_others_are_as_many_events_as_are_asked_for():
    recent = filled(1000)
    assert 64 <= recent.next_lsn - recent.first_lsn <= 66
    assert recent.next_lsn == 1001


def test_records_that_make_no_event_do_not_count():
    recent = Recent(64, 1 << 20)
    for lsn in range(1, 1001):
        recent.keep((((NONE if lsn % 4 else EVENT) % lsn,),))
    recent.fold()
    kept = [slot for slot in slots_of(recent) if kind_of(slot) not in NO_EVENTS]
    assert 64 <= len(kept) <= 66


def test_bytes_bound_it_too():
    recent = filled(
        1000, events=1_000_000, nbytes=64 * 1024, text=b'{"t":"emit","n":"%d' + b"x" * 500
    )
    assert recent.nbytes <= 64 * 1024
    assert recent.next_lsn - recent.first_lsn > 50


def test_one_record_larger_than_all_that_is_kept_leaves_nothing():
    recent = filled(10, nbytes=4096)
    recent.keep(((b"x" * 10_000,),))
    recent.fold()
    assert recent.first_lsn == recent.next_lsn == 12
    assert recent.nbytes == 0


def test_nothing_is_kept_where_nothing_is_asked_for():
    recent = filled(100, events=0, nbytes=0)
    assert recent.first_lsn == recent.next_lsn == 101


def test_what_a_reader_puts_in_a_records_place_counts_for_what_it_takes():
    recent = filled(100)
    before = recent.nbytes
    chunk, place = recent.find(recent.first_lsn)
    record = chunk.slots[place]
    assert isinstance(record, bytes)
    recent.put(chunk, place, Row(1000))
    assert recent.nbytes == before + 1000 - len(record) - SLOT_BYTES
    assert recent.raw(recent.first_lsn) == b""
    recent.blank(recent.first_lsn)
    assert recent.nbytes == before - len(record)
    recent.blank(0)
    recent.blank(10_000)


def test_what_grows_by_being_read_is_bounded_as_well():
    recent = filled(1000, events=1_000_000, nbytes=64 * 1024)
    while recent.find(recent.first_lsn)[0] is not recent.find(recent.next_lsn - 1)[0]:
        chunk, place = recent.find(recent.first_lsn)
        for place in range(len(chunk.slots)):
            recent.put(chunk, place, Row(2000))
        assert recent.nbytes <= 64 * 1024
        if recent.find(recent.first_lsn)[0] is chunk:
            break


def test_events_are_counted_whether_they_were_read_or_not():
    slots = [EVENT % 1, NONE % 2, b""]
    assert events_in(slots) == 1
    assert events_in([*slots, Row(1)]) == 2


def test_older_records_go_before_the_first():
    recent = Recent(1000, 1 << 20)
    recent.begin(501)
    recent.keep(((EVENT % 501,),))
    recent.fold()
    older = recent.like(101)
    older.keep([[EVENT % lsn] for lsn in range(101, 501)])
    assert recent.takes_older
    recent.put_before(older)
    assert (recent.first_lsn, recent.next_lsn) == (101, 502)
    assert slots_of(recent) == [EVENT % lsn for lsn in range(101, 502)]
    much = recent.like(1)
    much.keep([[EVENT % lsn] for lsn in range(1, 101)])
    recent.put_before(much)
    assert recent.first_lsn == 1
    with pytest.raises(ValueError, match="does not go before"):
        recent.put_before(recent.like(7))


def test_with_enough_events_nothing_older_is_taken():
    assert not filled(1000).takes_older
    assert not filled(1000, events=1_000_000, nbytes=4096).takes_older


def _sample(kind: type[Record]) -> Record:
    """Any record of the kind."""
    values = {
        "input": Raw(b"1"),
        "result": Raw(b"1"),
        "error": Raw(b'{"type":"E","message":"m"}'),
        "payload": 1 if kind is not rec.EventReceived else Raw(b"1"),
        "data": Raw(b"1"),
        "value": Raw(b"1"),
        "started": Raw(b"{}"),
    }
    fields: dict[str, object] = {}
    for field in kind.__struct_fields__:
        if field in {"lsn", "rs", "ts", "v"}:
            continue
        if field in values:
            fields[field] = values[field]
        elif field in {"r", "key", "name", "workflow", "event", "child", "fn", "args", "kind"}:
            fields[field] = "a#1"
        elif field in {"deadline", "due", "restarts", "takers", "of", "version", "attempt"}:
            fields[field] = 1
        elif field == "crit":
            fields[field] = True
    try:
        return kind(lsn=1, rs=1, ts=1, **fields)
    except TypeError:
        return kind(lsn=1, rs=1, ts=1, **fields, **dict.fromkeys(_required(kind) - {*fields}, 1))


def _required(kind: type[Record]) -> set[str]:
    import msgspec

    return {
        field.name
        for field in msgspec.structs.fields(kind)
        if field.required and field.name not in {"lsn", "rs", "ts"}
    }


@pytest.mark.parametrize("kind", Record.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_type_counts_as_an_event_if_it_makes_one(kind: type[Record]):
    record = _sample(kind)
    makes_one = event_of(record, {1: b"1"}) is not None
    assert (kind_of(encode_record(record)) not in NO_EVENTS) == makes_one


def test_a_start_takes_in_what_it_reads_piece_by_piece(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "_FOLDED", 8)
    made = handmade()
    for number in range(30):
        made.add(f"one {number}", f"two {number}")
    store = read_store(made.disk)
    assert store is not None
    pending: list[int] = []

    class Watched(Recent):
        def fold(self) -> None:
            pending.append(len(self._pending))
            super().fold()

    recent = Watched(1_000_000, 1 << 30)
    Recovery(made.disk, store, 1, _ignore, _ignore, recent=recent).run()
    assert (recent.first_lsn, recent.next_lsn) == (1, 61)
    assert recent.raw(60) == record(60, "two 29")
    assert len(pending) > 7
    assert max(pending) <= 8


def _ignore(_lsn: int, _data: bytes) -> None:
    return
