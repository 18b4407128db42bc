"""Run ids are what they say, and no digit of them is likelier than another."""

from __future__ import annotations

import random
from collections import Counter

from stepflow.model.ids import is_run_id, run_ids_of


def test_random_bytes_make_run_ids() -> None:
    ids = run_ids_of(random.Random(1).randbytes(4096))
    assert len(ids) == len(set(ids)) > 170
    assert all(is_run_id(each) and len(each) == 26 for each in ids)


def test_every_digit_is_as_likely_as_any_other() -> None:
    every_byte = bytes(range(256)) * 11
    digits = Counter("".join(each[4:] for each in run_ids_of(every_byte)))
    assert set(digits.values()) == {44}
    assert len(digits) == 62
