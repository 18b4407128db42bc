"""Idempotency keys of the real engine: one key, one run, for a day."""

from __future__ import annotations

import asyncio

import pytest

from stepflow import Context  # noqa: TC001  read by the registry
from stepflow.errors import ConflictError, OutcomeUnknownError
from tests.engine_kit import reborn, service

pytestmark = pytest.mark.asyncio

DAY_S = 86_400


async def test_the_same_key_and_input_give_the_same_run_across_restarts_and_snapshots() -> None:
    async with service() as world:
        first = await world.trigger("echo", {"a": [1.0, "x"]}, idempotency_key="k")
        assert (
            await world.engine.trigger("echo", b' {"a" : [1.0, "\\u0078"]} ', idempotency_key="k")
            == first
        )
        for turn in range(4):
            await world.restart()
            if turn % 2:
                assert await world.engine.snapshot()
            assert await world.trigger("echo", {"a": [1.0, "x"]}, idempotency_key="k") == first
            with pytest.raises(ConflictError):
                await world.trigger("echo", {"a": [2]}, idempotency_key="k")
        assert len(world.engine.sup.runs) == 1


async def test_a_key_counts_for_one_workflow_and_one_principal() -> None:
    async with service() as world:
        for _ in range(2):
            runs = [
                await world.trigger("echo", 1, idempotency_key="k", by="ann"),
                await world.trigger("echo", 1, idempotency_key="k", by="bob"),
                await world.trigger("echo", 1, idempotency_key="k"),
                await world.trigger("doubles", 1, idempotency_key="k", by="ann"),
            ]
            assert len(set(runs)) == 4
            assert set(world.engine.sup.runs) == set(runs)
            await world.restart()


async def test_a_key_ends_after_a_day() -> None:
    async with service() as world:
        first = await world.trigger("echo", 1, idempotency_key="k")
        await world.clock.advance(DAY_S - 1)
        assert await world.trigger("echo", 1, idempotency_key="k") == first
        await world.restart()
        assert await world.trigger("echo", 1, idempotency_key="k") == first
        await world.clock.advance(2)
        second = await world.trigger("echo", 2, idempotency_key="k")
        assert second != first
        await world.restart()
        assert await world.trigger("echo", 2, idempotency_key="k") == second
        assert world.engine.metrics()["stepflow_idempotency_keys"] == 1


async def test_a_key_ends_with_its_runs_purge_and_with_no_other() -> None:
    async with service() as world:
        first = await world.trigger("echo", 1, idempotency_key="k")
        await world.finished(first)
        await world.engine.purge(first)
        second = await world.trigger("echo", 2, idempotency_key="k")
        assert second != first
        await world.clock.advance(DAY_S + 1)
        third = await world.trigger("echo", 3, idempotency_key="k")
        await world.engine.purge(second)
        assert await world.trigger("echo", 3, idempotency_key="k") == third
        await world.restart()
        assert await world.trigger("echo", 3, idempotency_key="k") == third


async def test_two_triggers_at_once_with_one_key_make_one_run() -> None:
    async with service() as world:
        asked = (world.trigger("echo", 1, idempotency_key="k") for _ in range(50))
        assert len(set(await asyncio.gather(*asked))) == 1
        mixed = await asyncio.gather(
            *(world.trigger("echo", n % 2, idempotency_key="other") for n in range(10)),
            return_exceptions=True,
        )
        assert len({run for run in mixed if isinstance(run, str)}) == 1
        assert sum(isinstance(answer, ConflictError) for answer in mixed) == 5
        assert len(world.engine.sup.runs) == 2


async def test_whoever_got_no_answer_asks_again_with_the_key() -> None:
    async with service(outcome_wait_s=1.0) as world:
        world.hold()
        with pytest.raises(OutcomeUnknownError):
            await world.trigger("echo", 1, idempotency_key="k")
        async with reborn(world) as other:
            assert not other.engine.sup.runs
            lost = await other.trigger("echo", 1, idempotency_key="k")
            assert await other.trigger("echo", 1, idempotency_key="k") == lost
        world.release()
        await world.durable()
        known = next(iter(world.engine.sup.runs))
        assert await world.trigger("echo", 1, idempotency_key="k") == known


async def test_a_key_outlives_a_change_of_its_workflows_id() -> None:
    async with service() as world:
        run_id = await world.trigger("echo", 1, idempotency_key="k")
        async with reborn(world, without=frozenset({"echo"})) as other:

            @other.flow.workflow("reflect", aliases=["echo"])
            async def reflect(ctx: Context, value: int) -> int:
                return value

            for name in ("echo", "reflect"):
                assert await other.trigger(name, 1, idempotency_key="k") == run_id
