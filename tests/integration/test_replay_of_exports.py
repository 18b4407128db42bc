"""A run as one file: what is in it, what is not, and that a debugger meets the same run again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from stepflow import Context, RetryPolicy, StepFailedError, Stepflow, WorkflowNotFoundError
from stepflow.errors import ExportedRunError, RunNotFoundError
from stepflow.model.capsule import read_capsule
from stepflow.testing import WorkflowTest, replay

GOLDEN = Path(__file__).parent / "exports"
ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


async def charge(order: str, card: dict[str, Any]) -> dict[str, Any]:
    ran.append(order)
    return {"ok": True, "token": "tok_live_1"}


def refuse(order: str) -> None:
    ran.append(order)
    raise ValueError(f"no {order}, the password=hunter2 was wrong")


def reserve(item: str) -> str:
    ran.append(item)
    return f"held {item}"


def shop(*, changed: bool = False) -> Stepflow:
    flow = Stepflow()

    @flow.workflow("gift")
    async def gift(ctx: Context, order: str) -> str:
        return order

    @flow.workflow("buy", events=["paid-{id}"])
    async def buy(ctx: Context, order: dict[str, Any]) -> dict[str, Any]:
        at = ctx.now()
        lot = ctx.random()
        charged = await ctx.step("charge", charge, order["id"], order["card"])
        held = await asyncio.gather(*(ctx.step("reserve", reserve, i, key=i) for i in "ab"))
        try:
            await ctx.step("refuse", refuse, order["id"], retry=RetryPolicy(max_attempts=2))
        except StepFailedError as error:
            problem = error.message
        if changed:
            await ctx.step("insure", reserve, "c")
        gift = await ctx.call("gift", order["id"])
        await ctx.sleep("cool-off", "3d")
        paid = await ctx.wait_for_event("payment", f"paid-{order['id']}")
        await ctx.emit("done", {"password": "hunter2"})
        return {
            "at": at.isoformat(),
            "lot": lot,
            "charged": charged["ok"],
            "held": held,
            "gift": gift,
            "paid": paid["amount"],
            "problem": problem[:5],
        }

    return flow


ORDER = {
    "id": "o1",
    "card": {
        "number": "4111",
        "pin": 1234,
        "cvc": "999",
        "apiKey": "sk_live",
        "token": "c0ffee00-0000-4000-8000-00000000cafe",
        "X-Auth-Token": None,
        "default": True,
    },
    "usage": {"maxTokens": 100, "tokens": ["a"]},
}


async def exported(
    *, until: str = "end", mask: tuple[str, ...] = (), order: Any = ORDER
) -> tuple[bytes, Any]:
    """A run of the shop as a file, and its result."""
    flow = shop()
    async with WorkflowTest(flow) as t:
        run = await t.trigger("buy", order)
        await t.flow.notify("paid-o1", {"amount": 5, "secret": "s"})
        if until == "end":
            result = await t.result(run)
        else:
            result = None
            await t.advance("1h")
        data = await flow.export_run(run.id, mask=mask)
    ran.clear()
    return data, result


# ---------------------------------------------------------------- the replay


async def file_of_a_whole_run() -> tuple[bytes, Any]:
    return await exported()


def test_a_replay_does_the_same_and_runs_no_step(tmp_path) -> None:
    data, result = asyncio.run(exported())
    (tmp_path / "bug.sfrun").write_bytes(data)
    again = replay(tmp_path / "bug.sfrun", shop())
    assert again.status == "completed"
    assert again.result == result
    assert again.same
    assert ran == [], "no step's function ran"
    assert [asked.name for asked in again.asked] == [
        "charge",
        "reserve",
        "reserve",
        "refuse",
        "gift",
        "cool-off",
        "payment",
    ]
    assert again.asked[3].outcome == "failed"
    assert "step reserve[a] reserve('a') – completed: 'held a'" in str(again)
    assert str(again).endswith(f"returned {result!r}")


def test_where_the_file_has_no_more_it_stops_and_says_what_was_asked_for() -> None:
    data, _ = asyncio.run(exported(until="asleep"))
    again = replay(data, shop())
    assert again.status == again.recorded_status == "stopped"
    assert [(at.name, at.kind, at.outcome) for at in again.stopped_at] == [
        ("cool-off", "sleep", "under way")
    ]
    assert again.same
    assert "stopped: the file has no more" in str(again)


def test_a_step_that_is_not_in_the_file_does_not_run() -> None:
    data, _ = asyncio.run(exported())
    again = replay(data, shop(changed=True))
    assert again.status == "stopped"
    assert [str(at) for at in again.stopped_at] == ["step insure reserve('c') – not in the file"]
    assert ran == []
    assert not again.same
    assert str(again).endswith("the file says: completed")


@pytest.mark.asyncio
async def test_it_works_inside_a_running_loop_and_raises_there() -> None:
    data, result = await exported()
    assert replay(data, shop()).result == result
    with pytest.raises(ExportedRunError):
        replay(b"{}\n", shop())

    flow = Stepflow()

    @flow.workflow("buy")
    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        raise SystemExit(3)

    assert isinstance(replay(data, flow).error, SystemExit)


def changed_flow(body: Any) -> Stepflow:
    flow = Stepflow()
    flow.workflow("buy")(body)
    return flow


def test_an_exception_of_the_body_is_there_with_its_frames() -> None:
    data, _ = asyncio.run(exported())

    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        charged = await ctx.step("charge", charge, order["id"], order["card"])
        raise KeyError(charged["receipt"])

    again = replay(data, changed_flow(buy))
    assert again.status == "failed"
    assert isinstance(again.error, KeyError)
    frames = []
    at = again.error.__traceback__
    while at is not None:
        frames.append(at.tb_frame.f_code.co_name)
        at = at.tb_next
    assert "buy" in frames
    assert "reserve[a]" in again.unused
    assert not again.same
    assert "not asked for: reserve[a]" in str(again)
    assert "failed: KeyError('receipt')" in str(again)


def test_another_function_under_a_recorded_name_diverges() -> None:
    data, _ = asyncio.run(exported())

    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await ctx.step("charge", reserve, "x")

    again = replay(data, changed_flow(buy))
    assert again.status == "diverged"
    assert "charge" in str(again.error)
    assert ran == []
    assert "diverged: step 'charge#1'" in str(again)


def test_a_body_that_waits_for_something_of_its_own_is_told_apart() -> None:
    data, _ = asyncio.run(exported())

    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    again = replay(data, changed_flow(buy))
    assert again.status == "stopped"
    assert "neither a step nor a wait" in str(again)


PLAIN = {"id": "o1", "card": {"number": "4111"}}


async def naps(arguments: list[str]) -> bytes:
    """A run without a secret in it, asleep behind a step."""
    flow = Stepflow()

    @flow.workflow("buy")
    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await ctx.step("reserve", reserve, arguments[0])
        await ctx.sleep("nap", "1h")

    async with WorkflowTest(flow) as t:
        run = await t.trigger("buy", PLAIN)
        await t.settle()
        data = await flow.export_run(run.id)
    ran.clear()
    return data


def test_other_arguments_are_noted_or_diverge_when_strict() -> None:
    data = asyncio.run(naps(["a"]))
    assert read_capsule(data).masked == 0

    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await ctx.step("reserve", reserve, "b")
        await ctx.sleep("nap", "1h")

    again = replay(data, changed_flow(buy))
    assert again.notes == ["reserve#1: asked with other arguments than then"]
    assert again.stopped_at[0].name == "nap"
    assert "note: reserve#1" in str(again)
    assert replay(data, changed_flow(buy), strict=True).status == "diverged"


def test_a_step_that_moved_takes_its_result_along() -> None:
    data = asyncio.run(naps(["a"]))

    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await ctx.step("reserve", reserve, "a", key="mine")

    again = replay(data, changed_flow(buy))
    assert again.status == "completed"
    assert again.notes == ["reserve[mine]: takes the result recorded under reserve#1"]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_run_that_was_cancelled_or_failed_does_so_again(how) -> None:
    flow = Stepflow()
    undone: list[str] = []

    @flow.workflow("buy")
    async def buy(ctx: Context, order: dict[str, Any]) -> None:
        await ctx.step("reserve", reserve, "a", compensate=undone.append)
        await ctx.sleep("nap", "1h")
        raise RuntimeError("broken")

    async def make() -> bytes:
        async with WorkflowTest(flow) as t:
            run = await t.trigger("buy", PLAIN)
            await t.settle()
            if how == "cancelled":
                await run.cancel()
            await t.advance("2h")
            return await flow.export_run(run.id)

    data = asyncio.run(make())
    undone.clear()
    again = replay(data, flow)
    assert (again.status, again.recorded_status) == (how, how)
    assert again.same
    assert undone == []
    assert [asked.name for asked in again.asked] == ["reserve", "nap", "undo:reserve"]


# ---------------------------------------------------------------- what is masked


def test_secrets_are_masked_and_types_are_kept() -> None:
    data, _ = asyncio.run(exported(mask=("number",)))
    capsule = read_capsule(data)
    for secret in (b"hunter2", b"sk_live", b"tok_live_1", b"c0ffee", b"1234", b"4111", b"999"):
        assert secret not in data, secret
    started = json.loads(capsule.records[0])
    card = started["input"]["card"]
    assert card["number"] == card["cvc"] == card["apiKey"] == "***"
    assert card["pin"] == 0
    assert UUID(card["token"]).int == 0
    assert card["X-Auth-Token"] is None
    assert card["default"] is True
    assert started["input"]["usage"] == {"maxTokens": 100, "tokens": ["***"]}
    assert capsule.masked > 8
    assert replay(data, shop()).same, "it replays all the same"


def test_masked_files_have_no_hashes_of_arguments_and_others_do() -> None:
    data, _ = asyncio.run(exported())
    assert b'"args":"' not in data.replace(b'"args":""', b"")
    assert b'"args":"' in asyncio.run(naps(["a"])).replace(b'"args":""', b"")


def test_the_service_may_name_further_secrets(monkeypatch) -> None:
    monkeypatch.setenv("STEPFLOW_MASK_NAMES", "amount, NUMBER")
    data, _ = asyncio.run(exported())
    assert b"4111" not in data
    assert json.loads(data.splitlines()[1]) == {
        "payload": json.loads(data.splitlines()[1])["payload"],
        "value": {"amount": 0, "secret": "***"},
    }


# ---------------------------------------------------------------- the file


def test_the_file_is_checked() -> None:
    data, _ = asyncio.run(exported())
    with pytest.raises(ExportedRunError, match="its checksum is another"):
        replay(data.replace(b"held a", b"held b"), shop())
    with pytest.raises(ExportedRunError, match="exported as version 9, known is 1"):
        replay(data.replace(b'"version":1', b'"version":9', 1), shop())
    for junk in (b"", b"junk", b'{"k":"run"}\n', b"\xff\n", b"[]\n"):
        with pytest.raises(ExportedRunError, match="no exported run"):
            replay(junk, shop())


def test_the_flow_must_have_the_workflow() -> None:
    data, _ = asyncio.run(exported())
    with pytest.raises(WorkflowNotFoundError, match="no workflow 'buy'"):
        replay(data, Stepflow())


@pytest.mark.asyncio
async def test_there_is_no_file_of_a_run_that_is_not_there() -> None:
    async with WorkflowTest(shop()) as t:
        with pytest.raises(RunNotFoundError):
            await t.flow.export_run("run_00000000")


def test_files_of_version_1_are_replayed_for_ever() -> None:
    """Written by the first version that could; do not write it anew."""
    again = replay(GOLDEN / "buy-1.sfrun", shop())
    assert again.same
    assert again.result["paid"] == 0 or again.result["paid"] == 5
    assert read_capsule((GOLDEN / "buy-1.sfrun").read_bytes()).run_id.startswith("run_")
