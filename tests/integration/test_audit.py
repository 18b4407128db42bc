"""Audit: who did what, when and why, durable; with the run, and in a table that outlives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.engine.protocol import RunFilter
from stepflow.errors import InvalidInputError, RunNotFoundError
from stepflow.model.audit import entry_of
from stepflow.model.records import encode_record
from stepflow.runtime.audit import AuditTable
from tests.harness import World

if TYPE_CHECKING:
    from stepflow import Context
    from stepflow.model.audit import AuditEntry

pytestmark = pytest.mark.asyncio


async def waits(ctx: Context) -> Any:
    return await ctx.wait_for_event("go", timeout=None)


async def begun(world: World) -> str:
    world.redeploy(waits)
    run_id = await world.trigger("waits")
    actor = world.actor(run_id)
    await world.until(lambda: actor.peek().pending_calls())
    await world.saved()
    return run_id


def told(entries: list[AuditEntry]) -> list[tuple[str, str, Any]]:
    return [(e.action, e.by, e.reason if isinstance(e.reason, str) else None) for e in entries]


async def act_on(world: World, run_id: str) -> str:
    """Do everything to the run that can be done; return the id of its fork."""
    engine = world.engine
    await engine.pause(run_id, by="key:a", reason="look")
    await engine.resume(run_id, by="key:b")
    await engine.cancel(run_id, by="key:c", reason="wrong")
    await world.finished(run_id)
    await engine.retry(run_id, by="jwt:d", reason="right after all")
    fork_id = await engine.fork(run_id, "go", by="key:e", reason="try")
    await engine.cancel(run_id, by="key:f", reason="stuck", force=True)
    await world.finished(run_id)
    await world.saved()
    return fork_id


ACTS = [
    ("pause", "key:a", "look"),
    ("resume", "key:b", None),
    ("cancel", "key:c", "wrong"),
    ("retry", "jwt:d", "right after all"),
    ("cancel", "key:f", "stuck"),
]


@pytest.mark.parametrize("how", ["stays", "restart", "snapshot"])
async def test_every_act_is_with_its_run_and_in_the_table(how: str) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            fork_id = await act_on(world, run_id)
            if how == "snapshot":
                assert await world.engine.snapshot()
            if how != "stays":
                await world.restart()
            entries = await world.engine.run_audit(run_id)
            assert told(entries) == ACTS
            assert entries[-1].forced is True
            assert entries[2].forced is not True
            assert [e.at for e in entries] == sorted(e.at for e in entries)
            (forked,) = await world.engine.run_audit(fork_id)
            assert (forked.action, forked.by) == ("fork", "key:e")
            source = msgspec.json.decode(forked.source)
            assert source == {"runId": run_id, "fromStep": "go", "reason": "try"}
            page = await world.engine.audit()
            assert [e.lsn for e in page.audit] == sorted((e.lsn for e in page.audit), reverse=True)
            assert told(page.audit[::-1])[:4] == ACTS[:4]
            assert {e.workflow_id for e in page.audit} == {"waits"}


@pytest.mark.parametrize("how", ["stays", "restart", "snapshot", "two snapshots"])
async def test_a_key_that_was_made_or_revoked_is_told_of(how: str) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            world.engine.check_key_act()
            await world.engine.note_key_act("make", "Ab3dEf9h", name="deploy", by="key:ops")
            await world.engine.note_key_act("revoke", "Ab3dEf9h", name="deploy", by="jwt:ann")
            for _ in range({"snapshot": 1, "two snapshots": 2}.get(how, 0)):
                assert await world.engine.snapshot()
            if how != "stays":
                await world.restart()
            page = await world.engine.audit()
            assert told(page.audit) == [
                ("key-revoke", "jwt:ann", None),
                ("key-make", "key:ops", None),
            ]
            assert {(e.key_id, e.key_name, e.run_id) for e in page.audit} == {
                ("Ab3dEf9h", "deploy", msgspec.UNSET)
            }


@pytest.mark.parametrize("how", ["stays", "restart", "snapshot", "two snapshots"])
async def test_a_purge_is_told_of_when_the_run_has_gone(how: str) -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            await world.engine.notify("go", b"1")
            await world.finished(run_id)
            await world.engine.purge(run_id, by="key:ops", reason="asked for")
            for _ in range({"snapshot": 1, "two snapshots": 2}.get(how, 0)):
                assert await world.engine.snapshot()
            if how != "stays":
                await world.restart()
            with pytest.raises(RunNotFoundError):
                await world.engine.run_audit(run_id)
            (entry,) = (await world.engine.audit(run_id=run_id)).audit
            assert told([entry]) == [("purge", "key:ops", "asked for")]
            assert (entry.run_id, entry.workflow_id) == (run_id, "waits")


async def test_retention_and_parents_are_nobody() -> None:
    world = World(completed_age_s=10.0)

    async def parent(ctx: Context) -> Any:
        return await ctx.call("waits")

    with world.clock.driving():
        async with world:
            world.redeploy(waits, parent)
            run_id = await world.trigger("parent")
            await world.until(lambda: len(world.engine.sup.waiters))
            await world.engine.cancel(run_id, by="key:ops")
            await world.finished(run_id)
            await asyncio.sleep(60)
            page = await world.engine.audit()
            assert told(page.audit) == [("cancel", "key:ops", None)]


async def test_the_program_itself_is_an_empty_name() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            await world.flow.cancel(run_id, force=True)
            (entry,) = await world.engine.run_audit(run_id)
            assert (entry.action, entry.by, entry.forced) == ("cancel", "", True)


async def test_pages_go_on_and_a_run_can_be_asked_for() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            one, other = await begun(world), await begun(world)
            for _ in range(4):
                for run_id in (one, other):
                    await world.engine.pause(run_id, by="k")
                    await world.engine.resume(run_id, by="k")
            seen: list[int] = []
            cursor = None
            while True:
                page = await world.engine.audit(limit=5, cursor=cursor)
                assert len(page.audit) <= 5
                seen += [e.lsn for e in page.audit]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert len(seen) == 16
            assert seen == sorted(set(seen), reverse=True)
            assert {e.run_id for e in (await world.engine.audit(run_id=one)).audit} == {one}
            with pytest.raises(InvalidInputError):
                await world.engine.audit(cursor="nonsense")


@pytest.mark.parametrize("bound", ["audit_entries_max", "audit_bytes_max"])
async def test_the_table_is_bounded_and_forgets_the_oldest(bound: str) -> None:
    size = {"audit_entries_max": 6, "audit_bytes_max": 6 * 150}[bound]
    world = World(**{bound: size})
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            for _ in range(10):
                await world.engine.pause(run_id, by="key:ops")
                await world.engine.resume(run_id, by="key:ops")
            newest = [e.lsn for e in (await world.engine.audit()).audit]
            assert 3 <= len(newest) <= 7
            assert newest[0] == world.actor(run_id).lsn
            # The run's own are all there.
            assert len(await world.engine.run_audit(run_id)) == 20
            assert await world.engine.snapshot()
            await world.restart()
            assert [e.lsn for e in (await world.engine.audit()).audit] == newest


async def test_an_act_that_was_not_synced_is_not_told_of() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            journal: Any = world.engine.sup.journal
            held: list[Any] = []
            submit, journal._writing.submit = journal._writing.submit, held.append
            asked = [
                asyncio.ensure_future(world.engine.pause(run_id, by="key:ops")),
                asyncio.ensure_future(world.engine.run_audit(run_id)),
                asyncio.ensure_future(world.engine.audit()),
            ]
            await world.settle()
            assert not any(task.done() for task in asked)
            journal._writing.submit = submit
            for work in held:
                submit(work)
            _, own, page = await asyncio.gather(*asked)
            assert told(own) == told(page.audit) == [("pause", "key:ops", None)]


async def test_a_table_takes_lines_and_records_in_any_order_and_each_once() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            run_id = await begun(world)
            await act_on(world, run_id)
            records = [r for r in world.records() if entry_of(r) is not None]
            whole, other = AuditTable(), AuditTable()
            for record in records:
                whole.note(record)
            for _, line in whole.lines()[::-1]:
                other.take_line(line)
            for record in records:
                other.note(record)
            assert len(other) == len(whole) == len(records)
            assert other.page(1 << 60, "", 100) == whole.page(1 << 60, "", 100)
            with pytest.raises(msgspec.MsgspecError):
                other.take_line(b'{"k":"audit","lsn":1,"entry":{"lsn":"x"}}')
            assert all(len(encode_record(r)) < 1000 for r in records)


async def test_a_bulk_action_is_one_act_and_one_on_each_run() -> None:
    world = World()
    with world.clock.driving():
        async with world:
            runs = [await begun(world) for _ in range(3)]
            where = RunFilter(workflow_id="waits", ids=frozenset(runs[:2]))
            await world.engine.bulk("pause", where, by="key:ops", reason="deploy")
            await world.restart()
            for run_id in runs[:2]:
                assert told(await world.engine.run_audit(run_id)) == [
                    ("pause", "key:ops", "deploy")
                ]
            assert await world.engine.run_audit(runs[2]) == []
            newest = (await world.engine.audit()).audit[0]
            assert told([newest]) == [("bulk", "key:ops", "deploy")]
            assert msgspec.json.decode(newest.bulk) == {
                "action": "pause",
                "filter": {"workflowId": "waits", "ids": 2},
                "done": 2,
                "skipped": 0,
            }
