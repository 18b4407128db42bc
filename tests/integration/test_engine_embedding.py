"""The engine inside a host: its loop, its directory, its start and its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import UNSET

from stepflow import Context, DataDirLockedError, Stepflow
from stepflow.clock import SystemClock
from stepflow.config import MEMORY, Settings
from stepflow.errors import ConfigurationError, JournalCorruptError, UnavailableError
from tests.engine_kit import Service, service
from tests.served import doomed

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = Settings(lock_wait_s=0.0, threads=4)


def made(data: Path | str, settings: Settings = SMALL) -> Stepflow:
    flow = Stepflow(str(data), settings=settings)

    def blocking(n: int) -> int:
        return n + 1

    async def sub(ctx: Context, n: int) -> int:
        return await ctx.step("one", blocking, n)

    @flow.workflow("work")
    async def work(ctx: Context, n: int) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(sub(ctx, n + i)) for i in range(3)]
        return [task.result() for task in tasks]

    @flow.workflow("waits")
    async def waits(ctx: Context, event: str) -> Any:
        return await ctx.wait_for_event("wait", event, timeout=None)

    return flow


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def our_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("stepflow")]


async def gone(threads: Callable[[], list[str]] = our_threads) -> list[str]:
    """Return the threads that are left, once they had the time to end."""
    clock = SystemClock()
    for _ in range(200):
        if not threads():
            return []
        passed = asyncio.Event()
        clock.call_later(0.01, passed.set)
        await passed.wait()
    return threads()


@pytest.mark.asyncio
async def test_nothing_is_opened_before_the_start_and_nothing_is_left_after_the_stop(
    tmp_path: Path,
) -> None:
    flow = made(tmp_path / "data")
    flow.asgi()
    flow.routes()
    assert flow.engine.state == "stopped"
    assert not (tmp_path / "data").exists()
    assert our_threads() == []
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    files = open_files()
    for _ in range(3):
        async with flow:
            assert our_threads()
            run = await flow.trigger("work", 1)
            assert await run.result() == [2, 3, 4]
            await flow.trigger("waits", "ev")
            stream = await flow.engine.stream(run.id)
            stream.close()
        assert loop.get_task_factory() is factory
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await gone() == []
        assert open_files() == files


@pytest.mark.asyncio
async def test_the_lifespan_is_counted_and_the_last_to_leave_stops_the_engine(
    tmp_path: Path,
) -> None:
    flow = made(tmp_path)
    async with flow.lifespan():
        async with flow.lifespan(object()):
            async with flow:
                run = await flow.trigger("work", 1)
            assert await run.result() == [2, 3, 4]
        assert flow.engine.state == "ready"
        await flow.trigger("work", 2)
    assert flow.engine.state == "stopped"
    async with flow.lifespan():
        assert (await flow.get_run(run.id)).status == "completed"


@pytest.mark.asyncio
async def test_of_two_starts_at_once_both_return_when_the_engine_serves(tmp_path: Path) -> None:
    flow = made(tmp_path)

    async def enter() -> str:
        await flow.engine.start()
        return (await flow.trigger("waits", "ev")).id

    first, second = await asyncio.gather(enter(), enter())
    assert first != second
    await flow.engine.stop()
    assert flow.engine.state == "ready"
    await flow.engine.stop()
    assert flow.engine.state == "stopped"
    await flow.engine.stop()
    async with flow:
        assert (await flow.get_run(first)).status == "running"


@pytest.mark.asyncio
async def test_a_shutdown_that_begins_during_the_start_is_not_forgotten() -> None:
    world = Service()
    with world.clock.driving():
        await world.start()
        engine = world.engine
        await world.trigger("waits", "ev", run_id="run_mine0000")
        await engine.stop()
        starting = asyncio.ensure_future(engine.start())
        await asyncio.sleep(0)
        engine.begin_shutdown()
        await starting
        assert engine.state == "draining"
        with pytest.raises(UnavailableError):
            await engine.trigger("echo", b"1")
        stream = await engine.stream("run_mine0000")
        assert stream.ended
        stream.close()
        await engine.stop()


@pytest.mark.asyncio
async def test_a_start_that_fails_gives_the_directory_back(tmp_path: Path) -> None:
    flow = made(tmp_path)
    factory = asyncio.get_running_loop().get_task_factory()
    async with flow:
        await flow.trigger("waits", "ev", run_id="run_mine0000")
    engine: Any = flow.engine
    adopt = engine._adopt

    async def broken(*args: object) -> None:
        raise RuntimeError("a defect")

    engine._adopt = broken
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a defect"):
            await engine.start()
        assert engine.state == "stopped"
    assert await gone() == []
    assert asyncio.get_running_loop().get_task_factory() is factory
    engine._adopt = adopt
    async with flow:
        assert (await flow.get_run("run_mine0000")).state == "waiting"


@pytest.mark.asyncio
async def test_a_start_that_is_cancelled_gives_the_directory_back(tmp_path: Path) -> None:
    flow = made(tmp_path)
    async with flow:
        for _ in range(20):
            await flow.trigger("waits", "ev")
    for passes in range(12):
        starting = asyncio.ensure_future(flow.engine.start())
        for _ in range(passes):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    if flow.engine.state == "ready":
        await flow.engine.stop()
    async with flow:
        assert len((await flow.list_runs()).runs) == 20
    assert await gone() == []


@pytest.mark.asyncio
async def test_a_second_engine_on_the_directory_is_refused_with_the_first_ones_pid(
    tmp_path: Path,
) -> None:
    async with made(tmp_path) as first:
        second = made(tmp_path)
        with pytest.raises(DataDirLockedError) as caught:
            await second.engine.start()
        assert caught.value.pid == os.getpid()
        assert str(os.getpid()) in str(caught.value)
        assert second.engine.state == "stopped"
        run = await first.trigger("work", 1)
        assert await run.result() == [2, 3, 4]
    async with made(tmp_path) as second:
        assert (await second.get_run(run.id)).status == "completed"


@pytest.mark.asyncio
async def test_a_start_waits_for_the_one_before_to_leave(tmp_path: Path) -> None:
    first = made(tmp_path)
    await first.engine.start()
    second = made(tmp_path, replace(SMALL, lock_wait_s=30.0))
    starting = asyncio.ensure_future(second.engine.start())
    engine: Any = second.engine
    while engine.progress is None or engine.progress.phase != "waiting":
        await asyncio.sleep(0)
    assert engine.state == "starting"
    with pytest.raises(UnavailableError, match="starting"):
        await second.trigger("work", 1)
    await first.engine.stop()
    await starting
    assert engine.state == "ready"
    await second.engine.stop()


def flip_bit(folder: Path) -> Path:
    segment = min(folder.glob("wal-*.log"))
    data = bytearray(segment.read_bytes())
    data[600] ^= 1
    segment.write_bytes(data)
    return segment


@pytest.mark.asyncio
async def test_a_directory_that_is_damaged_is_left_alone(tmp_path: Path) -> None:
    async with made(tmp_path) as flow:
        await flow.trigger("work", 1)
    segment = flip_bit(tmp_path)
    data = segment.read_bytes()
    with pytest.raises(JournalCorruptError):
        await made(tmp_path).engine.start()
    assert segment.read_bytes() == data
    assert await gone() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("order", ["first", "last"])
async def test_two_flows_on_one_loop_know_nothing_of_each_other(tmp_path: Path, order: str) -> None:
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    flows = [made(tmp_path / str(number)) for number in range(3)]
    for flow in flows:
        await flow.engine.start()
    runs = [await flow.trigger("work", 10 * n) for n, flow in enumerate(flows)]
    waits = [await flow.trigger("waits", "ev") for flow in flows]
    assert [await run.result() for run in runs] == [[1, 2, 3], [11, 12, 13], [21, 22, 23]]
    assert await flows[1].notify("ev", 1) == 1
    assert await waits[1].result() == 1
    leaving = flows if order == "first" else flows[::-1]
    for number, flow in enumerate(leaving):
        await flow.engine.stop()
        for other in leaving[number + 1 :]:
            assert await (await other.trigger("work", 5)).result() == [6, 7, 8]
    assert loop.get_task_factory() is factory


@pytest.mark.asyncio
async def test_step_keys_are_the_same_however_many_engines_share_the_loop(tmp_path: Path) -> None:
    keys = []
    for count in (1, 2, 3):
        others = [made(MEMORY) for _ in range(count - 1)]
        below, above = others[:1], others[1:]
        flow = made(tmp_path / str(count))
        for each in (*below, flow, *above):
            await each.engine.start()
        run = await flow.trigger("work", 1)
        await run.result()
        steps = (await run.get()).steps
        assert not isinstance(steps, type(UNSET))
        keys.append([step.key for step in steps])
        for each in (flow, *others):
            await each.engine.stop()
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 3


@pytest.mark.asyncio
async def test_flows_that_take_turns_leave_no_task_factory_behind() -> None:
    loop = asyncio.get_running_loop()
    born: list[Any] = []

    def hosts(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        born.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(hosts)
    try:
        before = made(MEMORY)
        await before.engine.start()
        for _ in range(20):
            after = made(MEMORY)
            await after.engine.start()
            await before.engine.stop()
            assert await (await after.trigger("work", 1)).result() == [2, 3, 4]
            top: Any = loop.get_task_factory()
            assert top.host is hosts
            before = after
        await before.engine.stop()
        assert loop.get_task_factory() is hosts
        assert born
    finally:
        loop.set_task_factory(None)


@pytest.mark.asyncio
async def test_a_host_that_replaces_the_task_factory_keeps_its_own() -> None:
    loop = asyncio.get_running_loop()
    flow = made(MEMORY)
    await flow.engine.start()

    def hosts(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(hosts)
    try:
        await flow.engine.stop()
        assert loop.get_task_factory() is hosts
    finally:
        loop.set_task_factory(None)


@pytest.mark.asyncio
async def test_an_app_whose_lifespan_was_not_entered_says_where_to_read_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", "k" * 20)
    flow = made(tmp_path / "data")
    transport = httpx.ASGITransport(app=flow.asgi())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for ask in (client.post("/trigger/work", json=1), client.get("/runs/run_nobody00")):
            answer = await ask
            assert answer.status_code == 503
            assert answer.json()["code"] == "UNAVAILABLE"
            assert "docs/embedding.md" in answer.json()["error"]
        assert (await client.get("/ready")).status_code == 503
    assert not (tmp_path / "data").exists()


@pytest.mark.asyncio
async def test_the_directory_cannot_be_chosen_once_there_is_an_engine(tmp_path: Path) -> None:
    flow = made(tmp_path)
    flow.use_data_dir(str(tmp_path / "other"))
    assert flow.engine.state == "stopped"
    with pytest.raises((ConfigurationError, Exception), match="before the engine"):
        flow.use_data_dir(str(tmp_path))


@pytest.mark.asyncio
async def test_a_run_that_is_still_waited_for_at_the_stop_says_so() -> None:
    async with service() as world:
        handle = await world.flow.trigger("waits", "ev")
        waiting = asyncio.ensure_future(handle.result())
        await world.waiting(handle.id)
        await world.stop()
        with pytest.raises(UnavailableError):
            await waiting


# ---------------------------------------------------------------- a host in its own process

HOST = """
import asyncio, os, sys, threading
from stepflow import Context, Stepflow

flow = Stepflow(os.environ["DATA"])

@flow.workflow("waits")
async def waits(ctx: Context) -> None:
    await ctx.wait_for_event("never", timeout=None)

app = flow.asgi()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_host_with_three_open_streams_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    key = "k" * 24
    (tmp_path / "app.py").write_text(HOST)
    data = tmp_path / "data"
    environ = {**os.environ, "DATA": str(data), "STEPFLOW_API_KEYS": key}
    host = subprocess.Popen(
        doomed([sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--no-access-log"]),
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert host.stdout is not None
    said = ""
    try:
        url = ""
        for line in host.stdout:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                url = found[0]
                break
        with httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60) as client:
            run = client.post("/trigger/waits").json()["runId"]
            streams = [client.stream("GET", f"/runs/{run}/stream") for _ in range(3)]
            answers = [stream.__enter__() for stream in streams]
            lines = [answer.iter_lines() for answer in answers]
            for each in lines:
                assert any(line == "event: status" for line in each)
            host.send_signal(number)
            for each in lines:
                # The stream ends as a whole response does, not by a cut connection.
                list(each)
            for stream in streams:
                stream.__exit__(None, None, None)
        rest, _ = host.communicate(timeout=60)
        said += rest
    finally:
        host.kill()
        host.wait()
    assert host.returncode in {0, -number, 128 + number}, said
    assert "Application shutdown complete" in said
    assert "Traceback" not in said.replace("KeyboardInterrupt", ""), said
    assert "ERROR" not in said

    async def again() -> None:
        flow = Stepflow(str(data), settings=SMALL)
        async with flow:
            engine: Any = flow.engine
            assert engine.recovery.clean
            assert (await flow.get_run(run)).status == "running"

    asyncio.run(again())
