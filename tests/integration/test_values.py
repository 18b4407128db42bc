"""A body gets decoded copies, its plain calls are equal on replay, and its syncs are shared."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from stepflow import RetryPolicy, StepFailedError
from stepflow.model import records as rec
from tests.harness import World, crash_everywhere, error_of, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_attempts=1)


class Colour(Enum):
    RED = "red"


@dataclass
class Parcel:
    at: datetime
    price: Decimal
    tags: set[str]
    size: tuple[int, int]
    colour: Colour
    raw: bytes
    lasts: timedelta
    id: uuid.UUID


PARCEL = Parcel(
    datetime(2024, 5, 1, tzinfo=UTC),
    Decimal("1.10"),
    {"a", "b"},
    (1, 2),
    Colour.RED,
    b"\x00\xff",
    timedelta(hours=1),
    uuid.UUID(int=7),
)


async def test_a_step_gives_the_decoded_copy_live_as_on_replay() -> None:
    world = World()
    kept: list[Any] = []

    async def parcel() -> Parcel:
        kept.append(PARCEL)
        return PARCEL

    async def loose() -> Any:
        value = {"pair": (1, 2), "list": [1]}
        kept.append(value)
        return value

    async def w(ctx: Context) -> Any:
        one = await ctx.step("parcel", parcel)
        two = await ctx.step("loose", loose)
        assert one == PARCEL
        assert one is not PARCEL
        two["list"].append("changed by the body")
        world.note(repr(one), repr(two))
        return None

    with world.clock.driving():
        world.redeploy(w)
        first, later = await crash_everywhere(world, "w")
    assert "'pair': [1, 2]" in first.trace[0][1]
    assert all(view.status == "completed" for _, view in later)
    assert kept[1]["list"] == [1], "the body changed the step's own object"


async def test_a_value_that_json_cannot_hold_fails_its_step_at_once_and_says_where() -> None:
    world = World()

    async def bad() -> Any:
        world.ran()
        return {"items": [1, 2, 3, object()]}

    async def w(ctx: Context) -> Any:
        try:
            await ctx.step("bad", bad)
        except StepFailedError as error:
            return error.message

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            assert "result.items[3]" in await world.result("w")
            assert len(world.life.ran) == 1


async def test_a_result_that_is_too_big_fails_its_step_and_says_so() -> None:
    world = World(result_bytes_max=1000)

    async def big() -> str:
        world.ran()
        return "x" * 2000

    async def w(ctx: Context) -> Any:
        await ctx.step("big", big)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            view = await world.run("w")
            assert "1000" in error_of(view)["message"]
            assert len(world.life.ran) == 1


async def test_a_run_that_grows_too_big_fails_the_step_that_does_it() -> None:
    world = World(run_bytes_max=5000)

    async def big(n: int) -> str:
        return "x" * 1500

    async def w(ctx: Context) -> Any:
        for number in range(10):
            await ctx.step("big", big, number, retry=ONCE)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            view = await world.run("w")
            assert "5000" in error_of(view)["message"]


async def test_plain_calls_are_equal_on_replay() -> None:
    world = World()

    async def f(value: Any) -> Any:
        return value

    async def w(ctx: Context) -> Any:
        async def branch() -> Any:
            await ctx.step("s", f, 1)
            return [str(ctx.uuid()), ctx.random()]

        values = [str(ctx.uuid()), ctx.random(), ctx.now().isoformat()]
        world.note(list(values))
        await ctx.sleep("s", "1s")
        values += [str(ctx.uuid()), ctx.random(), ctx.now().isoformat()]
        values += await asyncio.gather(branch(), branch())
        world.note(list(values))
        return await ctx.step("end", f, values)

    with world.clock.driving():
        world.redeploy(w)
        first, _ = await crash_everywhere(world, "w")
    values = first.trace[1][0]
    flat = [str(v) for v in values]
    assert len(set(flat)) == len(flat)


async def test_a_step_waits_until_the_value_it_acts_on_is_on_disk() -> None:
    world = World()
    durable: list[bool] = []

    async def acts(value: str) -> None:
        (recorded,) = world.records(rec.ValueRecorded)
        durable.append(world.engine.sup.journal.durable_lsn >= recorded.lsn)

    async def w(ctx: Context) -> None:
        await ctx.sleep("s", 1)
        await ctx.step("acts", acts, str(ctx.uuid()))

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            await world.run("w")
    assert durable == [True]


async def test_too_many_plain_calls_between_two_awaits_raise() -> None:
    world = World()

    async def f() -> None:
        return None

    async def fine(ctx: Context) -> int:
        for _ in range(3):
            for _ in range(1000):
                ctx.random()
            await ctx.step("s", f)
        return 1

    async def spins(ctx: Context) -> None:
        while True:
            ctx.now()

    with world.clock.driving():
        world.redeploy(fine, spins)
        async with world:
            assert await world.result("fine") == 1
            view = await world.run("spins")
            assert "1000" in error_of(view)["message"]


async def test_a_run_of_three_steps_takes_four_syncs() -> None:
    world = World()

    async def f(value: int) -> int:
        return value + 1

    async def w(ctx: Context, value: int) -> int:
        for name in "abc":
            value = await ctx.step(name, f, value)
        return value

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            before = world.engine.sup.journal.stats().syncs
            assert await world.result("w", 1) == 4
            await world.saved()
            assert world.engine.sup.journal.stats().syncs - before == 4


async def test_relaxed_steps_share_their_syncs() -> None:
    world = World()

    async def f(value: int) -> int:
        return value + 1

    async def w(ctx: Context, value: int) -> int:
        for _ in range(50):
            value = await ctx.step("s", f, value, durability="relaxed")
        return value

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            before = world.engine.sup.journal.stats().syncs
            assert await world.result("w", 0) == 50
            assert world.engine.sup.journal.stats().syncs - before < 10


@pytest.mark.parametrize("how", ["gather", "map"])
async def test_a_thousand_parallel_steps_share_syncs(how: str) -> None:
    world = World()

    async def f(value: int) -> int:
        await asyncio.sleep(value % 7 / 1000)
        return value

    async def w(ctx: Context) -> int:
        if how == "map":
            return sum(await ctx.map("m", f, range(1000)))
        return sum(await asyncio.gather(*(ctx.step("s", f, n) for n in range(1000))))

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            before = world.engine.sup.journal.stats().syncs
            assert await world.result("w") == 499_500
            assert world.engine.sup.journal.stats().syncs - before < 40


async def test_inputs_and_results_are_converted_by_annotation() -> None:
    world = World()

    async def w(ctx: Context, parcel: Parcel) -> Parcel:
        world.note(type(parcel).__name__, parcel.price + 1)
        return parcel

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            handle = await world.flow.trigger("w", PARCEL)
            assert await handle.result() == PARCEL
            assert world.life.trace == [("Parcel", Decimal("2.10"))]


async def test_an_input_that_no_longer_fits_its_annotation_parks_the_run() -> None:
    world = World()

    def body(kind: Any) -> Any:
        async def w(ctx: Context, value: Any) -> Any:
            await ctx.sleep("s", "1h")
            return value

        w.__annotations__["value"] = kind
        return w

    with world.clock.driving():
        world.redeploy(body(str))
        await world.start()
        run_id = await world.trigger("w", "text")
        await world.until(lambda: len(world.engine.sup.timers))
        await world.saved()
        await world.crash()
        world.redeploy(body(int))
        async with world:
            assert await world.ended_or_parked(run_id) == "parked"
            assert "input" in str((await world.engine.get_run(run_id)).reason)


async def test_a_step_without_steps_and_an_empty_map_end() -> None:
    world = World()

    async def w(ctx: Context) -> Any:
        return [await ctx.map("m", str, []), None]

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            assert await world.result("w") == [[], None]


async def test_emitted_and_progress_records_are_written_once_across_restarts() -> None:
    world = World()

    async def f() -> int:
        return 1

    async def w(ctx: Context) -> Any:
        await ctx.emit("hello", {"n": 1})
        ctx.progress(1, 2, "half")
        await ctx.step("s", f)
        await ctx.emit("hello", {"n": 2})
        ctx.progress(2, 2)
        await ctx.sleep("z", "1h")
        await ctx.step("t", f)

    with world.clock.driving():
        world.redeploy(w)
        async with world:
            await world.run("w")
            first = world.life
        for cut in range(1, len(first.groups)):
            world.cut(first.groups[:cut])
            async with world:
                (run_id,) = world.engine.sup.runs
                await world.finished(run_id)
                records = [*decode(first.groups[:cut]), *world.records()]
            assert sum(isinstance(r, rec.Emitted) for r in records) == 2
            assert sum(isinstance(r, rec.Progressed) for r in records) == 2


def decode(groups: list[list[bytes]]) -> list[Any]:
    return [rec.decode_record(data) for group in groups for data in group]


async def test_a_result_that_no_longer_fits_its_annotation_parks_the_run() -> None:
    world = World()

    def body(kind: Any) -> Any:
        async def f() -> Any:
            return "text"

        f.__annotations__["return"] = kind

        async def w(ctx: Context) -> Any:
            value = await ctx.step("s", f)
            await ctx.sleep("z", "1h")
            return value

        return w

    with world.clock.driving():
        world.redeploy(body(str))
        await world.start()
        run_id = await world.trigger("w")
        await world.until(lambda: len(world.engine.sup.timers))
        await world.saved()
        await world.crash()
        world.redeploy(body(int))
        async with world:
            assert await world.ended_or_parked(run_id) == "parked"
        world.redeploy(body(str))
        async with world:
            assert result_of(await world.finished(run_id)) == "text"
