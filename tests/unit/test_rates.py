"""The starts that a rate limit counts: a row includes what it says, and nothing twice."""

from __future__ import annotations

import json

import pytest

from stepflow.model import records as rec
from stepflow.model.rates import RateRow, Rates
from stepflow.model.records import decode_record, encode_record
from stepflow.model.schedules import ScheduleRow, ScheduleRows


def test_one_more_may_begin_when_the_oldest_of_the_window_has_left_it() -> None:
    row = RateRow("w", "", 1000)
    for lsn, ts in ((1, 100), (2, 300), (3, 350)):
        row.add(lsn, ts)
    assert row.free_at(4) == 0
    assert row.free_at(3) == 1100
    assert row.free_at(2) == 1300
    row.prune(1099)
    assert row.times == [100, 300, 350]
    row.prune(1100)
    assert row.times == [300, 350]
    row.prune(9999)
    assert row.times == []


def test_a_row_takes_only_what_is_newer_than_its_line() -> None:
    rates = Rates()
    rates.take(5, 100, (("w", '"k"', 1000), ("v", "", 50)))
    (line, _) = (row.line() for row in rates.rows.values())
    assert json.loads(line) == {
        "k": "rate", "id": "w", "key": '"k"', "per": 1000, "lsn": 5, "times": [100],
    }  # fmt: skip
    again = Rates()
    again.take_line(line)
    again.take(5, 100, (("w", '"k"', 1000),))
    again.take(6, 200, (("w", '"k"', 1000),))
    assert again.rows["w", '"k"'].times == [100, 200]
    again.take(7, 5000, (("w", '"k"', 1000),))
    assert again.rows["w", '"k"'].times == [5000], "what no window has is forgotten"


def test_a_schedules_row_follows_its_records() -> None:
    head = {"r": "", "rs": 0}
    rows = ScheduleRows()
    told = [
        rec.ScheduleSet(lsn=1, ts=50, schedule="s", spec="every 1h", **head),
        rec.ScheduleFired(lsn=2, ts=120, schedule="s", at=100, run="run_aaaaaaaa", **head),
        rec.ScheduleFired(lsn=3, ts=220, schedule="s", at=200, skipped=1, **head),
        rec.SchedulePaused(lsn=4, ts=300, schedule="s", paused=True, by="key:ops", **head),
    ]
    for record in told:
        back = decode_record(encode_record(record))
        assert back == record
        assert isinstance(back, rec.ScheduleSet | rec.ScheduleFired | rec.SchedulePaused)
        rows.take(back)
        rows.take(back)
    row = rows.rows["s"]
    assert (row.fired, row.skipped, row.run, row.at) == (1, 1, "run_aaaaaaaa", 100)
    assert (row.last, row.paused, row.lsn) == (300, True, 4)
    copy = ScheduleRows()
    copy.take_line(row.line())
    copy.take(told[2])  # type: ignore[arg-type]
    assert copy.rows["s"].line() == row.line()
    assert ScheduleRow("t").line() == b'{"k":"schedule","id":"t"}'


@pytest.mark.parametrize("line", [b"{}", b'{"id":1}', b"[]"])
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    import msgspec

    for table in (Rates(), ScheduleRows()):
        with pytest.raises(msgspec.MsgspecError):
            table.take_line(line)


def test_only_a_pending_run_is_let_in_and_its_time_counts_from_then() -> None:
    from msgspec import Raw

    from stepflow.model.run import ApplyError
    from tests.unit.run_writer import Writer

    writer = Writer().start()
    with pytest.raises(ApplyError, match="is running: it waits for no admission"):
        writer.write(rec.RunReleased)
    held = Writer()
    held.write(rec.RunStarted, workflow="w", input=Raw(b"1"), held=True, timeout=500)
    assert (held.state.status, held.state.deadline_ms) == ("pending", 0)
    record = held.write(rec.RunReleased, admission=(("w", "", 1000),))
    assert held.state.status == "running"
    assert held.state.deadline_ms == record.ts + 500
    at_once = Writer()
    begun = at_once.write(rec.RunStarted, workflow="w", input=Raw(b"1"), timeout=7)
    assert at_once.state.deadline_ms == begun.ts + 7


def test_a_run_whose_beginning_counts_is_opened_at_a_start() -> None:
    from msgspec import Raw

    from stepflow.model.outline import Outline

    start = rec.RunStarted(
        lsn=1, r="run_aaaaaaaa", rs=1, ts=1, workflow="w", input=Raw(b"1"), due=5
    )
    run = Outline.of(start, encode_record(start))
    assert run is not None
    let_in = rec.RunReleased(lsn=2, r="run_aaaaaaaa", rs=2, ts=6, admission=(("w", "", 1000),))
    assert not run.take(let_in, encode_record(let_in))


def test_recovery_takes_rows_of_rates_and_schedules_and_says_what_is_damaged() -> None:
    from stepflow.journal.recovery import LeftOutError
    from stepflow.runtime.restore import Restorer

    restorer = Restorer()
    restorer.on_line(5, b'{"k":"rate","id":"w","key":"","per":1000,"lsn":5,"times":[100]}')
    restorer.on_line(6, b'{"k":"schedule","id":"s","lsn":6,"spec":"every 1h","last":7}')
    assert restorer.rates.rows["w", ""].times == [100]
    assert restorer.schedules.rows["s"].last == 7
    with pytest.raises(LeftOutError, match="says 5"):
        restorer.on_line(7, b'{"k":"rate","id":"v","key":"","per":1000,"lsn":5,"times":[]}')
    with pytest.raises(LeftOutError, match="cannot be read"):
        restorer.on_line(8, b'{"k":"rate","id":"v","lsn":8}')
    assert ("v", "") not in restorer.rates.rows
