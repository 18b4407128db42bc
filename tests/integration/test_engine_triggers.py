"""Starting runs on the real engine: batches, taken ids, bounds, missing workflows."""

from __future__ import annotations

import asyncio

import pytest

from stepflow import Context  # noqa: TC001  read by the registry
from stepflow.errors import (
    ConflictError,
    InvalidInputError,
    PayloadTooLargeError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model import records as rec
from stepflow.model.ids import is_run_id
from tests.engine_kit import held_back, reborn, service
from tests.harness import result_of

pytestmark = pytest.mark.asyncio


async def test_a_batch_is_one_frame_and_a_power_cut_takes_all_or_nothing() -> None:
    async with service() as world:
        world.hold()
        answer = await held_back(world.engine.trigger_many("echo", [b"%d" % n for n in range(50)]))
        begun = [
            group
            for group in world.life.groups
            if isinstance(rec.decode_record(group[0]), rec.RunStarted)
        ]
        assert [len(group) for group in begun] == [50]
        world.release()
        ids = await answer
        assert len(set(ids)) == 50
        for number, run_id in enumerate(ids):
            assert result_of(await world.finished(str(run_id))) == number


async def test_the_bad_inputs_of_a_batch_are_answered_in_their_places() -> None:
    async with service() as world:
        answers = await world.engine.trigger_many(
            "doubles", [b"1", b'"two"', b"{", b"4", b"[" + b" " * (1 << 20) + b"]", b"6"]
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [
            str,
            InvalidInputError,
            InvalidInputError,
            str,
            PayloadTooLargeError,
            str,
        ]
        assert len(world.engine.sup.runs) == 3
        for answer, result in zip((answers[0], answers[3], answers[5]), (4, 16, 24), strict=True):
            assert result_of(await world.finished(str(answer))) == result


async def test_an_empty_batch_and_one_of_bad_inputs_alone_write_nothing() -> None:
    async with service() as world:
        last = world.engine.sup.journal.last_lsn
        assert await world.engine.trigger_many("doubles", []) == []
        (answer,) = await world.engine.trigger_many("doubles", [b'"x"'])
        assert isinstance(answer, InvalidInputError)
        assert world.engine.sup.journal.last_lsn == last
        with pytest.raises(WorkflowNotFoundError):
            await world.engine.trigger_many("nobody", [b"1"])


async def test_the_embedded_batch_starts_none_when_one_input_is_bad() -> None:
    async with service() as world:
        with pytest.raises(InvalidInputError):
            await world.flow.trigger_many("doubles", [1, "two", 3])
        assert not world.engine.sup.runs
        handles = await world.flow.trigger_many("doubles", [1, 2])
        assert [await handle.result() for handle in handles] == [4, 8]


async def test_a_taken_run_id_is_a_conflict_for_as_long_as_the_run_is_known() -> None:
    async with service() as world:
        assert await world.trigger("echo", 1, run_id="run_mine0000") == "run_mine0000"
        for _ in range(2):
            with pytest.raises(ConflictError):
                await world.trigger("echo", 1, run_id="run_mine0000")
            await world.restart()
        both = await asyncio.gather(
            *(world.trigger("echo", n, run_id="run_other000") for n in range(5)),
            return_exceptions=True,
        )
        assert both.count("run_other000") == 1
        assert sum(isinstance(answer, ConflictError) for answer in both) == 4


@pytest.mark.parametrize(
    "run_id", ["", "mine", "run_", "run_short", "run_ä0000000", "run_" + "x" * 65]
)
async def test_a_run_id_of_another_shape_is_refused(run_id: str) -> None:
    async with service() as world:
        with pytest.raises(InvalidInputError):
            await world.trigger("echo", 1, run_id=run_id)
        assert not world.engine.sup.runs


async def test_run_ids_are_of_the_published_shape_and_all_different() -> None:
    async with service() as world:
        ids = await world.engine.trigger_many("echo", [b"1"] * 500)
        assert all(is_run_id(str(run_id)) for run_id in ids)
        assert len(set(ids)) == 500


async def test_no_more_runs_live_than_the_bound_and_what_ends_makes_room() -> None:
    async with service(live_runs_max=5) as world:
        ids = [await world.trigger("waits", "ev") for _ in range(4)]
        with pytest.raises(UnavailableError):
            await world.engine.trigger_many("waits", [b'"ev"'] * 2)
        assert len(world.engine.sup.runs) == 4
        ids.append(await world.trigger("waits", "ev"))
        with pytest.raises(UnavailableError) as caught:
            await world.trigger("echo", 1)
        assert caught.value.retry_after_s
        await world.restart()
        with pytest.raises(UnavailableError):
            await world.trigger("echo", 1)
        await world.engine.cancel(ids[0])
        await world.finished(ids[0])
        await world.trigger("echo", 1)


async def test_a_bad_input_names_the_field_and_leaves_nothing() -> None:
    async with service() as world:
        for body in (b'"x"', b"{", b"", b"\xff", b"[" * 65 + b"]" * 65, b"1e999"):
            with pytest.raises(InvalidInputError):
                await world.engine.trigger("doubles", body)
        with pytest.raises(PayloadTooLargeError):
            await world.engine.trigger("echo", b'"' + b"x" * (1 << 20) + b'"')
        with pytest.raises(InvalidInputError):
            await world.trigger("declares", {"no": "id"})
        assert not world.engine.sup.runs


async def test_a_run_whose_workflow_is_gone_waits_over_restarts_and_goes_on_when_it_is_back() -> (
    None
):
    async with service() as world:
        runs = {
            "gated": await world.trigger("gated"),
            "waits": await world.trigger("waits", "ev"),
            "sleeps": await world.trigger("sleeps", 60),
            "delayed": await world.trigger("doubles", 1, delay_ms=60_000),
        }
        for name in ("waits", "sleeps"):
            await world.waiting(runs[name])
        image = world.image()
        gone = frozenset({"gated", "waits", "sleeps", "doubles"})
        async with reborn(world, image, without=gone) as other:
            with pytest.raises(WorkflowNotFoundError):
                await other.trigger("waits", "ev")
            await other.engine.notify("ev", b'"came"')
            await other.clock.advance(120)
            for name, run_id in runs.items():
                view = await other.get(run_id)
                # What has not begun is not let in before its code, and its limits, are there.
                status = "pending" if name == "delayed" else "running"
                assert (name, view.status, view.state) == (name, status, "missing-workflow")
                assert "not registered" in str(view.reason)
            await other.restart()
            await other.settle()
            assert (await other.get(runs["gated"])).state == "missing-workflow"
            image = other.image()
        async with reborn(world, image) as other:
            other.gate.set()
            ends = {name: result_of(await other.finished(run)) for name, run in runs.items()}
            assert ends == {"gated": "through", "waits": "came", "sleeps": "awake", "delayed": 4}


async def test_a_workflow_that_is_registered_late_finds_its_runs() -> None:
    async with service() as world:
        run_id = await world.trigger("gated")
        cancelled = await world.trigger("gated")
        async with reborn(world, without=frozenset({"gated"})) as other:
            await other.until(lambda: other.state(run_id) == "missing-workflow")
            await other.engine.cancel(cancelled)
            assert (await other.finished(cancelled)).status == "cancelled"

            @other.flow.workflow("gated")
            async def gated(ctx: Context) -> str:
                return "late"

            other.engine.registered()
            assert result_of(await other.finished(run_id)) == "late"
            assert other.engine.readiness()["degraded"]["missingWorkflows"] == []  # type: ignore[index]


async def test_triggers_are_refused_while_the_engine_stops_and_reads_are_not() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        world.engine.begin_shutdown()
        for ask in (
            world.trigger("echo", 1),
            world.engine.trigger_many("echo", [b"1"]),
            world.engine.notify("ev", b"1"),
        ):
            with pytest.raises(UnavailableError, match="stopping"):
                await ask
        assert (await world.get(run_id)).state == "waiting"
        assert (await world.page()).runs
        engine = world.engine
        wait = await held_back(engine.wait(run_id))
        await world.stop()
        with pytest.raises(UnavailableError):
            await wait
        with pytest.raises(UnavailableError):
            await engine.get_run(run_id)


async def test_a_wait_that_was_given_up_leaves_nothing_behind() -> None:
    async with service() as world:
        run_id = await world.trigger("waits", "ev")
        await world.waiting(run_id)
        waits = [asyncio.ensure_future(world.engine.wait(run_id)) for _ in range(5)]
        await world.settle()
        assert len(world.actor(run_id).finish_waiters) == 5
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert world.actor(run_id).finish_waiters == []


async def test_tags_come_from_the_workflow_and_the_trigger() -> None:
    async with service() as world:

        @world.flow.workflow("tagged", tags=["always"])
        async def tagged(ctx: Context) -> None:
            return None

        run_id = await world.trigger("tagged", tags=["now", "always"])
        assert set((await world.get(run_id)).tags) == {"always", "now"}
        assert [run.id for run in (await world.page(tag="now")).runs] == [run_id]
