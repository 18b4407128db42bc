"""The service at a glance: rates of the last minute, latencies of the last runs, what there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest

from stepflow.engine import memory as memory_of
from stepflow.errors import UnavailableError, WorkflowNotFoundError
from stepflow.model.event_filter import EVERYTHING
from tests.engine_kit import Service, service

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.asyncio


async def look(world: Service, seconds: float = 1.0) -> None:
    """Let so much time pass, and the engine look at what has happened."""
    await world.clock.advance(seconds)
    await world.settle()
    world.engine.sup.pace.look()


async def test_rates_are_those_of_the_last_minute() -> None:
    async with service() as world:
        await look(world)
        for n in range(30):
            await world.trigger("echo", n)
        await world.trigger("fails")
        await look(world, 29)
        pace = await world.engine.workflow_pace("echo")
        assert pace.started_per_s == pytest.approx(30 / pace.window_s, abs=0.01)
        assert pace.completed_per_s == pace.started_per_s
        assert (pace.failed_per_s, pace.live, pace.queued) == (0.0, 0, 0)
        view = await world.engine.system()
        assert view.runs.started_per_s == pytest.approx(31 / pace.window_s, abs=0.01)
        assert view.runs.ended_per_s == view.runs.started_per_s
        assert view.journal.commits.per_s > 0
        assert view.journal.commits.p50_s is not None
        (fails,) = [w for w in view.workflows if w.workflow_id == "fails"]
        assert fails.failed_per_s > 0
        for _ in range(8):
            await look(world, 10)
        assert (await world.engine.workflow_pace("echo")).started_per_s == 0.0


async def test_latencies_are_those_of_the_last_runs() -> None:
    async with service() as world:
        assert (await world.engine.workflow_pace("gated")).latency_p50_s is None
        for n in range(3):
            world.gate.clear()
            await world.trigger("gated")
            await look(world, n + 1)
            world.gate.set()
            await look(world)
        pace = await world.engine.workflow_pace("gated")
        assert pace.sampled == 3
        assert pace.latency_p50_s == pytest.approx(2, abs=0.5)
        assert pace.latency_p99_s == pytest.approx(3, abs=0.5)
        await look(world, 400)
        assert (await world.engine.workflow_pace("gated")).sampled == 0


async def test_a_run_that_holds_much_is_sampled_as_well_and_each_once() -> None:
    async with service() as world:
        for n in range(5):
            await world.trigger("echo", "x" * (30_000 if n % 2 else 10))
        await look(world, 5)
        assert (await world.engine.workflow_pace("echo")).sampled == 5


async def test_it_shows_what_there_is() -> None:
    async with service() as world:
        stream = await world.engine.stream_all(EVERYTHING)
        run_id = await world.trigger("gated")
        own = await world.engine.stream(run_id)
        await look(world)
        assert await world.engine.snapshot()
        view = await world.engine.system()
        assert view.state == "ready"
        assert (view.runs.live, view.runs.active, view.runs.known) == (1, 1, 1)
        assert (view.streams.of_runs, view.streams.of_all) == (1, 1)
        assert view.streams.kept_events >= 2
        assert view.streams.kept_since == f"{view.journal.store_id}-0"
        assert view.snapshot.lsn > 0
        assert view.snapshot.created_at is not None
        assert view.journal.durable_lsn == world.engine.sup.journal.durable_lsn
        assert view.loop is None, "nobody watches a loop on virtual time"
        # What the page gets is JSON all through.
        assert msgspec.json.decode(msgspec.json.encode(view))["workflows"]
        stream.close()
        own.close()


async def test_a_workflow_that_is_not_there_has_no_pace() -> None:
    async with service() as world:
        with pytest.raises(WorkflowNotFoundError):
            await world.engine.workflow_pace("nobody")
        engine = world.engine
    with pytest.raises(UnavailableError):
        await engine.system()


async def test_before_the_first_look_there_are_no_rates() -> None:
    async with service() as world:
        pace = world.engine.sup.pace
        pace._moments.clear()
        assert (await world.engine.system()).runs.started_per_s == 0.0


async def test_a_commit_that_took_longer_than_any_bucket_has_no_bound() -> None:
    async with service() as world:
        pace = world.engine.sup.pace
        now = pace.now()
        counts = (*now.journal.commits[:-1], now.journal.commits[-1] + 1000)
        later = now._replace(journal=SimpleNamespace(commits=counts))  # type: ignore[arg-type]
        assert pace.commit_quantile(later, 0.99) is None


async def test_memory_is_said_where_the_system_says_it(tmp_path: Path, monkeypatch) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(memory_of, "_STATUS", status)
    found = memory_of.memory()
    assert found.rss_bytes is None
    assert (found.rss_max_bytes or 0) > 1024 * 1024
    status.write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    found = memory_of.memory()
    assert (found.rss_bytes, found.rss_max_bytes) == (1024 * 1024, 2048 * 1024)
    status.write_text("Name:\tx\n")
    assert memory_of.memory().rss_bytes is None
    monkeypatch.setattr("sys.platform", "win32")
    status.unlink()
    assert memory_of.memory().rss_max_bytes is None
