"""Every order in which a disk may have kept what was done to it: nothing promised is lost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.recovery.broken_rules import BROKEN, BrokenRule, find
from tests.recovery.order_check import OrderCheck
from tests.recovery.order_lives import record_lives
from tests.recovery.power_cuts import DiskModel
from tests.recovery.traced_disk import Op

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.timeout(300)

PARTS = 4


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Thousands of starts after a cut have much to say."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(PARTS))
def test_no_power_cut_between_any_two_operations_loses_or_invents_anything(part: int) -> None:
    trace = record_lives()
    mine = range(len(trace) * part // PARTS, len(trace) * (part + 1) // PARTS)
    report = OrderCheck(look_at=mine.__contains__).run(trace)
    assert report.violations == []
    # The lives are what they are meant to be: with fewer, something is not looked at any more.
    # All parts together: 358 operations, 4,400 disks, 9,300 recoveries.
    assert report.operations >= 300 // PARTS
    assert report.states >= 2400 // PARTS
    assert report.recoveries >= 4800 // PARTS


def test_the_same_seed_gives_the_same_trace() -> None:
    first, second = record_lives(3), record_lives(3)
    assert [(op.kind, op.name, op.to, op.data) for op in first] == [
        (op.kind, op.name, op.to, op.data) for op in second
    ]


def test_the_lives_do_all_that_a_journal_can_do() -> None:
    trace = record_lives()
    done = [(op.kind, op.name, op.to) for op in trace]
    assert sum(1 for kind, _, to in done if kind == "rename" and to.startswith("snap-")) >= 5
    assert sum(1 for kind, _, to in done if kind == "rename" and to.startswith("wal-")) >= 10
    assert sum(1 for kind, name, _ in done if kind == "unlink" and name.startswith("snap-0")) >= 2
    assert sum(1 for kind, name, _ in done if kind == "unlink" and name.startswith("wal-0")) >= 4
    assert ("mkdir", "broken", "") in done
    assert [kind for kind, _, _ in done].count("reboot") == 2
    assert max(op.history.number for op in trace) == 6


@pytest.mark.parametrize("rule", BROKEN, ids=[rule.name for rule in BROKEN])
def test_a_broken_rule_is_found(rule: BrokenRule) -> None:
    assert find(rule).violations


# ---------------------------------------------------------------- the model of a disk


def _after(*ops: Op, cap: int = 64) -> set[frozenset[tuple[str, bytes]]]:
    model = DiskModel(cap=cap)
    for op in ops:
        model.do(op)
    return {frozenset(image) for image in model.images()}


def test_what_was_not_synced_may_be_there_or_not_sector_by_sector() -> None:
    data = b"a" * 512 + b"b" * 10
    states = _after(Op("create", "f", 1), Op("write", "f", 1, 0, data), Op("sync_dir"))
    nothing, first, second = b"", data[:512], bytes(512) + b"b" * 10
    assert states == {frozenset({("f", x)}) for x in (nothing, first, second, data)}


def test_a_synced_file_without_a_synced_name_may_be_gone() -> None:
    ops = Op("create", "f", 1), Op("write", "f", 1, 0, b"x"), Op("sync", "f", 1)
    assert _after(*ops) == {frozenset(), frozenset({("f", b"x")})}
    assert _after(*ops, Op("sync_dir")) == {frozenset({("f", b"x")})}


def test_a_rename_between_folders_is_two_changes() -> None:
    made = (Op("mkdir", "d"), Op("create", "f", 1), Op("sync_dir"))
    states = _after(*made, Op("rename", "f", 1, to="d/f"))
    both = {("f", b""), ("d/f", b"")}
    assert states == {frozenset({row}) for row in both} | {frozenset(), frozenset(both)}


def test_a_file_in_a_folder_that_is_not_there_is_not_there() -> None:
    ops = Op("mkdir", "d"), Op("create", "d/f", 1), Op("sync_dir", "d")
    assert _after(*ops) == {frozenset(), frozenset({("d/f", b"")})}


def test_too_many_combinations_are_counted() -> None:
    model = DiskModel(cap=8)
    model.do(Op("create", "f", 1))
    for number in range(9):
        model.do(Op("write", "f", 1, number * 512, b"%d" % number * 512))
    assert len(list(model.images())) <= 8
    assert model.capped == 1
