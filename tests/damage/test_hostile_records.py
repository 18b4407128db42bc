"""Records with right checksums and wrong contents: 0 crashes, 0 silent, 0 wrong.

`make test` takes every twelfth case, `make torture` all of them.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from stepflow.model import records as rec
from stepflow.model.soundness import TIME_MAX_MS, doubt
from tests.damage.hostile import baseline, cases, check

PARTS = 4
EVERY = 12


@pytest.mark.parametrize("number", range(PARTS))
def test_a_record_that_makes_no_sense_sets_its_run_aside_and_no_other(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "stepflow.recovery")
    for case in islice(cases(), number, None, PARTS * EVERY):
        check(case)


def made(kind: type[rec.Record], **changes: Any) -> str:
    """Return the doubt about a record of that kind with the least that it must have."""
    samples: dict[Any, Any] = {int: 1, str: "x", Raw: Raw(b'{"type":"E","message":""}')}
    members: dict[str, Any] = {}
    for member in msgspec.structs.fields(kind):
        if member.required:
            members[member.name] = samples.get(member.type, "step" if member.name == "kind" else 0)
    of_no_run = kind in OF_NO_RUN
    members["r"] = "" if of_no_run else "run_aaaaaaaa"
    members["rs"] = 0 if of_no_run else 1
    if kind is rec.RunRestarted:
        start = rec.RunStarted(lsn=1, r="run_aaaaaaaa", rs=1, ts=1, workflow="w", input=Raw(b"1"))
        members["started"] = Raw(rec.encode_record(start))
    record = kind(**members | changes)
    return doubt(record, rec.encode_record(record))


OF_NO_RUN = {
    rec.BulkActed,
    rec.KeyActed,
    rec.EventReceived,
    rec.ScheduleSet,
    rec.ScheduleFired,
    rec.SchedulePaused,
}


@pytest.mark.parametrize("kind", rec.Record.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_time_and_error_of_every_kind_is_looked_at(kind: type[rec.Record]) -> None:
    assert made(kind) == ""
    assert "calendar" in made(kind, ts=-1)
    for name in {"due", "deadline", "at", "scheduled", "timeout"} & set(kind.__struct_fields__):
        assert "calendar" in made(kind, **{name: TIME_MAX_MS + 1})
    if "error" in kind.__struct_fields__:
        assert "error" in made(kind, error=Raw(b"[]"))


def test_the_whole_history_is_believed() -> None:
    whole = baseline()
    assert whole.said == []
    assert whole.left == []
    assert len(whole.lines) == 11
    assert not any(whole.failures.values())


def test_there_are_thousands_of_cases_of_which_most_must_show() -> None:
    every = 40
    found = list(islice(cases(), 0, None, every))
    assert len(found) * every > 5000
    assert sum(case.must_show for case in found) > len(found) // 3
