"""Snapshot lines and journal records fold into the runs that were, wherever the cut lies."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.errors import JournalCorruptError
from stepflow.journal.recovery import LeftOutError
from stepflow.model import records as rec
from stepflow.model.records import encode_record
from stepflow.runtime.restore import Restorer
from tests.engine_kit import service

if TYPE_CHECKING:
    from stepflow.model.run import RunState

RUN = "run_aaaaaaaa"
CANCELLED = msgspec.Raw(b'{"type":"RunCancelledError","message":"cancelled"}')


@cache
def groups() -> tuple[tuple[bytes, ...], ...]:
    """The records of a service with all sorts of runs, by the frames that they share."""

    async def live() -> tuple[tuple[bytes, ...], ...]:
        async with service() as world:
            ids = {
                name: await world.trigger(workflow, value)
                for name, workflow, value in (
                    ("kept", "declares", {"id": 1, "count": 2}),
                    ("both", "both", "kept-1"),
                    ("waits", "waits", "kept-1"),
                    ("parent", "parent", "child"),
                    ("fails", "fails", None),
                    ("doubles", "doubles", 2),
                    ("live", "sleeps", 500),
                )
            }
            await world.settle()
            await world.engine.notify("kept-1", b'"one"')
            await world.engine.notify("kept-1", b'"two"')
            await world.engine.notify("child", b'"c"')
            for name in ("both", "waits", "parent", "fails", "doubles"):
                await world.finished(ids[name])
            await world.engine.purge(ids["waits"])
            await world.trigger("echo", 1, run_id=ids["waits"])
            await world.finished(ids["waits"])
            await world.engine.notify("go-1", b"0")
            await world.finished(ids["kept"])
            return tuple(map(tuple, world.life.groups))

    return asyncio.run(live())


def history() -> tuple[bytes, ...]:
    return tuple(data for group in groups() for data in group)


def lsn_of(data: bytes) -> int:
    lsn: int = msgspec.json.decode(data)["lsn"]
    return lsn


def fold(records: tuple[bytes, ...], restorer: Restorer | None = None) -> Restorer:
    restorer = restorer or Restorer()
    for data in records:
        restorer.on_record(lsn_of(data), data)
    return restorer


def lines(restorer: Restorer) -> dict[str, bytes]:
    assert restorer.messages == []
    return {found.state.id: found.state.pack() for found in restorer.runs()}


@given(st.data())
def test_a_fuzzy_snapshot_and_the_records_from_its_base_give_the_same_runs(
    data: st.DataObject,
) -> None:
    records = history()
    # A snapshot begins with a new segment, so never within a frame.
    base = sum(map(len, groups()[: data.draw(st.integers(0, len(groups())), "frames")]))
    ends = data.draw(st.integers(base, len(records)), "end")
    whole = lines(fold(records))
    restorer = Restorer()
    # Each run is written at a moment of its own between the base and the end.
    at_end = fold(records[:ends])
    for run_id in lines(fold(records[:base])):
        moment = data.draw(st.integers(base, ends), run_id)
        line = lines(fold(records[:moment])).get(run_id)
        if line is not None:
            restorer.on_line(msgspec.json.decode(line)["lsn"], line)
    for run_id, lsn in at_end._gone.items():
        if base and lsn > lsn_of(records[base - 1]):
            tomb = b'{"k":"gone","id":"%b","lsn":%d}' % (run_id.encode(), lsn)
            restorer.on_line(lsn, tomb)
    fold(records[base:], restorer)
    assert lines(restorer) == whole


def test_runs_come_in_the_order_of_their_creation() -> None:
    found = [run.state for run in fold(history()).runs()]
    starts = [state.started.lsn for state in found if state.started is not None]
    assert starts == sorted(starts)
    assert len(starts) == len(found) == 8


def test_the_last_time_is_that_of_the_last_record() -> None:
    restorer = fold(history())
    assert restorer.last_ts_ms == max(msgspec.json.decode(data)["ts"] for data in history())


def start(lsn: int, rs: int = 1, run_id: str = RUN) -> bytes:
    record = rec.RunStarted(lsn=lsn, r=run_id, rs=rs, ts=lsn, workflow="w", input=msgspec.Raw(b"1"))
    return encode_record(record)


def ended(lsn: int, rs: int, run_id: str = RUN) -> bytes:
    return encode_record(
        rec.RunCompleted(lsn=lsn, r=run_id, rs=rs, ts=lsn, result=msgspec.Raw(b"2"))
    )


def one(restorer: Restorer) -> RunState:
    (found,) = restorer.runs()
    return found.state


def test_a_record_that_does_not_fit_sets_its_run_aside_and_no_other() -> None:
    other = "run_bbbbbbbb"
    restorer = fold((start(1), start(2, run_id=other), ended(3, 5), ended(4, 2, other)))
    first, second = restorer.runs()
    assert first.failure.startswith("SFW401")
    assert RUN in first.failure
    assert "lsn 3" in first.failure
    assert first.state.status == "running"
    assert not second.failure
    assert second.state.status == "completed"
    assert restorer.messages == [first.failure]
    fold((ended(5, 6),), restorer)
    assert first.state.status == "running"


def test_what_is_recorded_of_a_run_while_it_is_set_aside_is_found_again() -> None:
    restorer = fold((start(1), ended(2, 5), ended(3, 6)))
    asked = rec.CancelRequested(lsn=4, r=RUN, rs=2, ts=4, deadline=9)
    fold((encode_record(asked),), restorer)
    (found,) = restorer.runs()
    assert found.failure
    assert found.state.cancelling
    over = rec.RunCancelled(lsn=5, r=RUN, rs=3, ts=5, error=CANCELLED, forced=True)
    fold((encode_record(over),), restorer)
    assert not found.failure
    assert found.state.status == "cancelled"
    assert len(restorer.messages) == 1


def test_a_run_without_a_beginning_is_said_and_left_out() -> None:
    restorer = Restorer()
    said: list[str] = []
    for lsn in (1, 2, 3):
        with pytest.raises(LeftOutError) as caught:
            fold((ended(lsn, lsn),), restorer)
        said.append(str(caught.value))
    assert list(restorer.runs()) == []
    assert said[0] == f"SFW403 run {RUN} has no beginning, from lsn 1; it is left out"
    assert said[1:] == ["", ""]


def test_records_of_a_purged_run_are_left_out_without_a_word() -> None:
    restorer = Restorer()
    restorer.on_line(9, b'{"k":"gone","id":"%b","lsn":9}' % RUN.encode())
    fold((ended(5, 2),), restorer)
    assert restorer.messages == []
    fold((start(10),), restorer)
    assert one(restorer).rs == 1


def test_an_unknown_record_is_kept_in_its_run_unless_it_is_critical() -> None:
    restorer = fold((start(1),))
    fold((b'{"t":"later","lsn":2,"r":"%b","rs":2,"ts":2}' % RUN.encode(),), restorer)
    fold((ended(3, 3),), restorer)
    assert one(restorer).status == "completed"
    assert one(restorer).rs == 3
    with pytest.raises(JournalCorruptError, match=r"SFW302 lsn 4: record type 'critical'"):
        restorer.on_record(4, b'{"t":"critical","crit":true,"lsn":4,"r":"x","rs":1,"ts":4}')


def test_a_line_of_an_unknown_table_is_passed_over() -> None:
    restorer = Restorer()
    restorer.on_line(3, b'{"k":"later","id":"x","lsn":3}')
    assert list(restorer.runs()) == []


def test_no_payload_is_kept_once_all_have_taken_it() -> None:
    restorer = fold(history())
    assert restorer._payloads == {}
