"""The pytest plugin, installed as users have it: its fixture, its marker, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FLOW = """
import itertools
import pytest
from stepflow import Context, Stepflow
from stepflow.testing import DivergedError

flow = Stepflow()
ways = itertools.count()

@flow.workflow("nap")
async def nap(ctx: Context, duration: str) -> str:
    await ctx.sleep("nap", duration)
    return str(ctx.uuid())

@flow.workflow("dice")
async def dice(ctx: Context, _: None) -> None:
    await ctx.step(f"way-{next(ways)}", int)
    await ctx.step("after", int)
"""
ANYIO = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"


def run_pytest(place: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    (place / "test_user.py").write_text(FLOW + body)
    (place / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -p no:cacheprovider\n")
    if "no:asyncio" not in options:
        options += ("-o", "asyncio_default_fixture_loop_scope=function")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-W", "error", *options],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("@pytest.mark.asyncio", ("-o", "asyncio_mode=strict")),
        ("", ("-o", "asyncio_mode=auto")),
        ("@pytest.mark.anyio", ("-p", "no:asyncio")),
    ],
)
def test_the_fixture_works_under_each_runner_of_async_tests(mark, options, tmp_path) -> None:
    body = f"""
{mark}
async def test_a_day_takes_no_time(workflow_test):
    async with workflow_test(flow) as t:
        assert await t.run("nap", "1d")

{mark}
async def test_stuck_is_said(workflow_test):
    from stepflow.testing import StuckError
    with pytest.raises(StuckError):
        async with workflow_test(flow) as t:
            await t.clock.advance(1)
            import asyncio
            await asyncio.Event().wait()
"""
    done = run_pytest(tmp_path, body + (ANYIO if "anyio" in mark else ""), *options)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_marker_and_the_command_line_choose_the_options(tmp_path) -> None:
    body = """
@pytest.mark.asyncio
@pytest.mark.stepflow(replay="always")
async def test_marked(workflow_test):
    with pytest.raises(DivergedError):
        async with workflow_test(flow) as t:
            await t.run("dice")

@pytest.mark.asyncio
async def test_plain(workflow_test):
    async with workflow_test(flow) as t:
        await t.run("dice")

@pytest.mark.asyncio
@pytest.mark.stepflow(replay="always")
async def test_the_call_has_the_last_word(workflow_test):
    async with workflow_test(flow, replay="never") as t:
        await t.run("dice")
"""
    assert "3 passed" in run_pytest(tmp_path, body).stdout
    done = run_pytest(tmp_path, body, "--stepflow-replay=always")
    assert "test_plain" in done.stdout
    assert "DivergedError" in done.stdout
    assert "1 failed, 2 passed" in done.stdout


def test_the_seed_of_the_command_line_decides_ids(tmp_path) -> None:
    body = """
@pytest.mark.asyncio
async def test_ids(workflow_test):
    async with workflow_test(flow) as t:
        print("id:", (await t.trigger("nap", "1h")).id)
"""

    def shown(*options: str) -> str:
        out = run_pytest(tmp_path, body, "-s", *options).stdout
        return next(line for line in out.splitlines() if line.startswith("id:"))

    assert shown("--stepflow-seed=5") == shown("--stepflow-seed=5") != shown("--stepflow-seed=6")


def test_a_test_on_another_loop_than_asyncios_is_told_what_to_do(tmp_path) -> None:
    body = """
def test_without_a_loop(workflow_test):
    with pytest.raises(TypeError, match="anyio_backend"):
        workflow_test(flow).__aenter__().send(None)
"""
    assert "1 passed" in run_pytest(tmp_path, body).stdout


def test_a_suite_that_does_not_use_it_does_not_import_stepflow(tmp_path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_not_loaded():\n"
        "    assert 'pytest_stepflow' in sys.modules\n"
        "    assert 'stepflow' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
