"""`serve` checks the live runs against its code at every start, in a child that harms nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.clock import next_pass
from stepflow.engine import code_check
from tests.cli_kit import Served, run_cli, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BEFORE = """
from stepflow import Context, Stepflow

flow = Stepflow()


async def charge(n: int) -> int:
    return n


@flow.workflow("pay")
async def pay(ctx: Context, n: int) -> int:
    await ctx.step("charge", charge, n)
    return await ctx.wait_for_event("go", timeout=None)


@flow.workflow("wait")
async def wait(ctx: Context, n: int) -> int:
    return await ctx.wait_for_event("other", timeout=None)
"""
AFTER = BEFORE.replace("async def charge", "async def debit").replace(
    '"charge", charge', '"charge", debit'
)
# The server's process loads it once, every other one hangs, and says who it is.
HANGING = (
    BEFORE
    + """
import os, sys, time
if "check" in sys.argv:
    with open("child.txt", "w") as file:
        file.write(f"{os.getpid()} {os.getpriority(os.PRIO_PROCESS, 0)}")
    os.rename("child.txt", "child")
    time.sleep(600)
"""
)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(code: str, *options: str, **env: str) -> Served:
        (tmp_path / "flows.py").write_text(code)
        started.append(Served("flows.py", "--no-auth", *options, cwd=tmp_path, **env))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def trigger(server: Served, workflow: str, count: int = 1) -> list[str]:
    url = server.ready()
    ids = [
        httpx.post(f"{url}/trigger/{workflow}", json=n, timeout=60).json()["runId"]
        for n in range(count)
    ]

    def waits(run_id: str) -> bool:
        return httpx.get(f"{url}/runs/{run_id}", timeout=60).json().get("state") == "waiting"

    for run_id in ids:
        until(lambda run_id=run_id: waits(run_id))
    return ids


def check_of(server: Served) -> dict[str, Any]:
    """Return what `/ready` says of the check once it is over."""

    def found() -> dict[str, Any] | None:
        check = httpx.get(f"{server.ready()}/ready", timeout=60).json().get("check")
        return None if check is None or check["status"] == "running" else check

    return until(found, lambda: server.err)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_start_with_code_that_does_not_fit_says_which_run_and_the_next_move(serve) -> None:
    before = serve(BEFORE)
    (paid,), (waits,) = trigger(before, "pay"), trigger(before, "wait")
    assert before.stop() == 0

    server = serve(AFTER)
    check = check_of(server)
    assert check | {"at": ""} == {
        "status": "complete",
        "at": "",
        "runs": 2,
        "verdicts": {"divergence": 1, "safe": 1},
        "divergingWorkflows": ["pay"],
    }
    server.says("SFW404")
    (line,) = [line for line in server.err.splitlines() if "SFW404" in line]
    assert "WARNING" in line
    assert f"{paid} pay divergence" in line
    assert "'charge#1' has charge" in line
    assert "asks for debit" in line
    assert "renamed=" in line
    assert "`stepflow check flows.py --data stepflow-data`" in line
    assert waits not in line
    # Nobody needs credentials for /ready: it names no run.
    assert paid not in json.dumps(httpx.get(f"{server.ready()}/ready", timeout=60).json())
    assert server.stop() == 0


def test_a_start_with_fitting_code_says_so_once(serve) -> None:
    before = serve(BEFORE)
    trigger(before, "pay", 3)
    before.kill()

    server = serve(BEFORE)
    server.says("checked 3 live runs against the code: 3 safe")
    assert check_of(server)["verdicts"] == {"safe": 3}
    assert "SFW404" not in server.err
    # What is asked of the child by its exit status alone is no failure of it.
    assert "could not be checked" not in server.err


def test_of_no_live_run_no_child_is_started(serve, tmp_path) -> None:
    server = serve(HANGING)
    assert check_of(server)["runs"] == 0
    assert not (tmp_path / "child").exists()
    assert "checked" not in server.err


def test_the_setting_switches_it_off(serve, tmp_path) -> None:
    before = serve(BEFORE)
    trigger(before, "pay")
    before.stop()
    server = serve(HANGING, STEPFLOW_CHECK_RUNS_MAX="0")
    body = httpx.get(f"{server.ready()}/ready", timeout=60).json()
    assert "check" not in body
    assert server.stop() == 0
    assert not (tmp_path / "child").exists()


def test_more_runs_than_wanted_are_left_out_and_said(serve) -> None:
    before = serve(BEFORE)
    trigger(before, "pay", 3)
    before.stop()
    server = serve(BEFORE, STEPFLOW_CHECK_RUNS_MAX="2")
    check = check_of(server)
    assert (check["status"], check["runs"]) == ("incomplete", 2)
    server.says("checked 2 live runs against the code: 2 safe; not all: there are more than 2")


def test_a_child_that_hangs_is_of_low_priority_and_ends_with_the_server(serve, tmp_path) -> None:
    before = serve(BEFORE)
    trigger(before, "pay")
    before.stop()
    server = serve(HANGING)
    until((tmp_path / "child").exists, lambda: server.err)
    pid, niceness = map(int, (tmp_path / "child").read_text().split())
    assert niceness == 19
    assert httpx.get(f"{server.ready()}/ready", timeout=60).json()["check"]["status"] == "running"
    # Meanwhile the server serves.
    trigger(server, "wait")
    assert server.stop() == 0
    until(lambda: not lives(pid))
    assert "check" not in server.err.partition("listening")[2]


def test_a_child_that_hangs_is_ended_by_its_time_and_said(serve, tmp_path) -> None:
    before = serve(BEFORE)
    trigger(before, "pay")
    before.stop()
    server = serve(HANGING, STEPFLOW_CHECK_TIME_S="1")
    assert check_of(server)["status"] == "incomplete"
    server.says("it had not ended after 1 s (STEPFLOW_CHECK_TIME_S)")
    # On a busy machine its time may end before it has said who it is.
    if (tmp_path / "child").exists():
        assert not lives(int((tmp_path / "child").read_text().split()[0]))
    trigger(server, "wait")


def test_a_child_that_fails_is_said_and_harms_nothing(serve) -> None:
    before = serve(BEFORE)
    trigger(before, "pay")
    before.stop()
    server = serve(
        BEFORE + "import sys\nif 'check' in sys.argv: raise RuntimeError('only one of me')\n"
    )
    assert check_of(server)["status"] == "failed"
    server.says("could not be checked against the code, and nothing depends on it")
    assert "RuntimeError: only one of me" in server.err
    trigger(server, "wait")
    assert server.stop() == 0


def test_what_the_target_prints_is_no_result(serve) -> None:
    before = serve(BEFORE)
    trigger(before, "pay")
    before.stop()
    noise = 'print("hello", {"verdict": 1}, flush=True); print("[]\\n{}\\n" + "x" * 100_000)\n'
    server = serve(BEFORE + noise)
    assert check_of(server)["verdicts"] == {"safe": 1}


def test_a_reload_checks_the_runs_against_the_edit(serve, tmp_path) -> None:
    server = serve(BEFORE, "--reload")
    url = server.ready()
    (paid,) = trigger(server, "pay")
    (tmp_path / "flows.py").write_text(AFTER)
    server.says("SFW404")
    assert f"{paid} pay divergence" in server.err
    del url
    assert server.stop() == 0


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there is no SIGALRM")
def test_a_check_that_was_left_alone_ends_by_its_own_alarm(tmp_path) -> None:
    (tmp_path / "flows.py").write_text(HANGING)
    (tmp_path / "data").mkdir()
    done = run_cli("check", "flows.py", "--data", "data", "--within", "0.5", cwd=tmp_path)
    assert done.code == -signal.SIGALRM


def test_a_check_looks_at_the_oldest_runs_alone_when_told(serve, tmp_path) -> None:
    before = serve(BEFORE)
    ids = trigger(before, "pay", 3)
    before.stop()
    done = run_cli("check", "flows.py", "--data", "stepflow-data", "--limit", "2", cwd=tmp_path)
    assert [line.split()[0] for line in done.out.splitlines()] == ids[:2]
    assert "2 live runs: 2 safe" in done.err


# ------------------------------------------------------------ inside a host


@pytest.mark.asyncio
async def test_a_host_asks_for_the_same(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(AFTER)
    flow = Stepflow(tmp_path / "data")

    async def charge(n: int) -> int:
        return n

    charge.__qualname__ = "charge"

    @flow.workflow("pay")
    async def pay(ctx: Context, n: int) -> int:
        await ctx.step("charge", charge, n)
        return await ctx.wait_for_event("go", timeout=None)

    async with flow:
        assert (await flow.check("flows.py")).runs == 0
        run = await flow.trigger("pay", 1)
        while (await run.get()).state != "waiting":
            await next_pass()
        report = await flow.check("flows.py")
        ready = flow.engine.readiness()["check"]
    (row,) = report.diverging
    assert (report.status, row.run_id, row.step) == ("complete", run.id, "charge#1")
    assert ready == report.public()


@pytest.mark.asyncio
async def test_what_is_in_memory_began_with_this_code() -> None:
    async with Stepflow(MEMORY) as flow:

        @flow.workflow("wait")
        async def wait(ctx: Context) -> None:
            await ctx.wait_for_event("go", timeout=None)

        await flow.trigger("wait")
        report = await flow.check("no-such-file.py")
    assert (report.status, report.runs) == ("complete", 0)


@pytest.mark.asyncio
async def test_switched_off_it_says_so(tmp_path) -> None:
    settings = Settings(check_runs_max=0)
    async with Stepflow(tmp_path / "data", settings=settings) as flow:
        assert (await flow.check("no-such-file.py")).status == "off"


@pytest.mark.asyncio
async def test_a_child_that_cannot_be_started_is_a_report(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    flow = Stepflow(tmp_path / "data")

    @flow.workflow("wait")
    async def wait(ctx: Context) -> None:
        await ctx.wait_for_event("go", timeout=None)

    async with flow:
        await flow.trigger("wait")
        report = await flow.check("no-such-file.py")
    assert report.status == "failed"
    assert "no-such-python" in report.error
    assert "could not be checked" in caplog.text


def test_its_command_goes_by_the_installed_package(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = code_check.check_command("flows.py", "data", Settings(check_runs_max=7))
    assert words[:4] == [sys.executable, "-P", "-m", "stepflow.cli.main"]
    assert words[4:] == [
        *("check", "flows.py", "--data", str(tmp_path / "data"), "--json"),
        *("--limit", "8", "--within", "60"),
    ]
