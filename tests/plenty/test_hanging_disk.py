"""A disk that hangs: said while it hangs, nothing decided meanwhile, given up in the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stepflow import Context, Settings
from stepflow.auth.handlers import allow_all
from stepflow.authoring.registry import Registry
from stepflow.config import MEMORY
from stepflow.engine.local import LocalEngine
from stepflow.errors import (
    DiskFailedError,
    OutcomeUnknownError,
    UnavailableError,
)
from stepflow.flow import Stepflow
from stepflow.journal.background import ThreadBackground
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.stalls import Stalls
from tests.journal_kit import StillClock, opened, passes
from tests.plenty.server import Served, until

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

BOUND_S = 60.0
"""A test that fails leaves no thread waiting for longer."""
APP = "tests/plenty/hanging_app.py"


class HangingDisk(MemoryDisk):
    """A disk in memory whose syncs do not come back while it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self._answers = threading.Event()
        self._answers.set()
        self.waiting = 0
        self.before = self._wait

    def _wait(self, operation: str, name: str) -> None:
        if operation == "fdatasync" and name.startswith("wal-"):
            self.waiting += 1
            self._answers.wait(BOUND_S)
            self.waiting -= 1

    @contextmanager
    def hanging(self) -> Generator[None]:
        """Let syncs hang for as long as the block takes."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    def answer(self) -> None:
        """Let them come back before the block ends."""
        self._answers.set()


async def true(what: Any) -> None:
    """Let the loop go round until `what` returns something true."""
    async with asyncio.timeout(BOUND_S):
        while not what():
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------- the calculator


def watch(clock: Any) -> tuple[Stalls, list[Any]]:
    told: list[Any] = []
    settings = Settings(sync_slow_s=1, sync_stalled_s=30, sync_dead_s=120)
    return Stalls(clock, settings, hold=told.append, dead=told.append), told


def pass_by(clock: StillClock, seconds: int, look: Callable[[], float]) -> float:
    """Let so many seconds pass, and look once in each."""
    looked = look()
    for _ in range(seconds):
        clock.advance(1)
        looked = look()
    return looked


def test_each_limit_does_what_it_says_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = StillClock()
    stalls, told = watch(clock)
    changes: list[tuple[int, bool, bool]] = []
    stalls.look("sync 7")
    for second in range(1, 121):
        clock.advance(1)
        stalls.look("sync 7")
        if not changes or changes[-1][1:] != (stalls.slow, stalls.held):
            changes.append((second, stalls.slow, stalls.held))
    assert changes == [(1, True, False), (30, True, True)]
    assert told == [True, 120]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


@pytest.mark.parametrize("following", ["sync 8", None])
def test_whatever_comes_back_ends_the_stall(
    following: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StillClock()
    stalls, told = watch(clock)
    assert pass_by(clock, 31, lambda: stalls.look("sync 7")) == 31
    assert (stalls.slow, stalls.held) == (True, True)
    assert stalls.look(following) == 0
    assert (stalls.slow, stalls.held) == (False, False)
    assert told == [True, False]
    assert caplog.records[-1].message == "the disk answers again"
    clock.advance(0.5)
    assert stalls.look(following) == (0.5 if following else 0)
    assert not stalls.slow


def test_a_process_that_was_stopped_does_not_take_its_disk_for_dead() -> None:
    clock = StillClock()
    stalls, told = watch(clock)
    for seconds in (0, 3600, 3600):
        clock.advance(seconds)
        stalls.look("sync 7")
    assert stalls.slow
    assert told == []


def test_an_idle_journal_never_hangs() -> None:
    clock = StillClock()
    stalls, told = watch(clock)
    for _ in range(3):
        clock.advance(500)
        assert stalls.look(None) == 0
    assert told == []


# ---------------------------------------------------------------- the journal


@pytest.mark.asyncio
async def test_a_journal_says_that_a_sync_hangs_while_it_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "stepflow.journal")
    disk, clock = HangingDisk(), StillClock()
    opening = await opened(disk, clock=clock, threads=True)
    journal = opening.journal
    room: list[bool] = []
    journal.on_room = lambda: room.append(journal.has_room(10))
    with disk.hanging():
        lsn = opening.append("held up")
        await true(lambda: disk.waiting)
        pass_by(clock, 2, journal.look)
        assert "the disk hangs: a sync has not come back for 1.0 s" in caplog.text
        # Waited for, not refused: it may come back at once.
        assert journal.has_room(10)
        assert not journal.stats().read_only
        pass_by(clock, 29, journal.look)
        assert journal.stalled
        assert not journal.has_room(10)
        assert not journal.has_room(10, reserve=True)
        assert journal.stats().read_only
        assert journal.durable_lsn < lsn
        disk.answer()
        await true(lambda: journal.durable_lsn >= lsn)
        journal.look()
    assert room == [True]
    assert not journal.stats().read_only
    await journal.close()
    await (await opened(disk)).journal.close()


@pytest.mark.asyncio
async def test_a_disk_that_never_answers_is_given_up_and_does_not_hold_up_the_end() -> None:
    disk, clock = HangingDisk(), StillClock()
    opening = await opened(disk, clock=clock, threads=True)
    journal = opening.journal
    fatal: list[BaseException] = []
    journal.on_fatal = fatal.append
    with disk.hanging():
        lsn = opening.append("never told")
        waiter = asyncio.ensure_future(journal.durable(lsn))
        await true(lambda: disk.waiting)
        pass_by(clock, 120, journal.look)
        assert isinstance(journal.failed, DiskFailedError)
        assert fatal == [journal.failed]
        assert "has not come back for 120 s" in str(journal.failed)
        with pytest.raises(OutcomeUnknownError):
            await waiter
        with pytest.raises(UnavailableError):
            opening.append("refused")
        # Asked again, it says nothing new, and its threads are left behind.
        assert journal.look() == 0
        assert len(fatal) == 1
        await journal.close(clean=False)
        assert disk.waiting == 1
    await true(lambda: not disk.waiting)


@pytest.mark.asyncio
async def test_a_full_disk_is_not_taken_for_one_that_hangs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, clock = MemoryDisk(), StillClock()
    opening = await opened(disk, clock=clock)
    journal = opening.journal
    disk.before = _full
    opening.append("waits for room")
    await passes()
    for _ in range(200):
        clock.advance(1)
        await passes()
        journal.look()
    assert not journal.stalled
    assert journal.failed is None
    assert "the disk hangs" not in caplog.text
    disk.before = None
    await journal.close()


def _full(operation: str, name: str) -> None:
    if operation in {"pwrite", "allocate"} and name.startswith("wal-"):
        raise OSError(28, "No space left on device", name)


def _failing() -> None:
    raise KeyError("told")


@pytest.mark.asyncio
async def test_work_in_the_background_is_told_as_it_ends_and_holds_up_nobody() -> None:
    background = ThreadBackground()
    assert await background.run(lambda: threading.current_thread().daemon)
    with pytest.raises(KeyError, match="told"):
        await background.run(_failing)
    gate = threading.Event()
    done: list[int] = []
    stuck = asyncio.ensure_future(background.run(lambda: gate.wait(BOUND_S)))
    given_up = asyncio.ensure_future(background.run(lambda: done.append(1)))
    await passes()
    given_up.cancel()
    await passes()
    background.stop(wait=False)
    gate.set()
    assert await stuck
    background.stop()
    assert done == []


# ---------------------------------------------------------------- the engine


def settings() -> Settings:
    return Settings(sync_slow_s=0.3, sync_stalled_s=0.6, segment_bytes_first=65536)


def _sign(run_id: str, expires_ms: int) -> str:
    return f"pat_{run_id}_{expires_ms}"


@pytest.mark.asyncio
async def test_an_engine_whose_disk_hangs_refuses_and_goes_on_by_itself() -> None:
    disk = HangingDisk()
    registry = Registry()
    engine = LocalEngine(registry, MEMORY, settings=settings(), disk=disk, sign=_sign)
    flow = Stepflow(MEMORY, engine=engine)
    flow.registry = registry

    @flow.workflow("echo")
    async def echo(ctx: Context, value: int) -> int:
        return value

    transport = httpx.ASGITransport(app=flow.asgi(auth=allow_all))
    async with flow, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        before = await engine.trigger("echo", b"1")
        with disk.hanging():
            caught = asyncio.ensure_future(engine.trigger("echo", b"2"))
            await true(lambda: disk.waiting)
            await true(lambda: engine.state == "stalled")
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["code"]) == (503, "UNAVAILABLE")
            assert "stalled" in ready.json()["error"]
            assert (await client.get("/health")).status_code == 200
            assert (await client.get(f"/runs/{before}")).status_code == 200
            refused = await client.post("/trigger/echo", json=3)
            assert (refused.status_code, refused.json()["code"]) == (503, "UNAVAILABLE")
            assert "does not answer" in refused.json()["error"]
            assert engine.metrics()["stepflow_journal_hangs_seconds"] > 0.5
            assert not caught.done()
        await true(lambda: engine.state == "ready")
        assert (await engine.wait(await caught)).status == "completed"
        assert (await client.get("/ready")).status_code == 200
        assert (await client.post("/trigger/echo", json=4)).status_code == 200


# ---------------------------------------------------------------- the process


@pytest.mark.timeout(300)
def test_a_server_whose_disk_never_answers_ends_with_74(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    env = {"HANG": str(hang), "STEPFLOW_SYNC_SLOW_S": "0.2"}
    env |= {"STEPFLOW_SYNC_STALLED_S": "0.5", "STEPFLOW_SYNC_DEAD_S": "3"}
    with Served(tmp_path, APP, env=env) as server:
        server.ready()
        told = server.trigger("echo", 1)
        hang.touch()
        answers: list[int] = []

        def caught() -> None:
            answers.append(server.post("/trigger/echo", 2).status_code)

        caller = threading.Thread(target=caught, daemon=True)
        caller.start()
        until(lambda: server.status("/ready") == 503, lambda: server.said)
        assert server.ended() == 74
        caller.join(BOUND_S)
        # Nobody knows whether it is on disk, and nobody says so.
        assert answers == [503]
        assert "a sync has not come back for" in server.said
        hang.unlink()
    with Served(tmp_path, APP, env=env) as server:
        assert server.ready().result(told) == 1
