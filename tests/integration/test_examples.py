"""Each example of `examples/` does what its first lines say."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stepflow.cli.loader import load_target
from stepflow.testing import WorkflowTest

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
    assert NAMES == ["app", "approval", "embedded", "fan_out", "shop", "welcome"]


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


# ---------------------------------------------------------------- inside an application


@pytest.fixture
def embedded(tmp_path) -> Iterator[str]:
    """`examples/embedded.py` under uvicorn, as its docstring says; its URL."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "embedded:app"]
    env = {**os.environ, "STEPFLOW_DATA_DIR": str(tmp_path / "data"), "SHOP_COOL_OFF": "200ms"}
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen([*command, "--port", "0"], env=env, stdout=log, stderr=log)
    try:
        yield _url(process, tmp_path / "log")
    finally:
        process.terminate()
        process.wait()
        log.close()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    while True:
        ended = process.poll() is not None
        found = re.search(r"running on (http://\S+)", log.read_text())
        if found is not None:
            return found.group(1)
        assert not ended, log.read_text()
        time.sleep(0.02)


def _events(text: str) -> list[tuple[str, Any]]:
    """Return the name and data of each event of a finished stream."""
    blocks = [block.splitlines() for block in text.replace("\r\n", "\n").split("\n\n")]
    fields = [dict(line.split(": ", 1) for line in block if ": " in line) for block in blocks]
    return [(each["event"], json.loads(each["data"])) for each in fields if "event" in each]


def test_the_embedded_example_serves_its_page_and_a_run_that_the_page_can_read(embedded) -> None:
    with httpx.Client(base_url=embedded, timeout=60) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert page.text == (EXAMPLES / "monitor.html").read_text()

        run = client.post("/order", json=ORDER).raise_for_status().json()
        stream = f"/api/stepflow/runs/{run['runId']}/stream"
        assert client.get(stream).status_code == 401
        client.post("/pay/1042", json={"amount": 99}).raise_for_status()
        events = _events(client.get(stream, params={"token": run["token"]}).text)
    assert events[-1][0] == "complete"
    assert events[-1][1]["result"]["amount"] == 99
    assert "charge" in {data.get("name") for name, data in events if name == "step"}
