"""Records with right checksums and wrong contents: 0 crashes, 0 silent, 0 wrong.

`make test` takes every twelfth case, `make torture` all of them.
"""

from __future__ import annotations

from itertools import islice

import pytest

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
