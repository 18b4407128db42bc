"""Who is set aside for records that make no sense stays so, and the service serves all the same."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import ConflictError, JournalCorruptError
from stepflow.journal.recovery import BROKEN
from stepflow.journal.segment import segment_lsn
from tests.damage.hostile import Case, cases, disk_with, rows, run_of
from tests.engine_kit import ALL, Service, service
from tests.harness import World, result_of

if TYPE_CHECKING:
    from stepflow import Context

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

EVERY = 149


def spoiled(groups: list[list[bytes]], run_id: str, kind: str, **changes: Any) -> list[list[bytes]]:
    """Return the records with the run's first one of a kind changed."""
    done = False
    found: list[list[bytes]] = []
    for group in groups:
        rows_: list[bytes] = []
        for data in group:
            told = msgspec.json.decode(data)
            if not done and told["r"] == run_id and told["t"] == kind:
                rows_.append(msgspec.json.encode(told | changes))
                done = True
            else:
                rows_.append(data)
        found.append(rows_)
    assert done
    return found


async def two_that_wait(world: World) -> list[str]:
    async def paid() -> int:
        world.ran()
        return 1

    async def w(ctx: Context) -> str:
        await ctx.step("paid", paid)
        await ctx.wait_for_event("go", timeout=None)
        await ctx.step("again", paid)
        return "end"

    world.redeploy(w)
    async with world:
        runs = [await world.trigger("w") for _ in range(2)]
        await world.until(lambda: len(world.engine.sup.waiters) == 2)
        await world.saved()
    return runs


@pytest.mark.parametrize(
    "changes", [{"key": "nobody#1"}, {"rs": 7}, {"result": None, "attempt": "x"}, {"ts": -1}]
)
async def test_a_run_set_aside_stays_so_when_only_a_snapshot_is_left_of_it(
    changes: dict[str, Any],
) -> None:
    world = World()
    with world.clock.driving():
        broken, sound = await two_that_wait(world)
        world.cut(spoiled(world.before, broken, "step.completed", **changes))
        reasons: set[str] = set()
        for _ in range(4):
            async with world:
                view = await world.engine.get_run(broken)
                assert view.state == "quarantined"
                reasons.add(str(view.reason))
                with pytest.raises(ConflictError):
                    await world.engine.resume(broken)
                assert await world.engine.snapshot()
                assert world.ran_keys() == []
        assert len(reasons) == 1
        first = min(n for name in world.disk.listdir() if (n := segment_lsn(name)))
        assert first > 10, "the journal that held the run's records is gone"
        async with world:
            assert await world.engine.notify("go", b"null") == 1
            assert result_of(await world.finished(sound)) == "end"
            await world.engine.cancel(broken)
            assert (await world.finished(broken)).status == "cancelled"
            await world.engine.snapshot()
        async with world:
            assert (await world.engine.get_run(broken)).status == "cancelled"


async def look_everywhere(world: Service) -> dict[str, dict[str, Any]]:
    """Read all that the API shows of all runs; return the runs."""
    page = await world.engine.list_runs(ALL, limit=1000, cursor=None)
    seen: dict[str, dict[str, Any]] = {}
    for row in page.runs:
        view = await world.engine.get_run(row.id)
        seen[row.id] = json.loads(msgspec.json.encode(view))
        assert await world.stream_bytes(row.id)
    return seen


def quarantined(seen: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {
        run_id: (view["state"], view["reason"])
        for run_id, view in seen.items()
        if view.get("state") == "quarantined"
    }


async def serve_through(case: Case) -> bool:
    """Start on the case, use everything, snapshot, start again; say whether it was refused."""
    world = Service(disk=disk_with(case.groups), seed=1)
    with world.clock.driving():
        try:
            await world.start()
        except JournalCorruptError as error:
            assert error.code == "SFW302", case.name
            return True
        try:
            before = quarantined(await look_everywhere(world))
            # Whoever is fit goes on: a bystander ends, and new runs come and go.
            await world.engine.notify("never", b'"at last"')
            bystander = await world.finished("run_bystander")
            assert bystander.status == "completed", case.name
            assert await world.result("doubles", 4) == 16
            assert await world.engine.snapshot()
        finally:
            await world.stop()
        for _ in range(2):
            await world.start()
            try:
                now = await look_everywhere(world)
                assert before.items() <= quarantined(now).items(), case.name
                assert now["run_bystander"]["status"] == "completed"
                assert await world.engine.snapshot()
            finally:
                await world.stop()
    return False


def served_cases() -> list[Case]:
    """Cases that do not touch the bystander."""
    own = {lsn for _, _, lsn, data in rows() if run_of(data) == "run_bystander"}
    return [case for case in cases() if case.lsn not in own]


@pytest.mark.parametrize("number", range(3))
async def test_a_service_with_a_record_that_makes_no_sense_serves_all_others(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")
    for case in islice(served_cases(), number, None, 3 * EVERY):
        await serve_through(case)


async def test_what_is_left_out_lies_in_broken_once() -> None:
    first = next(case for case in cases() if case.must_show and case.name.endswith("b'{'"))
    disk = disk_with(first.groups)
    for _ in range(3):
        world = Service(disk=disk, seed=1)
        with world.clock.driving():
            await world.start()
            assert world.engine.recovery is not None
            said = [m for m in world.engine.recovery.messages if m.startswith("SFW403")]
            assert said
            await world.stop()
        (copy,) = disk.listdir(BROKEN)
        assert copy.startswith("left-out-")
        assert disk.read(f"{BROKEN}/{copy}").startswith(b"{\n")


async def test_the_sound_history_sets_nobody_aside() -> None:
    async with service(disk=disk_with(next(iter(cases())).groups)) as world:
        assert len(quarantined(await look_everywhere(world))) <= 1
