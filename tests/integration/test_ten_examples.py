"""The ten workflows as users write them, on virtual time; none is longer than 60 lines."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RunFailedError
from stepflow.testing import WorkflowTest, explore

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio

EXAMPLES = Path(__file__).parents[2] / "examples"
TEN = ["approval", "crawl", "documents", "drip_mail", "fair_queue"]
TEN += ["llm_agent", "nightly_report", "order_saga", "poller", "webhook"]
BOTH = pytest.mark.parametrize("replay", ["never", "always"])


@pytest.fixture(autouse=True)
def _on_path(monkeypatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield
    for name in TEN:
        sys.modules.pop(name, None)


def example(name: str) -> Any:
    return importlib.import_module(name)


@pytest.mark.parametrize("name", TEN)
async def test_each_has_less_than_60_lines_and_is_in_the_docs(name) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 60
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    assert f"(../examples/{name}.py)" in page


@BOTH
async def test_a_saga_gives_everything_back_in_reverse_order(replay, capfd) -> None:
    saga = example("order_saga")
    async with WorkflowTest(saga.flow, replay=replay) as t:
        assert await t.run(saga.order, {"id": "7", "sku": "tea", "amount": 42}) == "on its way"
        with pytest.raises(RunFailedError, match="insure"):
            await t.run(saga.order, {"id": "8", "sku": "cup", "amount": 420})
    out, _ = capfd.readouterr()
    assert out.splitlines() == ["  refunded 420 of 8", "  released cup of 8"]


async def test_a_saga_holds_under_every_kill_and_cancel() -> None:
    saga = example("order_saga")
    done = await explore(saga.order, saga.Order("7", "tea", 42), depth=1)
    assert done.left_out == 0


async def test_a_thousand_pages_are_read_once_each_through_a_crash() -> None:
    documents = example("documents")
    async with WorkflowTest(documents.flow) as t:
        run = await t.trigger("documents", {"name": "annual", "pages": 1000})
        summary = await t.result(run)
        await t.crash()
        assert await t.result(run) == summary
        assert summary["pages"] == len(t.calls("read")) == 1000


@BOTH
async def test_an_agent_calls_a_tool_and_streams_its_tokens(replay) -> None:
    agent = example("llm_agent")
    async with WorkflowTest(agent.flow, replay=replay) as t:
        run = await t.trigger(agent.agent, "What is 6 times 7?")
        assert await t.result(run) == "The answer is 42 ."
        assert await t.emitted(run, "model") == ["6", "7", "The", "answer", "is", "42", "."]
        t.assert_called("tool", "6 7", times=1)
        assert len(t.calls("model")) == 2


async def test_drip_mail_takes_ten_days_or_stops_when_told() -> None:
    drip = example("drip_mail")
    customer = {"id": "7", "email": "ada@example.com"}
    async with WorkflowTest(drip.flow) as t:
        began = t.now
        assert await t.run(drip.drip, customer) == "no answer"
        assert (t.now - began).days == 10
        run = await t.trigger(drip.drip, customer)
        await t.advance("2d")
        await t.notify("stop-7", "bought")
        assert await t.result(run) == "bought"
        assert [len(t.calls(letter)) for letter, _ in drip.LETTERS] == [2, 2, 1]


async def test_the_nightly_report_comes_each_night() -> None:
    nightly = example("nightly_report")
    start_ms = int(datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp() * 1000)
    async with WorkflowTest(nightly.flow, start_ms=start_ms) as t:
        await t.advance("3d")
        assert len(t.calls("mail")) == 3
        days = [report["day"] for (report,) in t.calls("mail")]
        assert days == ["2024-01-02", "2024-01-03", "2024-01-04"]


async def test_a_delivery_that_comes_twice_is_booked_once() -> None:
    webhook = example("webhook")
    async with WorkflowTest(webhook.flow) as t:
        delivery = webhook.Delivery("evt_1", "paid", 42)
        first, second = [await webhook.receive(delivery) for _ in range(2)]
        assert first.id == second.id
        assert (await t.result(first)).startswith("42 booked for evt_1 under ")
        await t.crash()
        assert (await webhook.receive(delivery)).id == first.id
        assert len(t.calls("book")) == 1


async def test_a_crawl_keeps_to_ten_pages_a_minute() -> None:
    crawl = example("crawl")
    async with WorkflowTest(crawl.flow) as t:
        run = await t.trigger(crawl.crawl, {"host": "h", "pages": 25})
        await t.settle()
        assert len(t.calls("fetch")) == 10
        await t.advance("61s")
        assert len(t.calls("fetch")) == 20
        assert await t.result(run) == sum(1 + n for n in range(25))


async def test_a_small_tenant_does_not_wait_for_a_large_one() -> None:
    queue = example("fair_queue")
    async with WorkflowTest(queue.flow) as t:
        for _ in range(50):
            await t.trigger(queue.job, {"tenant": "acme", "name": "x"})
        tiny = await t.trigger(queue.job, {"tenant": "tiny", "name": "x"})
        await t.advance("61s")
        assert (await t.get(tiny)).status == "completed"
        assert len(t.calls("work")) == 3, "two of acme's at once, and tiny's"


async def test_a_poller_goes_on_for_ever_and_does_not_grow() -> None:
    poller = example("poller")
    async with WorkflowTest(poller.flow) as t:
        run = await t.trigger(poller.poller, {"seen": 0, "rounds": 0})
        await t.advance("1d")
        await t.crash()
        await t.advance("1d")
        assert (await t.get(run)).status == "running"
        assert len(t.calls("look")) > 500
        assert len(await t.steps(run)) <= 2 * poller.HISTORY
