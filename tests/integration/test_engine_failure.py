"""After a failed sync nothing more is recorded, shown or promised; the next start finds what is."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import OutcomeUnknownError, RunNotFoundError, UnavailableError
from tests.engine_kit import ALL, Service, held_back, reborn, service
from tests.served import doomed

if TYPE_CHECKING:
    from pathlib import Path


def break_syncs(world: Service) -> None:
    """From now on a sync of the journal fails."""

    def before(operation: str, name: str) -> None:
        if operation == "fdatasync" and name.startswith("wal-"):
            raise OSError(errno.EIO, "Input/output error")

    world.disk.before = before


@pytest.mark.asyncio
async def test_a_failed_sync_ends_the_engine_and_all_who_wait_are_told() -> None:
    async with service() as world:
        fatal: list[BaseException] = []
        world.engine._on_fatal = fatal.append
        live = await world.trigger("waits", "ev")
        done = await world.trigger("echo", 1)
        await world.finished(done)
        await world.waiting(live)
        stream = await world.engine.stream(live)
        stream.read(1 << 20)
        changed = await held_back(stream.changed())
        ended = await held_back(world.engine.wait(live))
        world.hold()
        unknown = [
            await held_back(ask)
            for ask in (
                world.trigger("echo", 1, run_id="run_unknown0"),
                world.engine.notify("ev", b"1"),
                world.engine.cancel(live),
                world.engine.purge(done),
                world.engine.trigger_many("echo", [b"1"]),
                world.get(live),
                world.get(done),
                world.engine.list_runs(ALL, limit=5, cursor=None),
                world.engine.waiting_events(),
                world.engine.stream("run_unknown0"),
            )
        ]
        break_syncs(world)
        world.release()
        for task in (*unknown, ended):
            with pytest.raises((OutcomeUnknownError, UnavailableError)) as caught:
                await task
            assert caught.value.status == 503
        await changed
        assert stream.ended
        assert not stream.finished
        assert stream.read(1 << 20) == b""
        assert world.engine.state == "failed"
        assert len(fatal) == 1
        assert world.engine.metrics()["stepflow_up"] == 0
        assert world.engine.readiness()["status"] == "failed"
        world.disk.before = None
        for ask in (
            world.trigger("echo", 1),
            world.engine.notify("ev", b"1"),
            world.engine.cancel(live),
            world.engine.purge(done),
            world.get(live),
            world.get(done),
            world.engine.require_run(done),
            world.engine.wait(done),
            world.engine.stream(done),
            world.engine.list_runs(ALL, limit=5, cursor=None),
            world.engine.waiting_events(),
        ):
            with pytest.raises(UnavailableError):
                await ask
        assert len(fatal) == 1


@pytest.mark.asyncio
async def test_after_a_failed_sync_nothing_is_recorded_and_a_restart_finds_what_was() -> None:
    async with service() as world:
        step = await world.trigger("gated")
        nap = await world.trigger("sleeps", 5)
        told = await world.trigger("echo", 1)
        await world.finished(told)
        await world.waiting(nap)
        await world.until(lambda: world.life.ran)
        image = world.image()
        break_syncs(world)
        with pytest.raises(OutcomeUnknownError):
            await world.trigger("echo", 2, run_id="run_unknown0")
        writes: list[str] = []
        world.disk.before = lambda operation, name: writes.append(operation)
        world.gate.set()
        await world.clock.advance(60)
        assert not {"pwrite", "fdatasync"} & set(writes)
        await world.stop()
        assert not {"pwrite", "fdatasync"} & set(writes)
        world.disk.before = None
        for disk in (image, world.disk.power_cut(), world.disk.process_kill()):
            async with reborn(world, disk) as other:
                assert other.engine.recovery is not None
                assert not other.engine.recovery.clean
                other.gate.set()
                assert (await other.get(told)).status == "completed"
                assert (await other.finished(nap)).status == "completed"
                assert (await other.finished(step)).status == "completed"
                try:
                    assert (await other.finished("run_unknown0")).status == "completed"
                except RunNotFoundError:
                    assert disk is not world.disk


@pytest.mark.asyncio
async def test_a_failed_engine_is_stopped_and_started_again_on_purpose() -> None:
    async with service() as world:
        await world.trigger("echo", 1, run_id="run_kept0000")
        break_syncs(world)
        with pytest.raises(OutcomeUnknownError):
            await world.trigger("echo", 2)
        engine = world.engine
        await engine.stop()
        assert engine.state == "failed"
        with pytest.raises(UnavailableError):
            await engine.get_run("run_kept0000")
        world.disk.before = None
        await engine.start()
        assert engine.state == "ready"
        assert engine.fatal is None
        assert (await engine.wait("run_kept0000")).status == "completed"
        await world.trigger("echo", 3)


# ---------------------------------------------------------------- the real process

APP = """
from stepflow import Context, Stepflow
flow = Stepflow()

@flow.workflow("echo")
async def echo(ctx: Context, value: int) -> int:
    return value
"""

CLIENT = """
import json, sys, urllib.error, urllib.request
url, known = sys.argv[1], []
for n in range(200):
    ask = urllib.request.Request(url + "/trigger/echo", b"%d" % n, method="POST")
    ask.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(ask, timeout=30) as answer:
            known.append(json.load(answer)["runId"])
    except urllib.error.HTTPError as error:
        body = json.load(error)
        print(json.dumps([error.code, body["code"]]))
        break
    except OSError:
        print(json.dumps([0, ""]))
        break
print(json.dumps(known))
"""


def serve(tmp_path: Path, *before: str) -> subprocess.Popen[str]:
    app = tmp_path / "app.py"
    app.write_text(APP)
    command = [
        *before, sys.executable, "-m", "stepflow.cli.main", "serve", str(app),
        "--data", str(tmp_path / "data"), "--port", "0", "--no-auth",
    ]  # fmt: skip
    environ = {**os.environ, "STEPFLOW_LOG_FORMAT": "console", "STEPFLOW_CHECK_RUNS_MAX": "0"}
    return subprocess.Popen(
        doomed(command),
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def address(process: subprocess.Popen[str]) -> str:
    """Return where the process listens once it is ready."""
    assert process.stdout is not None
    said = ""
    url = ""
    for line in process.stdout:
        said += line
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        url = found[0] if found else url
        if url and "echo" in line:
            return url
    raise AssertionError(said)


@pytest.mark.tool("strace")
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_serve_leaves_with_74_when_a_sync_fails_and_starts_again(
    tmp_path: Path, tool_path: dict[str, str], error: str
) -> None:
    strace = [
        tool_path["strace"], "-f", "-o", "/dev/null", "-e", "trace=fdatasync",
        "-e", f"inject=fdatasync:error={error}:when=9+",
    ]  # fmt: skip
    process = serve(tmp_path, *strace)
    try:
        url = address(process)
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, url], capture_output=True, text=True, check=True
        )
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    refusal, known = (msgspec.json.decode(line) for line in client.stdout.splitlines())
    assert refusal in ([503, "OUTCOME_UNKNOWN"], [503, "UNAVAILABLE"], [0, ""])
    assert known
    assert process.returncode == 74, output
    again = serve(tmp_path)
    try:
        url = address(again)
        for run_id in known:
            got = subprocess.run(
                [sys.executable, "-c", GET, url, run_id], capture_output=True, text=True, check=True
            )
            view: Any = msgspec.json.decode(got.stdout)
            assert view["status"] == "completed"
        again.terminate()
        output, _ = again.communicate(timeout=60)
    finally:
        again.kill()
        again.wait()
    assert again.returncode == 0, output


GET = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1] + "/runs/" + sys.argv[2], timeout=30) as answer:
    print(answer.read().decode())
"""


def test_the_loop_is_free_of_tasks_after_a_failed_engine_is_stopped() -> None:
    async def life() -> set[asyncio.Task[Any]]:
        async with service() as world:
            await world.trigger("gated")
            break_syncs(world)
            with pytest.raises(OutcomeUnknownError):
                await world.trigger("echo", 2)
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    assert asyncio.run(life()) == set()
