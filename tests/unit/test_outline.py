"""A run in outline is what the same records make of an open one, or it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.errors import JournalCorruptError
from stepflow.journal.recovery import LeftOutError
from stepflow.model import records as rec
from stepflow.model.outline import Outline
from stepflow.model.records import encode_record
from stepflow.model.run import RunState
from stepflow.model.soundness import COUNT_MAX
from stepflow.runtime import restore
from stepflow.runtime.restore import Restorer
from stepflow.runtime.supervisor import sleeps
from tests.damage.hostile import HOSTILE, baseline, history, lsn_of, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepflow.model.records import Record

RUN = "run_aaaaaaaa"
ERROR = msgspec.Raw(b'{"type":"E","message":"m"}')
NO_ERROR = msgspec.Raw(b'"m"')
NULL = msgspec.Raw(b"null")


class Opening(Restorer):
    """Opens every run, as if none were plain."""

    def _take_plain(self, record: Record, data: bytes) -> bool:
        del record, data
        return False

    @staticmethod
    def _outline(lsn: int, line: bytes) -> Outline | None:
        del lsn, line


def told(restorer: Restorer, entries: list[tuple[str, int, bytes]]) -> dict[str, Any]:
    """Return all that a restorer makes of lines and records, and says of them."""
    left: list[str] = []
    for kind, lsn, data in entries:
        try:
            (restorer.on_line if kind == "line" else restorer.on_record)(lsn, data)
        except LeftOutError as error:
            left.append(str(error))
        except JournalCorruptError as error:
            return {"refused": str(error)}
    return {
        "left": left,
        "said": restorer.messages,
        "ts": restorer.last_ts_ms,
        "gone": restorer._gone,
        "payloads": {lsn: (row.body, row.takers) for lsn, row in restorer._payloads.items()},
        "runs": [facts(found) for found in restorer.runs()],
    }


def facts(found: restore.Restored) -> dict[str, Any]:
    """Return what the tables take of a run."""
    outline = found.outline
    if outline is None:
        return facts_of_state(found.state)
    assert found.failure == ""
    return facts_of_outline(outline)


def facts_of_state(state: RunState) -> dict[str, Any]:
    pending = [] if state.finished else state.pending_calls()
    start = state.started
    assert start is not None
    return {
        "line": state.pack(),
        "failure": state.failure,
        "summary": msgspec.structs.asdict(state.summary()),
        "start": start.lsn,
        "rs": state.rs,
        "nbytes": state.nbytes,
        "ended": state.finished,
        "sleeps": not state.finished and sleeps(state),
        "events": start.events,
        "waits": [c.event for c in pending if c.kind == "event"],
        "timers": [(c.key, c.due) for c in pending if c.due],
        "held": state.due if state.status == "pending" else 0,
    }


def facts_of_outline(run: Outline) -> dict[str, Any]:
    going = run.key and not run.finished
    return {
        "line": run.line(),
        "failure": "",
        "summary": msgspec.structs.asdict(run.summary()),
        "start": run.start_lsn,
        "rs": run.rs,
        "nbytes": run.nbytes,
        "ended": run.finished,
        "sleeps": not run.finished and run.sleeps,
        "events": run.events,
        "waits": [run.event] if going and run.kind == "event" else [],
        "timers": [(run.key, run.call_due)] if going and run.call_due else [],
        "held": run.due if run.status == "pending" else 0,
    }


def records() -> list[tuple[str, int, bytes]]:
    return [("record", lsn_of(data), data) for group in history() for data in group]


def the_same(entries: list[tuple[str, int, bytes]]) -> dict[str, Any]:
    plain = told(Restorer(), entries)
    assert plain == told(Opening(), entries)
    return plain


def test_every_prefix_of_a_history_gives_the_same_in_outline_and_open() -> None:
    entries = records()
    outlines = 0
    for end in range(0, len(entries) + 1, 3):
        the_same(entries[:end])
    restorer = Restorer()
    told(restorer, entries)
    for found in restorer.runs():
        outlines += found.outline is not None
        state = found.state
        assert found.outline is None
        assert found.state is state
    assert outlines >= len(baseline().lines) // 2


@settings(max_examples=300)
@given(st.data())
def test_a_spoiled_history_gives_the_same_in_outline_and_open(data: st.DataObject) -> None:
    entries = records()
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(0, len(entries) - 1), "at")
        kind, lsn, record = entries[at]
        match data.draw(st.sampled_from(("drop", "twice", "swap", "field", "text")), "how"):
            case "drop":
                del entries[at]
            case "twice":
                entries.insert(at, entries[at])
            case "swap":
                other = data.draw(st.integers(0, len(entries) - 1), "other")
                entries[at], entries[other] = entries[other], entries[at]
            case "field":
                entries[at] = kind, lsn, spoiled(record, data)
            case _:
                entries[at] = kind, lsn, data.draw(st.sampled_from((b" ", b"")), "lead") + record
    the_same(entries)


def spoiled(record: bytes, data: st.DataObject) -> bytes:
    """Return the record with one member replaced."""
    try:
        parts = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return record
    name = data.draw(st.sampled_from(sorted(parts)), "member")
    values = [v for v in HOSTILE if len(v) < 1000] + [b'"run_aaaaaaaa"', b"1", b"2", b"5"]
    value = data.draw(st.sampled_from(values), "value")
    members = (b'"%b":%b' % (k.encode(), value if k == name else v) for k, v in parts.items())
    return b"{%b}" % b",".join(members)


@given(st.data())
def test_lines_and_the_records_after_them_give_the_same(data: st.DataObject) -> None:
    entries = records()
    moment = data.draw(st.integers(0, len(entries)), "moment")
    base = data.draw(st.integers(0, moment), "base")
    at_moment = Opening()
    told(at_moment, entries[:moment])
    lines = [("line", f.state.seen_lsn, f.state.pack()) for f in at_moment.runs()]
    if lines and data.draw(st.booleans(), "spoil"):
        at = data.draw(st.integers(0, len(lines) - 1), "line")
        kind, lsn, line = lines[at]
        cut = data.draw(st.integers(0, len(line)), "cut")
        text = data.draw(st.sampled_from((b"", b"1", b'"', b",", b"}", b"x")), "text")
        lines[at] = kind, lsn, line[:cut] + text + line[cut + 1 :]
    the_same([*lines, *entries[base:]])


def test_runs_that_were_not_touched_for_long_are_kept_as_bytes_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = told(Restorer(), records())
    monkeypatch.setattr(restore, "_WARM_MAX", 2)
    restorer = Restorer()
    assert told(restorer, records()) == whole
    assert any(isinstance(row, bytes) for row in restorer._rows.values())
    assert whole["runs"] == [facts_of_state(found.state) for found in restorer.runs()]


# ---------------------------------------------------------------- what is not plain


def start(**fields: Any) -> rec.RunStarted:
    plain = {"lsn": 1, "r": RUN, "rs": 1, "ts": 1, "workflow": "w", "input": msgspec.Raw(b"1")}
    return rec.RunStarted(**(plain | fields))


def begun(*more: Record) -> Outline:
    first = start()
    run = Outline.of(first, encode_record(first))
    assert run is not None
    for record in more:
        assert run.take(record, encode_record(record))
    return run


def at(n: int, kind: type[Any], /, **fields: Any) -> Any:
    return kind(**{"lsn": n, "r": RUN, "rs": n, "ts": n, **fields})


def step(n: int, key: str = "a#1", **fields: Any) -> Any:
    return at(n, rec.StepStarted, **{"key": key, "name": "a", "fn": "f", "args": "x", **fields})


def wait(n: int, **fields: Any) -> Any:
    return at(n, rec.WaitStarted, **{"key": "w#1", "name": "w", "event": "e", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"lineage": NULL},
        {"admission": NULL},
        {"schedule": "s"},
        {"rs": 2},
        {"r": "none"},
        {"input": msgspec.Raw(b'"%b"' % (b"x" * 40_000))},
    ],
)
def test_a_start_that_is_special_long_or_doubtful_is_opened(fields: dict[str, Any]) -> None:
    record = start(**fields)
    assert Outline.of(record, encode_record(record)) is None


@pytest.mark.parametrize("spoil", [lambda data: b" " + data, lambda data: data + b"\n"])
def test_a_record_with_something_around_it_is_opened(spoil: Any) -> None:
    record = start()
    assert Outline.of(record, spoil(encode_record(record))) is None
    assert not begun().take(step(2), spoil(encode_record(step(2))))


def refused() -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    yield "a cancel", (), at(2, rec.CancelRequested, deadline=5)
    yield "another number", (), step(2, rs=3)
    yield "an older place", (), step(2, lsn=1)
    yield "a place out of range", (), step(2, lsn=COUNT_MAX + 1)
    yield "a time out of the calendar", (), step(2, ts=-1)
    yield "after the end", (at(2, rec.RunCompleted, result=NULL),), step(3)
    yield "a failure without an error", (), at(2, rec.RunFailed, error=NO_ERROR)
    yield "two at a time", (step(2),), step(3, key="b#1")
    yield "the same key, another function", (step(2),), step(3, fn="g")
    yield "a key without a name", (), step(2, key="")
    done = at(3, rec.StepCompleted, key="a#1", result=NULL)
    yield "a key that was used", (step(2), done), step(4)
    yield "a result of nothing", (), done.__class__(lsn=2, r=RUN, rs=2, ts=2, key="", result=NULL)
    yield "a result of another", (step(2),), at(3, rec.StepCompleted, key="b#1", result=NULL)
    retry = {"attempt": 1, "due": 9}
    yield "a retry of another", (step(2),), at(3, rec.StepRetrying, key="b", error=ERROR, **retry)
    yield "a retry of none", (step(2),), at(3, rec.StepRetrying, key="a#1", error=NO_ERROR, **retry)
    late = {"attempt": 1, "due": -1, "error": ERROR}
    yield "a retry at no time", (step(2),), at(3, rec.StepRetrying, key="a#1", **late)
    yield "an error that is none", (step(2),), at(3, rec.StepFailed, key="a#1", error=NO_ERROR)
    yield "a failure of another", (step(2),), at(3, rec.StepFailed, key="b#1", error=ERROR)
    yield "a sleep to no time", (), at(2, rec.SleepStarted, key="s", name="s", due=-1)
    nap = at(3, rec.SleepStarted, key="s", name="s", due=9)
    yield "a sleep beside a step", (step(2),), nap
    yield "a wait to no time", (), wait(2, due=-1)
    yield "a wait beside a step", (step(2),), wait(3)
    yield "an unknown event", (wait(2),), at(3, rec.WaitResolved, key="w#1", payload=1)
    child = {"key": "c", "name": "c", "workflow": "w", "child": "run_bbbbbbbb", "args": ""}
    yield "a child beside a step", (step(2),), at(3, rec.ChildStarted, **child)
    ended = at(3, rec.ChildEnded, key="c", error=NO_ERROR)
    yield "a child with no error", (at(2, rec.ChildStarted, **child),), ended
    sent = {"key": "n", "name": "n", "args": "", "count": 1}
    yield "a notify beside a step", (step(2),), at(3, rec.NotifySent, **sent)


@pytest.mark.parametrize(
    ("more", "record"), [row[1:] for row in refused()], ids=[row[0] for row in refused()]
)
def test_what_is_not_plain_is_refused_and_nothing_is_changed(
    more: tuple[Any, ...], record: Any
) -> None:
    run = begun(*more)
    before = msgspec.structs.asdict(run)
    assert not run.take(record, encode_record(record))
    assert msgspec.structs.asdict(run) == before


def test_an_event_is_taken_once_in_order_and_within_bounds() -> None:
    run = begun(wait(2))
    for payload, lsn in ((b"1", 0), (b'"%b"' % (b"x" * 40_000), 7)):
        record = at(9, rec.WaitResolved, rs=3, key="w#1", payload=lsn)
        assert not run.take(record, encode_record(record), payload)
    other = at(9, rec.WaitResolved, rs=3, key="v#1", payload=7)
    assert not run.take(other, encode_record(other), b"1")
    record = at(9, rec.WaitResolved, rs=3, key="w#1", payload=7)
    assert run.take(record, encode_record(record), b"1")
    assert b'"payloads":{"7":1}' in run.line()


def test_a_long_history_is_opened() -> None:
    run = begun()
    value = {"key": "v", "value": NULL}
    for n in range(2, 65):
        record = at(n, rec.ValueRecorded, **value)
        assert run.take(record, encode_record(record))
    record = at(65, rec.ValueRecorded, **value)
    assert not run.take(record, encode_record(record))
    large = at(2, rec.ValueRecorded, key="v", value=msgspec.Raw(b'"%b"' % (b"x" * 40_000)))
    assert not begun().take(large, encode_record(large))


def test_all_plain_kinds_give_what_an_open_run_gives() -> None:
    child = {"key": "c#1", "name": "c", "workflow": "w", "child": "run_bbbbbbbb", "args": ""}
    lives: list[list[Any]] = [
        [step(2), at(3, rec.StepRetrying, key="a#1", attempt=1, error=ERROR, due=9), step(4)],
        [step(2), at(3, rec.StepFailed, key="a#1", error=ERROR)],
        [at(2, rec.SleepStarted, key="s", name="s", due=9), at(3, rec.SleepEnded, key="s")],
        [wait(2, due=9, solo=True), at(3, rec.WaitTimedOut, key="w#1")],
        [at(2, rec.ChildStarted, **child), at(3, rec.ChildEnded, key="c#1", result=NULL)],
        [at(2, rec.ChildStarted, **child), at(3, rec.ChildEnded, key="c#1", error=ERROR)],
        [at(2, rec.ChildStarted, awaited=False, **child)],
        [at(2, rec.NotifySent, key="n", name="n", args="", count=1)],
        [at(2, rec.Emitted, key="e", name="e", data=NULL)],
        [at(2, rec.Progressed, key="p", done=1.0), at(3, rec.VersionChosen, name="v", n=1)],
        [at(2, rec.RunReleased), at(3, rec.RunFailed, error=ERROR)],
        [step(2), at(3, rec.RunCompleted, result=NULL)],
    ]
    for due in (0, 5):
        for life in lives:
            if not due and isinstance(life[0], rec.RunReleased):
                # What is under way is let in by nobody.
                continue
            first = start(due=due, events=("e",), tags=("t",), idem="i", by="b")
            data = encode_record(first)
            run, state = Outline.of(first, data), RunState(RUN)
            assert run is not None
            state.fold(first, data)
            assert facts_of_outline(run) == facts_of_state(state)
            for record in life:
                data = encode_record(record)
                assert run.take(record, data), record
                state.fold(record, data)
                assert facts_of_outline(run) == facts_of_state(state), record
            assert facts_of_state(run.state()) == facts_of_state(state)


def test_a_line_is_unpacked_in_outline_only_when_all_of_it_is_plain() -> None:
    def line(**parts: Any) -> bytes:
        whole = {"k": "run", "id": RUN, "lsn": 1, "records": [start()]}
        return msgspec.json.encode(whole | parts)

    run = Outline.unpack(line())
    assert run is not None
    assert run.line() == line()
    assert Outline.unpack(line(records=[])) is None
    assert Outline.unpack(line(aside="SFW401")) is None
    assert Outline.unpack(line(misfits=[[0, 1, {}]])) is None
    assert Outline.unpack(line(lsn=2)) is None
    assert Outline.unpack(line(payloads={"5": 1})) is None
    assert Outline.unpack(line(records=[step(1)])) is None
    assert Outline.unpack(line(id="run_bbbbbbbb")) is None
    assert Outline.unpack(line(records=[start(schedule="s"), step(2)], lsn=2)) is None
    assert Outline.unpack(line(records=[start(), step(2, r="run_bbbbbbbb")], lsn=2)) is None
    assert Outline.unpack(line(records=[start(), step(2, rs=5)], lsn=2)) is None
    ended = at(3, rec.WaitResolved, key="w#1", payload=1)
    whole = [start(), wait(2), ended]
    assert Outline.unpack(line(records=whole, lsn=3)) is None
    assert Outline.unpack(line(records=whole, lsn=3, payloads={"1": 4})) is not None


def test_every_record_of_a_run_was_tried() -> None:
    tags = {msgspec.json.decode(data)["t"] for _, _, _, data in rows()}
    assert {"wait.resolved", "step.completed", "event.kept", "run.purged"} <= tags
