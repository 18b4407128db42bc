"""Sleeps and waits: each ends once, by its time or by its event, and takes only its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stepflow.errors import EventNotFoundError, InvalidInputError
from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.reading import (
    decoded,
    fresh,
    read_events,
    until_asking,
    until_waiting,
)

if TYPE_CHECKING:
    from stepflow.testing.conformance.callers import Caller

__all__ = ["WaitClaims"]

_RACES = 16
_STEP_MS = 5


async def _ignored(_: Claims, caller: Caller) -> None:
    """Claim that a payload of another type is not taken, although its sender was not told."""
    order = fresh()
    run = await caller.trigger("conformance-typed", {"id": order, "count": 1})
    await until_waiting(caller, run.id)
    await caller.notify(f"typed-{order}", "many")
    await caller.notify(f"typed-{order}", 7)
    assert decoded((await caller.wait(run.id)).result) == 7


class WaitClaims(Claims):
    """The claims."""

    async def test_a_sleep_lasts_as_long_as_it_was_asked_to(self, caller: Caller) -> None:
        run = await caller.trigger("conformance-sleep", 60)
        assert decoded((await caller.wait(run.id)).result) is True
        kinds = [e.json().get("kind") for e in await read_events(caller, run.id)]
        assert kinds.count("sleep") == 2, "it begins and it ends"

    async def test_a_wait_that_nobody_answers_times_out(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-patient", {"id": order, "ms": 30})
        assert decoded((await caller.wait(run.id)).result) == "timed out"
        with pytest.raises(EventNotFoundError):
            await caller.notify(f"answer-{order}", "too late")

    async def test_a_wait_with_a_default_gives_it_when_its_time_is_over(
        self, caller: Caller
    ) -> None:
        run = await caller.trigger("conformance-default", {"id": fresh(), "ms": 30})
        assert decoded((await caller.wait(run.id)).result) == "nothing came"

    async def test_an_event_and_a_timeout_have_one_winner_and_both_sides_agree(
        self, caller: Caller
    ) -> None:
        orders = [fresh() for _ in range(_RACES)]

        async def race(number: int, order: str) -> tuple[bool, object]:
            plan = {"id": order, "ms": _STEP_MS * (_RACES // 2)}
            run = await caller.trigger("conformance-patient", plan)
            await until_waiting(caller, run.id)
            # From well before to well after the timeout, so that some meet it.
            await asyncio.sleep(number * _STEP_MS / 1000)
            try:
                await caller.notify(f"answer-{order}", number)
            except EventNotFoundError:
                taken = False
            else:
                taken = True
            return taken, decoded((await caller.wait(run.id)).result)

        outcomes = await asyncio.gather(*(race(n, order) for n, order in enumerate(orders)))
        for number, (taken, result) in enumerate(outcomes):
            assert result == (["answered", number] if taken else "timed out"), f"race {number}"

    async def test_two_waits_of_a_run_take_two_notifies_each_its_own_payload(
        self, caller: Caller
    ) -> None:
        order = fresh()
        run = await caller.trigger("conformance-twice", order)
        for payload in ("first", "second"):
            while True:
                try:
                    await caller.notify(f"answer-{order}", payload)
                except EventNotFoundError:
                    continue  # it does not wait yet: nothing was delivered
                break
        assert decoded((await caller.wait(run.id)).result) == ["first", "second"]

    async def test_an_event_id_may_be_used_again_by_a_later_run(self, caller: Caller) -> None:
        order = fresh()
        for payload in ("one", {"two": 2}):
            run = await caller.trigger("conformance-wait", order)
            await until_waiting(caller, run.id)
            await caller.notify(f"answer-{order}", payload)
            assert decoded((await caller.wait(run.id)).result) == payload

    async def test_two_branches_wait_at_once_and_either_order_is_good(self, caller: Caller) -> None:
        for sides in (("left", "right"), ("right", "left")):
            order = fresh()
            run = await caller.trigger("conformance-two-waits", order)
            await until_asking(caller, run.id, times=2)
            for side in sides:
                await caller.notify(f"{side}-{order}", side)
            assert decoded((await caller.wait(run.id)).result) == ["left", "right"]

    async def test_a_run_may_notify_another(self, caller: Caller) -> None:
        order = fresh()
        waiting = await caller.trigger("conformance-wait", order)
        await until_waiting(caller, waiting.id)
        sender = await caller.trigger("conformance-sends", order)
        assert decoded((await caller.wait(sender.id)).result) == 1
        assert decoded((await caller.wait(waiting.id)).result) == "from a run"
        nobody = await caller.trigger("conformance-sends", fresh())
        assert decoded((await caller.wait(nobody.id)).result) == 0

    @needs("event-types", otherwise=_ignored)
    async def test_a_payload_that_the_taker_refuses_is_refused_and_nothing_is_taken(
        self, caller: Caller
    ) -> None:
        order = fresh()
        run = await caller.trigger("conformance-typed", {"id": order, "count": 1})
        await until_waiting(caller, run.id)
        for run_id in (None, run.id):
            with pytest.raises(InvalidInputError, match="expected int, got str"):
                await caller.notify(f"typed-{order}", "many", run_id=run_id)
        assert (await caller.get_run(run.id)).status == "running"
        # Who waits for it, too, and takes it does not hang on who does not.
        other = await caller.trigger("conformance-untyped", {"id": order, "count": 1})
        await until_waiting(caller, other.id)
        await caller.notify(f"typed-{order}", "many")
        assert decoded((await caller.wait(other.id)).result) == "many"
        await caller.notify(f"typed-{order}", 7)
        assert decoded((await caller.wait(run.id)).result) == 7

    async def test_an_event_that_was_addressed_is_kept_for_its_run(self, caller: Caller) -> None:
        order = fresh()
        run = await caller.trigger("conformance-keep", {"id": order, "count": 1})
        other = await caller.trigger("conformance-keep", {"id": order, "count": 1})
        await until_waiting(caller, run.id)
        await until_waiting(caller, other.id)
        await caller.notify(f"kept-{order}", "yours", run_id=run.id)
        await caller.notify(f"kept-{order}", "hers", run_id=other.id)
        await caller.notify(f"go-{order}")
        assert decoded((await caller.wait(run.id)).result) == ["yours"]
        assert decoded((await caller.wait(other.id)).result) == ["hers"]

    async def test_many_runs_sleep_at_once_and_each_wakes(self, caller: Caller) -> None:
        runs = [await caller.trigger("conformance-sleep", 20 + n) for n in range(20)]
        results = [decoded((await caller.wait(run.id)).result) for run in runs]
        assert results == [True] * 20
