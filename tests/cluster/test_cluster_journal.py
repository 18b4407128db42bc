"""A worker's journal by itself: what is released when, and what of a lost run is never."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from msgspec import Raw

from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.engine.postgres.journal import ClusterJournal, LostRunsError, UnreachableError
from stepflow.engine.postgres.rows import Consumed
from stepflow.model import records as rec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepflow.engine.postgres.rows import Group

pytestmark = pytest.mark.asyncio
HOLDER = UUID(int=1)


class Store:
    """A database that answers when the test lets it, with what the test wants."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.errors: list[Exception] = []
        self.written: list[list[int]] = []
        self.batches: list[int] = []

    async def __call__(self, batch: int, groups: Sequence[Group], holders: Any) -> None:
        del holders
        self.batches.append(batch)
        self.asked.set()
        await self.may_answer.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.written.append([entry.record.lsn for group in groups for entry in group.entries])


def a_journal(store: Store, *runs: str) -> ClusterJournal:
    journal = ClusterJournal(Settings(), SystemClock(), store_id="store", store=store)
    journal.holders.update(dict.fromkeys(runs, HOLDER))
    return journal


def completed(journal: ClusterJournal, run_id: str) -> bytes:
    lsn = journal.next_lsn
    return rec.encode_record(
        rec.StepCompleted(lsn=lsn, r=run_id, rs=lsn, ts=1, key="a#1", result=Raw(b"1"))
    )


async def test_nothing_is_released_before_it_is_written() -> None:
    store = Store()
    journal = a_journal(store, "run_a")
    heard: list[BaseException | None] = []
    lsn = journal.append([completed(journal, "run_a")])
    journal.when_durable(lsn, heard.append)
    await store.asked.wait()
    assert (heard, journal.durable_lsn) == ([], lsn - 1)
    # What is queued meanwhile waits for its own turn, and a run that is claimed raises nothing.
    journal.reach(100)
    assert (heard, journal.durable_lsn) == ([], lsn - 1)
    store.may_answer.set()
    await journal.durable(lsn)
    assert heard == [None]
    assert journal.durable_lsn == 100
    await journal.close()


async def test_a_lost_runs_records_are_dropped_and_who_waits_for_them_hears_an_error() -> None:
    store = Store()
    store.may_answer.set()
    store.errors = [LostRunsError({"run_a": False})]
    journal = a_journal(store, "run_a", "run_b")
    lost: list[tuple[str, bool]] = []
    heard: list[tuple[str, bool]] = []
    journal.on_lost = lambda run_id, ours: lost.append((run_id, ours))
    first = journal.append([completed(journal, "run_a")])
    journal.when_durable(first, lambda error: heard.append(("a", error is None)))
    last = journal.append([completed(journal, "run_b")])
    journal.when_durable(last, lambda error: heard.append(("b", error is None)))
    await journal.durable(last)
    assert store.written == [[last]]
    assert lost == [("run_a", False)]
    assert heard == [("a", False), ("b", True)]
    # Its actor may not have heard yet: what it still decides is not written either.
    late = journal.append([completed(journal, "run_a")])
    journal.when_durable(late, lambda error: heard.append(("late", error is None)))
    await asyncio.sleep(0)
    assert heard[2:] != [("late", True)]
    await journal.close()


async def test_what_was_decided_with_a_lost_run_is_read_again() -> None:
    store = Store()
    store.may_answer.set()
    store.errors = [LostRunsError({"run_a": False})]
    journal = a_journal(store, "run_a", "run_b")
    lost: list[tuple[str, bool]] = []
    journal.on_lost = lambda run_id, ours: lost.append((run_id, ours))
    both = [completed(journal, "run_a")]
    both.append(completed(journal, "run_b"))
    lsn = journal.append(both)
    with pytest.raises(Exception, match="Outcome unknown"):
        await journal.durable(lsn)
    assert sorted(lost) == [("run_a", False), ("run_b", True)]
    assert store.written == []
    await journal.close()


async def test_a_group_keeps_its_number_until_the_database_answers() -> None:
    store = Store()
    store.may_answer.set()
    store.errors = [UnreachableError("cut"), UnreachableError("cut")]
    journal = a_journal(store, "run_a")
    await journal.durable(journal.append([completed(journal, "run_a")]))
    assert store.batches == [1, 1, 1]
    await journal.durable(journal.append([completed(journal, "run_a")]))
    assert store.batches == [1, 1, 1, 2]
    await journal.close()


async def test_a_letter_goes_with_the_record_that_came_of_it() -> None:
    store = Store()
    store.may_answer.set()
    journal = a_journal(store, "run_a")
    groups: list[Group] = []
    real = journal._store

    async def seen(batch: int, some: Sequence[Group], holders: Any) -> None:
        groups.extend(some)
        await real(batch, some, holders)

    journal._store = seen
    journal.attach(Consumed("run_a", 7))
    await journal.durable(journal.append([completed(journal, "run_a")]))
    assert [(len(g.entries), g.effects) for g in groups] == [(1, [Consumed("run_a", 7)])]
    await journal.close()


async def test_a_letter_to_a_run_that_has_ended_holds_nothing_up() -> None:
    store = Store()
    journal = a_journal(store, "run_a", "run_b")
    first = journal.append([completed(journal, "run_a")])
    await store.asked.wait()
    journal.attach(Consumed("run_a", 7))
    await asyncio.sleep(0)
    last = journal.append([completed(journal, "run_b")])
    # Its end was in what is being written.
    del journal.holders["run_a"]
    store.may_answer.set()
    await journal.durable(last)
    assert store.written == [[first], [last]]
    await journal.close()


async def test_a_letter_that_made_nothing_of_its_run_takes_no_others_records_along() -> None:
    store = Store()
    journal = a_journal(store, "run_a", "run_b", "run_c")
    first = journal.append([completed(journal, "run_a")])
    await store.asked.wait()
    # All in one turn: the one was over, as will be known in a moment.
    journal.attach(Consumed("run_a", 7))
    journal.attach(Consumed("run_b", 8))
    second = journal.append([completed(journal, "run_b")])
    journal.attach(Consumed("run_a", 9))
    third = journal.append([completed(journal, "run_c")])
    del journal.holders["run_a"]
    store.may_answer.set()
    await journal.durable(third)
    assert store.written == [[first], [second, third]]
    await journal.close()


@pytest.mark.parametrize("late", [True, False])
async def test_a_held_run_whose_records_were_dropped_is_read_again(late: bool) -> None:  # noqa: FBT001
    store = Store()
    journal = a_journal(store, "run_a", "run_b")
    lost: list[tuple[str, bool]] = []
    journal.on_lost = lambda run_id, ours: lost.append((run_id, ours))
    first = journal.append([completed(journal, "run_a")])
    await store.asked.wait()
    if late:
        del journal.holders["run_a"]
    with_it = [completed(journal, "run_a")]
    with_it.append(completed(journal, "run_b"))
    journal.append(with_it)
    # What comes after it would leave a gap.
    journal.append([completed(journal, "run_b")])
    journal.holders.pop("run_a", None)
    store.may_answer.set()
    while not lost:
        await asyncio.sleep(0)
    assert lost == [("run_b", True)]
    assert store.written == [[first]]
    assert "run_b" not in journal.holders
    await journal.close()


async def test_a_defect_while_writing_ends_the_worker() -> None:
    store = Store()
    store.may_answer.set()
    store.errors = [ZeroDivisionError("a defect")]
    journal = a_journal(store, "run_a")
    fatal: list[BaseException] = []
    journal.on_fatal = fatal.append
    with pytest.raises(Exception, match="Outcome unknown"):
        await journal.durable(journal.append([completed(journal, "run_a")]))
    assert [type(error) for error in fatal] == [ZeroDivisionError]
    assert not journal.has_room(1)
