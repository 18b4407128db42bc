"""Each example on virtual time: its days take no time, and a replay does the same again."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.cli.loader import load_target
from stepflow.testing import WorkflowTest
from tests.integration.test_ten_examples import TEN

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ORDER = {"id": "1042", "email": "ada@example.com", "items": ["tea", "cup"]}
EXPENSE = {"id": "7", "employee": "Ada", "amount": 420}


@pytest.fixture(autouse=True)
def _examples_on_path(monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def test_each_example_is_run_here() -> None:
    here = {"app", "approval", "embedded", "fan_out", "shop", "welcome"}
    assert set(NAMES) == here | set(TEN)


# ---------------------------------------------------------------- on virtual time


@pytest.mark.asyncio
@pytest.mark.parametrize("replay", ["never", "always"])
async def test_welcome_mails_twice_and_sleeps_between(replay, capfd) -> None:
    welcome: Any = importlib.import_module("welcome")
    async with WorkflowTest(welcome.flow, replay=replay) as t:
        began = t.now
        user = {"userId": "u_1", "email": "ada@example.com"}
        assert await t.run(welcome.welcome_user, user) == {"success": True}
        assert (t.now - began).total_seconds() >= 20
    out, _ = capfd.readouterr()
    assert out.splitlines() == [
        "  mail to ada@example.com: welcome!",
        "  mail to ada@example.com: how is it going?",
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("replay", ["never", "always"])
async def test_a_checkout_that_is_paid_gives_what_is_reserved(replay) -> None:
    shop: Any = importlib.import_module("shop")
    async with WorkflowTest(shop.flow, replay=replay) as t:
        run = await t.trigger("checkout", ORDER)
        assert await t.notify("paid-1042", {"amount": 99}) == 1
        outcome = await t.result(run)
    assert outcome == {
        "paid": True,
        "amount": 99,
        "reserved": [shop.reserve("tea"), shop.reserve("cup")],
    }


@pytest.mark.asyncio
async def test_a_checkout_that_nobody_pays_ends_after_an_hour() -> None:
    shop: Any = importlib.import_module("shop")
    async with WorkflowTest(shop.flow) as t:
        began = t.now
        assert await t.run("checkout", ORDER) == {"paid": False}
        assert (t.now - began).total_seconds() >= 3600


@pytest.mark.asyncio
async def test_a_checkout_charges_once_through_a_crash() -> None:
    shop: Any = importlib.import_module("shop")
    async with WorkflowTest(shop.flow) as t:
        run = await t.trigger("checkout", ORDER)
        await t.settle()
        await t.crash()
        await t.notify("paid-1042", {"amount": 99})
        assert (await t.result(run))["paid"] is True
        assert len(t.calls("charge")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("approved", [True, False])
async def test_an_expense_is_paid_when_it_is_approved(approved, capfd) -> None:
    approval: Any = importlib.import_module("approval")
    async with WorkflowTest(approval.flow) as t:
        run = await t.trigger("expense", EXPENSE)
        await t.advance("3d")
        await t.notify("decision-7", {"approved": approved, "by": "Grace"})
        assert await t.result(run) == {"paid": approved, "by": "Grace"}
    out, _ = capfd.readouterr()
    assert ("paid 420 to Ada" in out) is approved


@pytest.mark.asyncio
async def test_an_answer_before_the_question_is_kept() -> None:
    approval: Any = importlib.import_module("approval")
    async with WorkflowTest(approval.flow) as t:
        run = await t.trigger("expense", EXPENSE)
        await t.flow.notify("decision-7", {"approved": True, "by": "Grace"})
        assert await t.result(run) == {"paid": True, "by": "Grace"}


@pytest.mark.asyncio
async def test_an_expense_that_nobody_decides_is_not_paid_after_a_week() -> None:
    approval: Any = importlib.import_module("approval")
    async with WorkflowTest(approval.flow) as t:
        assert await t.run("expense", EXPENSE) == {"paid": False, "by": "nobody"}


@pytest.mark.asyncio
async def test_a_small_expense_is_paid_at_once() -> None:
    approval: Any = importlib.import_module("approval")
    async with WorkflowTest(approval.flow) as t:
        assert await t.run("expense", {**EXPENSE, "amount": 100}) == {"paid": True, "by": "policy"}


@pytest.mark.asyncio
async def test_a_thousand_pages_are_counted_once_each() -> None:
    fan_out: Any = importlib.import_module("fan_out")
    async with WorkflowTest(fan_out.flow) as t:
        count = await t.run("count-words", {"pages": 1000})
        assert len(t.calls("count-page")) == 1000
    words = sum(fan_out.count_words(page) for page in range(1000))
    assert count == {"pages": 1000, "words": words}


# ---------------------------------------------------------------- all of them in one


def test_app_has_the_workflows_of_all_the_others() -> None:
    flow = load_target(str(EXAMPLES / "app.py"))
    ids = sorted(workflow.id for workflow in flow.registry.all())
    assert ids == ["checkout", "count-words", "expense", "welcome-user"]
