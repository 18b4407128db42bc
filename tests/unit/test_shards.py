"""A dict in parts is a dict, and no growing of it moves more than a part."""

from __future__ import annotations

import gc
import sys

from hypothesis import given
from hypothesis import strategies as st

from stepflow.runtime.shards import SHARDS, Shards, shard_of


@given(st.lists(st.tuples(st.sampled_from("spg"), st.text("abc", max_size=3), st.integers())))
def test_it_answers_as_a_dict_does(moves: list[tuple[str, str, int]]) -> None:
    rows: Shards[int] = Shards()
    like: dict[str, int] = {}
    for move, key, value in moves:
        if move == "s":
            rows[key] = like[key] = value
        elif move == "p":
            assert rows.pop(key) == like.pop(key, None)
        assert rows.get(key) == like.get(key)
        assert (key in rows) == (key in like)
        assert len(rows) == len(like)
        if key in like:
            assert rows[key] == like[key]
    assert sorted(rows.values()) == sorted(like.values())


def test_no_part_is_much_larger_than_the_others() -> None:
    rows: Shards[int] = Shards()
    for number in range(64_000):
        rows[f"order-{number:06d}"] = number
    sizes = [len(part) for part in rows.parts]
    assert len(sizes) == SHARDS
    assert sum(sizes) == 64_000
    assert max(sizes) < 1_300
    assert max(map(sys.getsizeof, rows.parts)) < sys.getsizeof(dict.fromkeys(range(64_000))) / 20
    assert all(shard_of(key) == place for place, part in enumerate(rows.parts) for key in part)


def test_the_collector_never_meets_a_part_anew() -> None:
    rows: Shards[bytes] = Shards()
    for number in range(1_000):
        rows[f"run{number}"] = b"parked"
    gc.collect()
    # A plain dict of nothing but bytes would be tracked no more, and again with the next actor.
    assert all(map(gc.is_tracked, rows.parts))
