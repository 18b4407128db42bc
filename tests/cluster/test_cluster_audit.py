"""`GET /audit` on PostgreSQL: each act once, in the transaction of what it tells; and bounded."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest

from stepflow import Context, Stepflow
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ConflictError, InvalidInputError, RunNotFoundError, UnavailableError

if TYPE_CHECKING:
    from stepflow.model.audit import AuditEntry

pytestmark = pytest.mark.asyncio


class Node:
    def __init__(self, url: str, *, worker: bool = True) -> None:
        self.engine = PostgresEngine(url, worker=worker, poll_s=0.1)
        self.flow = flow = Stepflow(engine=self.engine)

        @flow.workflow("w")
        async def w(ctx: Context) -> Any:
            return await ctx.wait_for_event("go", timeout=None)

        @flow.workflow("parent")
        async def parent(ctx: Context) -> Any:
            return await ctx.call("w")

        @flow.workflow("fails")
        async def fails(ctx: Context) -> None:
            del ctx
            raise ValueError("no")

        @flow.workflow("yearly", schedule="0 8 1 1 *")
        async def yearly(ctx: Context) -> None:
            del ctx


def told(acts: list[AuditEntry]) -> list[tuple[str, str, object]]:
    return [(act.action, act.by, act.reason or "") for act in acts]


async def test_every_act_on_a_run_is_told_once_newest_first(url) -> None:
    async with AsyncExitStack() as stack:
        worker, api = Node(url), Node(url, worker=False)
        await stack.enter_async_context(worker.flow)
        await stack.enter_async_context(api.flow)
        engine = api.engine
        run_id = await engine.trigger("w", b"null")
        await engine.pause(run_id, by="key:a", reason="wait")
        await engine.resume(run_id, by="key:b")
        await engine.cancel(run_id, by="key:c", reason="spilt")
        await engine.wait(run_id)
        await engine.retry(run_id, by="key:d")
        await engine.cancel(run_id, by="key:e", force=True)
        await engine.wait(run_id)
        page = await engine.audit()
        assert told(page.audit) == [
            ("cancel", "key:e", ""),
            ("retry", "key:d", ""),
            ("cancel", "key:c", "spilt"),
            ("resume", "key:b", ""),
            ("pause", "key:a", "wait"),
        ]
        assert page.next_cursor is None
        assert page.audit[0].forced is True
        assert {(act.run_id, act.workflow_id) for act in page.audit} == {(run_id, "w")}
        # The run itself says the same, and any process tells it.
        own = await engine.run_audit(run_id)
        assert told(own) == told(page.audit)[::-1]
        assert [act.at for act in own] == [act.at for act in page.audit][::-1]
        assert told((await worker.engine.audit()).audit) == told(page.audit)


async def test_an_act_is_there_when_it_is_answered_and_outlives_its_run(url) -> None:
    node = Node(url)
    async with node.flow:
        run_id = await node.engine.trigger("fails", b"null")
        await node.engine.wait(run_id)
        with pytest.raises(ConflictError):
            await node.engine.purge(await node.engine.trigger("w", b"null"), by="key:a")
        await node.engine.purge(run_id, by="key:a", reason="asked for")
        with pytest.raises(RunNotFoundError):
            await node.engine.purge(run_id, by="key:a")
        (act,) = (await node.engine.audit(run_id=run_id)).audit
        assert told([act]) == [("purge", "key:a", "asked for")]
        assert (act.run_id, act.workflow_id) == (run_id, "fails")
        # What was refused is no act.
        assert len((await node.engine.audit()).audit) == 1


async def test_a_cancel_that_reaches_a_child_is_an_act_on_its_parent_alone(url) -> None:
    node = Node(url)
    async with node.flow:
        parent = await node.engine.trigger("parent", b"null")
        while (
            len(
                found := (
                    await node.engine.list_runs(RunFilter(workflow_id="w"), limit=5, cursor=None)
                ).runs
            )
            == 0
        ):
            pass
        await node.engine.cancel(parent, by="key:a")
        assert (await node.engine.wait(found[0].id)).status == "cancelled"
        assert [act.run_id for act in (await node.engine.audit()).audit] == [parent]


async def test_pages_have_every_act_once(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = [await node.engine.trigger("w", b"null") for _ in range(5)]
        for run_id in runs:
            await node.engine.cancel(run_id, by="key:a")
            await node.engine.wait(run_id)
        found: list[Any] = []
        cursor = None
        pages = 0
        while pages == 0 or cursor is not None:
            page = await node.engine.audit(limit=2, cursor=cursor)
            found += [act.run_id for act in page.audit]
            cursor, pages = page.next_cursor, pages + 1
        assert (found, pages) == (runs[::-1], 3)
        first = await node.engine.audit(run_id=runs[1], limit=1)
        assert ([act.run_id for act in first.audit], first.next_cursor) == ([runs[1]], None)
        assert (await node.engine.audit(run_id="run_nobodyknows")).audit == []
        with pytest.raises(InvalidInputError):
            await node.engine.audit(cursor="nonsense")


async def test_a_bulk_action_is_one_act_and_one_on_each_run(url) -> None:
    node = Node(url)
    async with node.flow:
        runs = [await node.engine.trigger("w", b"null") for _ in range(2)]
        where = RunFilter(workflow_id="w", tag="", status=frozenset({"running"}))
        await node.engine.bulk("cancel", where, by="key:ops", reason="deploy", dry_run=True)
        await node.engine.bulk("pause", RunFilter(workflow_id="nobody"), by="key:ops")
        assert (await node.engine.audit()).audit == []
        await node.engine.bulk("cancel", where, by="key:ops", reason="deploy")
        for run_id in runs:
            await node.engine.wait(run_id)
        ended = RunFilter(ids=frozenset(runs))
        await node.engine.bulk("purge", ended, by="key:ops")
        acts = (await node.engine.audit()).audit
        bulk = [act for act in acts if act.action == "bulk"]
        assert msgspec.json.decode(bulk[-1].bulk) == {
            "action": "cancel",
            "filter": {"status": ["running"], "workflowId": "w"},
            "done": 2,
            "skipped": 0,
        }
        assert msgspec.json.decode(bulk[0].bulk)["filter"] == {"ids": 2}
        for action in ("cancel", "purge"):
            found = [act for act in acts if act.action == action]
            assert {act.run_id for act in found} == set(runs)
            assert {(act.by, act.workflow_id) for act in found} == {("key:ops", "w")}
        assert len(acts) == 6


async def test_a_schedule_that_is_held_and_a_key_that_is_made_are_acts(url) -> None:
    node = Node(url, worker=False)
    async with node.flow:
        await node.engine.pause_schedule("yearly", by="key:a")
        await node.engine.pause_schedule("yearly", by="key:b")
        await node.engine.resume_schedule("yearly", by="key:c")
        node.engine.check_key_act()
        await node.engine.note_key_act("make", "Ab3dEf9h", name="deploy", by="key:d")
        await node.engine.note_key_act("revoke", "Ab3dEf9h", name="deploy", by="key:e")
        acts = (await node.engine.audit()).audit
        assert [(act.action, act.by) for act in acts] == [
            ("key-revoke", "key:e"),
            ("key-make", "key:d"),
            ("schedule-resume", "key:c"),
            ("schedule-pause", "key:a"),
        ]
        assert (acts[0].key_id, acts[0].key_name) == ("Ab3dEf9h", "deploy")
        assert acts[3].schedule == "yearly"
        node.engine.begin_shutdown()
        with pytest.raises(UnavailableError):
            node.engine.check_key_act()


async def test_the_oldest_are_forgotten_by_number_and_by_bytes(url) -> None:
    node = Node(url, worker=False)
    async with node.flow:
        for n in range(10):
            await node.engine.note_key_act("make", f"key{n}", name="x", by="key:a")

        async def kept(most: int, nbytes: int) -> list[object]:
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("select stepflow.trim_audit(%s, %s)", (most, nbytes))
            return [act.key_id for act in (await node.engine.audit()).audit]

        assert len(await kept(10, 1 << 20)) == 10
        assert await kept(6, 1 << 20) == [f"key{n}" for n in range(9, 3, -1)]
        with psycopg.connect(url, autocommit=True) as conn:
            row = conn.execute("select max(length(entry)) from stepflow.audit").fetchone()
            assert row is not None
        assert await kept(6, 3 * row[0]) == ["key9", "key8", "key7"]
        assert await kept(6, 0) == []
