"""What every record of ours keeps besides its types; a record that does not is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.records import encode_record
from stepflow.model.soundness import TIME_MAX_MS, doubt, is_line

RUN = "run_aaaaaaaa"
ERROR = Raw(b'{"type":"ValueError","message":"no"}')


def doubted(kind: type[Any], **fields: Any) -> str:
    record = kind(**{"lsn": 5, "r": RUN, "rs": 2, "ts": 1} | fields)
    return doubt(record, encode_record(record))


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (rec.SleepStarted, {"key": "s#1", "name": "s", "due": TIME_MAX_MS}),
        (rec.RunFailed, {"error": ERROR}),
        (rec.RunStarted, {"workflow": "w", "input": Raw(b"1"), "rs": 1, "held": True}),
        (rec.RunStarted, {"workflow": "w", "input": Raw(b"1"), "trace": TRACE}),
        (rec.ScheduleSet, {"r": "", "rs": 0, "schedule": "s", "spec": "every 1h"}),
        (rec.CancelRequested, {"deadline": 9, "reason": "é"}),
        (rec.EventReceived, {"r": "", "rs": 0, "event": "e", "payload": Raw(b"1"), "takers": 1}),
    ],
)
def test_a_record_of_ours_is_believed(kind: type[Any], fields: dict[str, Any]) -> None:
    assert doubted(kind, **fields) == ""


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        (rec.SleepEnded, {"key": "s#1", "lsn": 0}, "out of range"),
        (
            rec.RunStarted,
            {"workflow": "w", "input": Raw(b"1"), "scheduled": TIME_MAX_MS + 1},
            "calendar",
        ),
        (rec.RunStarted, {"workflow": "w", "input": Raw(b"1"), "timeout": -1}, "calendar"),
        (rec.RunStarted, {"workflow": "w", "input": Raw(b"1"), "trace": TRACE[1:]}, "trace"),
        (rec.ScheduleFired, {"r": "", "rs": 0, "schedule": "s", "at": -1}, "calendar"),
        (rec.ScheduleSet, {"schedule": "s", "spec": ""}, "belongs to no run"),
        (rec.SleepEnded, {"key": "s#1", "lsn": 2**63}, "out of range"),
        (rec.SleepEnded, {"key": "s#1", "rs": -1}, "out of range"),
        (rec.SleepEnded, {"key": "s#1", "r": 'run_"'}, "no run id"),
        (rec.SleepEnded, {"key": "s#1", "ts": -1}, "outside the calendar"),
        (rec.SleepStarted, {"key": "s", "name": "s", "due": TIME_MAX_MS + 1}, "the calendar"),
        (rec.CancelRequested, {"deadline": -1, "reason": ""}, "outside the calendar"),
        (rec.RunFailed, {"error": Raw(b"5")}, "its error is none"),
        (rec.EventReceived, {"event": "e", "payload": Raw(b"1"), "takers": 1}, "belongs to no run"),
    ],
)
def test_a_record_that_makes_no_sense_is_doubted(
    kind: type[Any], fields: dict[str, Any], why: str
) -> None:
    assert why in doubted(kind, **fields)


def test_a_record_over_two_lines_is_doubted() -> None:
    record = rec.RunReleased(lsn=5, r=RUN, rs=2, ts=1)
    assert "line breaks" in doubt(record, b"{\n}")


@pytest.mark.parametrize(
    ("data", "fits"), [(b"{}", True), ("é".encode(), True), (b"\xff", False), (b"a\nb", False)]
)
def test_a_line_is_text_without_a_break(data: bytes, fits: object) -> None:
    assert is_line(data) is fits
