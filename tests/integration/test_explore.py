"""The explorer finds what users do wrong, says how to get there, and lets right code pass."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest

from stepflow import (
    Context,
    EventTimeoutError,
    RetryPolicy,
    Stepflow,
    StepInterruptedError,
    current_step,
)
from stepflow.testing import ExploreError, explore

pytestmark = pytest.mark.asyncio


class Bank:
    """A payment provider that counts; one that knows idempotency keys charges once a key."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.charged: list[str] = []
        self.refunded: list[str] = []
        self.keys: set[str] = set()

    async def charge(self, order: str) -> bool:
        self.charged.append(order)
        return True

    async def charge_once(self, order: str) -> bool:
        key = current_step().idempotency_key
        if key not in self.keys:
            self.keys.add(key)
            self.charged.append(order)
        return True

    async def refund(self, order: str) -> None:
        self.refunded.append(order)


bank = Bank()


def note(text: str) -> str:
    return text


async def failing(workflow: Any, value: Any = None, **options: Any) -> ExploreError:
    with pytest.raises(ExploreError) as caught:
        await explore(workflow, value, **options)
    error = caught.value
    # What was found is found again by its schedule alone.
    with pytest.raises(ExploreError, match=re.escape(error.reason)):
        await explore(workflow, value, **options, schedule=error.schedule)
    return error


# ---------------------------------------------------------------- planted mistakes


async def test_a_body_that_is_not_deterministic_is_found() -> None:
    flow = Stepflow()
    ways = itertools.count()

    @flow.workflow("dice")
    async def dice(ctx: Context, _: None) -> None:
        await ctx.step(f"way-{next(ways)}", note, "x")
        await ctx.step("after", note, "y")

    def setup() -> None:
        nonlocal ways
        ways = itertools.count()

    error = await failing(dice, setup=setup)
    assert "diverged" in error.reason or "without being killed" in error.reason


async def test_a_value_of_the_clock_in_the_body_is_found_by_the_result() -> None:
    flow = Stepflow()
    now = itertools.count()

    @flow.workflow("stamp")
    async def stamp(ctx: Context, _: None) -> int:
        stamped = next(now)
        await ctx.step("first", note, "x")
        return stamped

    def setup() -> None:
        nonlocal now
        now = itertools.count()

    error = await failing(stamp, setup=setup)
    assert "without being killed it ends completed with 0" in error.reason
    assert error.schedule.count(";") == 0, "one move is enough"


async def test_an_effect_outside_a_step_is_found() -> None:
    flow = Stepflow()
    mails: list[str] = []

    @flow.workflow("mail")
    async def mail(ctx: Context, to: str) -> None:
        await ctx.step("first", note, to)
        mails.append(to)
        await ctx.step("second", note, to)

    def once(_: Any) -> None:
        assert len(mails) == 1, f"{len(mails)} mails were sent"

    error = await failing(mail, "ada", setup=mails.clear, invariant=once)
    assert "2 mails were sent" in error.reason or "3 mails were sent" in error.reason

    @flow.workflow("mail-in-step")
    async def mail_in_step(ctx: Context, to: str) -> None:
        await ctx.step("first", note, to)
        await ctx.step("mail", lambda to: to in mails or mails.append(to), to)
        await ctx.step("second", note, to)

    await explore(mail_in_step, "ada", setup=mails.clear, cancel=False, invariant=once)


async def test_a_step_taken_to_run_once_is_found_and_a_key_mends_it() -> None:
    flow = Stepflow()

    def once(_: Any) -> None:
        assert len(bank.charged) <= 1, f"charged {len(bank.charged)} times"

    @flow.workflow("naive")
    async def naive(ctx: Context, order: str) -> None:
        await ctx.step("charge", bank.charge, order)

    error = await failing(naive, "o1", setup=bank.reset, invariant=once)
    assert error.schedule == "kill before record 3"
    assert "charged 2 times" in error.reason
    lost = next(line for line in error.story if "killed here" in line)
    assert lost.endswith("never on disk: step charge completed: true")
    assert any("step charge begins, attempt 2" in line for line in error.story)

    @flow.workflow("careful")
    async def careful(ctx: Context, order: str) -> None:
        await ctx.step("charge", bank.charge_once, order)

    done = await explore(careful, "o1", setup=bank.reset, invariant=once)
    assert done.left_out == 0, "all schedules of two moves were tried"

    @flow.workflow("at-most-once")
    async def at_most_once(ctx: Context, order: str) -> str:
        try:
            await ctx.step("charge", bank.charge, order, at_most_once=True)
        except StepInterruptedError:
            return "ask the bank"
        return "charged"

    await explore(at_most_once, "o1", setup=bank.reset, invariant=once, same_result=False)


def reminder(*, declared: bool) -> tuple[Stepflow, Any]:
    flow = Stepflow()
    events = ["paid-{order}"] if declared else []

    @flow.workflow("dunning", events=events)
    async def dunning(ctx: Context, input: dict[str, str]) -> str:
        for letter in ("invoice", "reminder"):
            await ctx.step(letter, note, letter)
            try:
                await ctx.wait_for_event(f"after-{letter}", f"paid-{input['order']}", timeout="7d")
            except EventTimeoutError:
                continue
            return "paid"
        return "to the lawyer"

    return flow, dunning


async def test_an_event_lost_between_a_timeout_and_the_next_wait_is_found() -> None:
    def heard(outcome: Any) -> None:
        assert outcome.sent["paid-1"] != "lost" or outcome.status != "completed", (
            "the money is gone"
        )

    _, dunning = reminder(declared=False)
    options: dict[str, Any] = {"events": ["paid-1"], "invariant": heard, "cancel": False}
    error = await failing(dunning, {"order": "1"}, **options)
    assert error.schedule.startswith("send paid-1 after record")
    assert any("reached nobody (404)" in line for line in error.story)

    # Between the timeout and the second wait, too: not only before the first one.
    def from_then_on(outcome: Any) -> None:
        timed_out = [n for n, line in enumerate(outcome.story) if "timed out" in line]
        lost = [n for n, line in enumerate(outcome.story) if "reached nobody" in line]
        assert not (timed_out and lost and lost[0] > timed_out[0] and outcome.steps[-1].status)

    with pytest.raises(ExploreError) as caught:
        await explore(dunning, {"order": "1"}, events=["paid-1"], invariant=from_then_on, depth=2)
    assert "send paid-1 after record" in caught.value.schedule

    _, kept = reminder(declared=True)

    def never_lost_while_live(outcome: Any) -> None:
        story = "\n".join(outcome.story)
        lost = story.find("reached nobody")
        assert lost < 0 or story.find("run c") < lost, "lost while the run was live"

    await explore(kept, {"order": "1"}, events=["paid-1"], invariant=never_lost_while_live)


async def test_a_run_left_waiting_for_what_has_gone_by_is_found() -> None:
    flow = Stepflow()

    @flow.workflow("patient")
    async def patient(ctx: Context, _: None) -> str:
        await ctx.step("ask", note, "?")
        await ctx.wait_for_event("answer", timeout=None)
        return "answered"

    error = await failing(patient, events=["answer"], cancel=False)
    assert error.schedule == "send answer after record 1"
    assert "waits for event 'answer'" in error.reason


async def test_a_cancel_that_leaves_the_money_is_found_and_compensation_mends_it() -> None:
    flow = Stepflow()

    def given_back(outcome: Any) -> None:
        if outcome.status == "cancelled":
            assert len(bank.charged) <= len(bank.refunded), "cancelled, and the money is kept"

    async def body(ctx: Context, order: str, **options: Any) -> None:
        await ctx.step("charge", bank.charge_once, order, **options)
        await ctx.sleep("cool-off", "3d")

    @flow.workflow("keeps-it")
    async def keeps_it(ctx: Context, order: str) -> None:
        await body(ctx, order)

    error = await failing(keeps_it, "o1", setup=bank.reset, invariant=given_back)
    assert "cancel after record" in error.schedule
    assert "the money is kept" in error.reason

    @flow.workflow("gives-back")
    async def gives_back(ctx: Context, order: str) -> None:
        await body(ctx, order, compensate=bank.refund)

    def after_the_step(outcome: Any) -> None:
        # A charge whose result was never recorded is the provider's to find by its key.
        if any(step.name == "charge" and step.status == "completed" for step in outcome.steps):
            given_back(outcome)

    await explore(gives_back, "o1", setup=bank.reset, invariant=after_the_step)


async def test_a_workflow_that_never_ends_is_found(monkeypatch) -> None:
    monkeypatch.setattr("stepflow.testing.exploring._RECORDS_MAX", 60)
    flow = Stepflow()

    @flow.workflow("poll")
    async def poll(ctx: Context, _: None) -> None:
        while True:
            await ctx.step("look", note, "?")

    error = await failing(poll)
    assert error.schedule == ""
    assert error.reason == "it has not ended after 60 records"
    assert "fails when\n    nothing goes wrong" in str(error)


# ---------------------------------------------------------------- right code passes


def shop() -> tuple[Stepflow, Any]:
    flow = Stepflow()

    @flow.workflow("child")
    async def child(ctx: Context, n: int) -> int:
        await ctx.sleep("nap", "1m")
        return n * 2

    @flow.workflow("shop", events=["paid-{order}"])
    async def shop(ctx: Context, input: dict[str, str]) -> dict[str, Any]:
        flaky = await ctx.step("flaky", fail_twice, retry=RetryPolicy(initial="1m", jitter=False))
        held = await asyncio.gather(*(ctx.step("hold", note, i, key=i) for i in "ab"))
        doubled = await ctx.call("child", 4)
        seen = (ctx.random(), str(ctx.uuid()))
        paid = await ctx.wait_for_event("pay", f"paid-{input['order']}", timeout="1h", default=None)
        await ctx.emit("seen", seen)
        return {"held": held, "doubled": doubled, "flaky": flaky, "paid": paid}

    return flow, shop


def fail_twice() -> int:
    if current_step().attempt < 3:
        raise ConnectionError
    return current_step().attempt


async def test_a_right_workflow_passes_every_schedule() -> None:
    _, workflow = shop()
    done = await explore(
        workflow,
        {"order": "1"},
        events={"paid-1": {"amount": 5}},
        limit=100,
        same_result=False,
        invariant=lambda o: o.status == "cancelled" or o.result["doubled"] == 8,
    )
    assert done.tried == 100
    assert done.depth == 2
    assert done.left_out > 0
    assert set(done.endings) == {"completed", "cancelled"}
    assert re.fullmatch(
        r"100 schedules of at most 2 moves over \d+ records: \d+ cancelled, \d+ completed; "
        r"none fails\. limit= left out \d+ longer ones",
        str(done),
    )


async def test_every_record_has_its_kills_and_event_timeout_and_cancel_every_order() -> None:
    flow = Stepflow()
    seen: list[Any] = []

    @flow.workflow("wait")
    async def wait(ctx: Context, _: None) -> str:
        await ctx.step("ask", note, "?")
        answer = await ctx.wait_for_event("answer", timeout="1h", default="late")
        return await ctx.step("tell", note, answer)

    await explore(wait, events={"answer": "yes"}, invariant=seen.append, limit=10_000)
    schedules = {outcome.schedule for outcome in seen}
    last = seen[0].records[-1]
    for n in range(1, last + 1):
        assert f"kill after record {n}" in schedules or n not in seen[0].records
    assert all(f"kill before record {n + 1}" in schedules for n in seen[0].records[:-1])

    def order(outcome: Any) -> tuple[str, ...]:
        words = {"event answer came": "event", "timed out": "timeout", "being cancelled": "cancel"}
        return tuple(name for line in outcome.story for text, name in words.items() if text in line)

    orders = {order(outcome) for outcome in seen}
    assert {
        ("event",),
        ("timeout",),
        ("cancel",),
        ("event", "cancel"),
        ("timeout", "cancel"),
    } <= orders
    assert ("event", "timeout") not in orders
    assert ("timeout", "event") not in orders, "the first record wins, and the waiter is gone"
    assert {o.result for o in seen if order(o) == ("event",)} == {"yes"}
    assert {o.result for o in seen if order(o) == ("timeout",)} == {"late"}


async def test_the_same_arguments_try_the_same_schedules() -> None:
    _, workflow = shop()

    async def tried(seed: int) -> list[tuple[str, str, Any]]:
        rows: list[tuple[str, str, Any]] = []
        await explore(
            workflow,
            {"order": "1"},
            events={"paid-1": 1},
            limit=40,
            seed=seed,
            same_result=False,
            invariant=lambda o: rows.append((o.schedule, o.status, tuple(o.story))),
        )
        return rows

    first = await tried(1)
    assert first == await tried(1)
    assert [row[0] for row in first] != [row[0] for row in await tried(2)]


async def test_events_nobody_gave_are_named() -> None:
    _, workflow = shop()
    done = await explore(workflow, {"order": "1"}, depth=0)
    assert done.unsent == {"paid-1"}
    assert str(done).endswith("Never sent, give them in events=: paid-1")


async def test_stubs_and_setup_are_those_of_the_author() -> None:
    flow = Stepflow()
    called: list[str] = []

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> int:
        return await ctx.step("slow", asyncio.sleep, 10**9)

    async def setup() -> None:
        called.append("setup")

    async def seven(outcome: Any) -> bool:
        return outcome.status == "cancelled" or outcome.result == 7

    done = await explore(w, stubs={"slow": 7}, setup=setup, invariant=seven)
    assert called == ["setup"] * done.tried


async def test_a_payload_that_the_wait_refuses_is_said() -> None:
    flow = Stepflow()

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> int:
        return await ctx.wait_for_event("n", type=int)

    error = await failing(w, events={"n": "text"})
    assert "the event n was refused" in error.reason


async def test_two_events_of_one_id_come_one_after_the_other() -> None:
    flow = Stepflow()

    @flow.workflow("w")
    async def w(ctx: Context, _: None) -> list[int]:
        return [await ctx.wait_for_event(f"n{i}", "n", timeout=None) for i in range(2)]

    done = await explore(w, events=[("n", 1), ("n", 2)], depth=0)
    assert done.endings == {"completed": 1}
    assert await explore(w, events=[("n", 1), ("n", 2)], schedule="send n#2 last")


async def test_the_flow_must_be_known() -> None:
    flow = Stepflow()

    async def elsewhere(ctx: Context, _: None) -> None:
        del ctx

    flow.workflow("w")(elsewhere)
    with pytest.raises(TypeError, match="say which flow has the workflow"):
        await explore("w")
    assert (await explore("w", flow=flow)).tried
    assert (await explore(elsewhere)).tried
    Stepflow().workflow("w")(elsewhere)
    again = Stepflow()
    again.workflow("w")(elsewhere)
    with pytest.raises(TypeError, match="elsewhere"):
        await explore(elsewhere)


# ------------------------------------------------------------ what operators do


async def test_a_right_workflow_passes_pauses_at_every_place_and_kills_of_them() -> None:
    flow = Stepflow()

    @flow.workflow("pays")
    async def pays(ctx: Context, order: str) -> bool:
        await ctx.step("charge", bank.charge_once, order)
        try:
            await ctx.wait_for_event("receipt", timeout="1h")
        except EventTimeoutError:
            return False
        return True

    seen: list[Any] = []

    def once(outcome: Any) -> None:
        seen.append(outcome)
        assert len(bank.charged) <= 1

    found = await explore(
        pays,
        "o1",
        events=["receipt"],
        setup=bank.reset,
        invariant=once,
        operators=True,
        limit=300,
    )
    assert found.depth == 2
    paused = {outcome.schedule for outcome in seen if outcome.paused}
    # At each place where the run lives, and what comes meanwhile and afterwards.
    assert {f"pause after record {n}" for n in range(1, 5)} <= paused
    assert any(re.search("pause.*; kill", text) for text in paused)
    assert any(re.search("pause.*; send", text) for text in paused)
    # Who cancels and then thinks better of it gets what the run would have come to.
    assert any(outcome.retried and outcome.status == "completed" for outcome in seen)
    assert all(outcome.cancelled for outcome in seen if outcome.retried)


async def test_a_refund_by_hand_that_a_retry_does_not_know_is_found_and_compensation_mends_it() -> (
    None
):
    flow = Stepflow()
    paid: list[int] = []
    tries: list[int] = []

    async def charge() -> None:
        paid.append(1)

    async def refund() -> None:
        paid.append(-1)

    async def ship() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("no van today")

    @flow.workflow("by-hand")
    async def by_hand(ctx: Context) -> None:
        await ctx.step("charge", charge)
        try:
            await ctx.step("ship", ship, retry=RetryPolicy(max_attempts=1))
        except Exception:
            await ctx.step("refund", refund)
            raise

    @flow.workflow("mended")
    async def mended(ctx: Context) -> None:
        await ctx.step("charge", charge, compensate=refund)
        await ctx.step("ship", ship, retry=RetryPolicy(max_attempts=1))

    def anew() -> None:
        paid.clear()
        tries.clear()

    def shipped_is_paid(outcome: Any) -> None:
        if outcome.status == "completed":
            assert sum(paid) >= 1, "shipped and not paid"

    options: dict[str, Any] = {
        "setup": anew,
        "invariant": shipped_is_paid,
        "operators": True,
        "cancel": False,
        "same_result": False,
        "depth": 1,
    }
    error = await failing(by_hand, **options)
    assert error.schedule == "retry when it has failed"
    assert "shipped and not paid" in error.reason
    assert any("somebody retries the run" in line for line in error.story)
    found = await explore(mended, **options)
    assert found.endings["completed"] > 0


async def test_an_operators_act_whose_answer_a_kill_takes_is_done_after_the_restart() -> None:
    flow = Stepflow()
    seen: list[Any] = []

    @flow.workflow("fails-once")
    async def fails_once(ctx: Context) -> None:
        await ctx.step("note", note, "x")
        await ctx.wait_for_event("go", timeout="1h")

    async def tried(schedule: str) -> Any:
        seen.clear()
        await explore(fails_once, schedule=schedule, invariant=seen.append, same_result=False)
        return seen[-1]

    whole = await tried("pause after record 4; retry when it has failed")
    assert (whole.paused, whole.retried) == (True, True)
    last = whole.records[-1]
    for record in range(5, last):
        outcome = await tried(
            f"pause after record 4; kill after record {record}; retry when it has failed"
        )
        assert (outcome.paused, outcome.retried, outcome.kills) == (True, True, 1)
        assert outcome.status == "failed"


async def test_a_fork_that_pays_again_is_found_with_the_step_it_was_forked_from() -> None:
    flow = Stepflow()
    paid: set[str] = set()
    effects: list[str] = []

    async def charge(order: str, known: str) -> None:
        if known not in paid:
            paid.add(known)
            effects.append(order)

    @flow.workflow("by-key-of-the-step")
    async def by_key_of_the_step(ctx: Context, order: str) -> None:
        await ctx.step("look", note, order)
        await ctx.step("charge", lambda o: charge(o, current_step().idempotency_key), order)
        await ctx.step("mail", note, order)

    @flow.workflow("by-order")
    async def by_order(ctx: Context, order: str) -> None:
        await ctx.step("look", note, order)
        await ctx.step("charge", charge, order, f"order {order}")
        await ctx.step("mail", note, order)

    def anew() -> None:
        paid.clear()
        effects.clear()

    def once(outcome: Any) -> None:
        assert len(effects) <= 1, "paid twice"

    options: dict[str, Any] = {"setup": anew, "invariant": once, "cancel": False}
    await explore(by_key_of_the_step, "o1", operators=True, **options)
    error = await failing(by_key_of_the_step, "o1", forks=True, **options)
    # From the mail on it would have kept the charge.
    assert error.schedule in {
        "fork from look#1 when it has ended",
        "fork from charge#1 when it has ended",
    }
    assert any("somebody forks the run from" in line for line in error.story)
    found = await explore(by_order, "o1", forks=True, **options)
    assert found.left_out == 0


async def test_a_fork_is_made_once_whatever_a_kill_takes_and_hears_its_events_again() -> None:
    flow = Stepflow()
    seen: list[Any] = []

    @flow.workflow("asks")
    async def asks(ctx: Context) -> str:
        await ctx.step("note", note, "x")
        answer = await ctx.wait_for_event("go", timeout=None)
        return await ctx.step("tell", note, answer)

    async def tried(schedule: str) -> Any:
        seen.clear()
        await explore(asks, events={"go": "yes"}, schedule=schedule, invariant=seen.append)
        return seen[-1]

    for hold in ("", "send go last; "):
        whole = await tried(f"{hold}fork from note#1 when it has ended")
        assert (whole.forked, whole.status, whole.result) == (True, "completed", "yes")
        assert whole.sent == {"go": "reached"}
        assert len(whole.calls("note")) == 2
    plain = await tried("")
    assert not plain.forked
    whole = await tried("fork from note#1 when it has ended")
    for record in range(plain.records[-1], whole.records[-1] + 1):
        killed = await tried(f"fork from note#1 when it has ended; kill after record {record}")
        assert (killed.forked, killed.result, killed.kills) == (True, "yes", 1)
        assert killed.run_id != plain.run_id
        assert sum("run of asks started" in line for line in killed.story) <= 2
    kept = await tried("fork from tell#1 when it has ended")
    assert kept.sent == {"go": "not sent"}, "what it had heard is kept"
    assert kept.result == "yes"


async def test_without_being_asked_no_operator_acts() -> None:
    flow = Stepflow()
    seen: list[str] = []

    @flow.workflow("notes")
    async def notes(ctx: Context) -> str:
        return await ctx.step("note", note, "x")

    await explore(notes, invariant=lambda outcome: seen.append(outcome.schedule))
    assert not any("pause" in text or "retry" in text for text in seen)
