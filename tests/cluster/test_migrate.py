"""`stepflow migrate`: live runs go on in the database, to the same results, no step again."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from msgspec.structs import replace

from stepflow import RateLimit, Schedule, Stepflow
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.moving.source import Source
from stepflow.engine.postgres.moving.target import Target, where
from stepflow.engine.postgres.schema import FORMAT
from stepflow.errors import ConfigurationError, DataDirLockedError
from stepflow.journal.api import open_journal
from stepflow.journal.disk import RealDisk
from stepflow.journal.moved import MOVED, Moved, read_moved, write_moved
from stepflow.journal.opening import lock_directory
from stepflow.model.run import RunState
from tests.cluster.moving_kit import (
    App,
    cluster,
    files,
    local,
    mover,
    result_of,
    rows,
    some_runs,
    until,
    waited_for,
    waits_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.asyncio


async def test_live_runs_go_on_after_the_switch_and_no_recorded_step_runs_again(data, url):
    before = App()
    async with local(data, before) as flow:
        done = await flow.trigger("short", 7, idempotency_key="once")
        assert await done.result() == 7
        failed = await flow.trigger("short", -1)
        with suppress(Exception):
            await failed.result()
        runs = {
            "sleeping": await flow.trigger("sleeping"),
            "waiting": await flow.trigger("waiting", "told"),
            "keeping": await flow.trigger("keeping", {"id": 1}),
            "retrying": await flow.trigger("retrying"),
            "parent": await flow.trigger("parent", "child-told"),
            "again": await flow.trigger("again", 2),
            "delayed": await flow.trigger("short", 3, delay="1s"),
        }
        await waits_at(flow, runs["sleeping"].id, "sleep")
        await waits_at(flow, runs["retrying"].id, "retry")
        await waits_at(flow, runs["parent"].id, "child")
        for name in ("waiting", "keeping", "again"):
            await waits_at(flow, runs[name].id, "event")
        await until(lambda: waited_for(flow, "child-told"))
        await flow.notify("kept-1", "early")
        paused = await flow.trigger("waiting", "paused-told")
        await waits_at(flow, paused.id, "event")
        await flow.pause(paused.id)
    ran = list(before.ran)
    was = files(data)

    report = await mover(data, url).move()

    assert report.switched == "now"
    now = files(data)
    moved = json.loads(now.pop(MOVED))
    assert (moved["to"], moved["done"]) == (where(url), True)
    assert now == was
    after = App()
    after.ran.append("here")
    async with cluster(url, after) as flow:
        assert await flow.notify("told", "hello") == 1
        assert await flow.notify("go-1", "went") == 1
        assert await flow.notify("child-told", "child") == 1
        assert await flow.notify("again-on", "on") == 1
        results = {name: await result_of(flow, run.id) for name, run in runs.items()}
        # The same key is the same run.
        assert (await flow.trigger("short", 7, idempotency_key="once")).id == done.id
        assert await result_of(flow, done.id) == 7
        view = await flow.get_run(failed.id)
        assert view.status == "failed"
        assert (await flow.get_run(paused.id)).status == "running"
        await flow.resume(paused.id)
        await flow.notify("paused-told", "late")
        assert await result_of(flow, paused.id) == ["waiting/first", "late"]
        events = [event.id async for event in flow.stream(runs["waiting"].id)]
    assert results == {
        "sleeping": ["sleeping/first", "sleeping/second"],
        "waiting": ["waiting/first", "hello"],
        "keeping": ["went", "early"],
        "retrying": ["retrying/first", "retrying/flaky"],
        "parent": ["parent/before", ["waiting/first", "child"]],
        "again": "on",
        "delayed": 3,
    }
    assert sorted(after.ran) == ["here", "retrying/flaky", "sleeping/second"]
    assert ran.count("retrying/flaky") == 1
    assert events == sorted(set(events))


async def test_a_moved_run_is_retried_there_and_its_id_can_be_taken_again(data, url):
    async with local(data, App()) as flow:
        failed = await flow.trigger("short", -1)
        await flow.engine.wait(failed.id)
        lives = await flow.trigger("short", 101)
        await waits_at(flow, lives.id, "event")
    await mover(data, url).move()
    app = App()
    async with cluster(url, app) as flow:
        await flow.retry(failed.id)
        assert (await flow.engine.wait(failed.id)).status == "failed"
        assert app.ran == ["short/negative"]
        await flow.notify("short-on", None)
        assert await result_of(flow, lives.id) == 101
        await flow.purge(lives.id)
        again = await flow.trigger("short", 5, run_id=lives.id)
        assert await again.result() == 5


# ------------------------------------------------------------ interrupted


class CutError(Exception):
    """The process ends here."""


def cut(monkeypatch: pytest.MonkeyPatch, name: str, at: int, *, after: bool) -> None:
    """Let the process end at the `at`-th call of a step, before it or when it is done."""
    whole = getattr(Target, name)
    calls = 0

    async def wrapped(self: Target, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at and not after:
            raise CutError
        found = await whole(self, *args)
        if calls == at:
            raise CutError
        return found

    monkeypatch.setattr(Target, name, wrapped)


STEPS = [("begin", 1), *(("copy", n) for n in range(1, 5)), ("totals", 1), ("switch", 1)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("step", "at"), STEPS)
async def test_interrupted_anywhere_the_same_again_goes_on_where_it_was(
    data, url, monkeypatch, step, at, after
):
    await some_runs(data, 7)
    with monkeypatch.context() as patch:
        cut(patch, step, at, after=after)
        with pytest.raises(CutError):
            await mover(data, url, batch_runs=2).move()

    copied: list[int] = []
    whole = Target.copy

    async def counted(self: Target, position: int, *args: Any) -> None:
        copied.append(position)
        await whole(self, position, *args)

    monkeypatch.setattr(Target, "copy", counted)
    report = await mover(data, url, batch_runs=2).move()

    done = min(7, 2 * (at - 1 + after)) if step == "copy" else 0 if step == "begin" else 7
    assert copied == list(range(done, 7, 2))
    assert report.switched == ("now" if (step, after) != ("switch", True) else report.switched)
    assert report.switched
    moved = read_moved(RealDisk(str(data)))
    assert moved is not None
    assert moved.done
    async with cluster(url, App()) as flow:
        page = await flow.list_runs()
        assert [json.loads(bytes(run.result or b"")) for run in page.runs] == [*range(6, -1, -1)]


async def test_until_the_switch_no_engine_starts_on_the_database(data, url, monkeypatch):
    await some_runs(data, 3)
    cut(monkeypatch, "copy", 2, after=True)
    with pytest.raises(CutError):
        await mover(data, url, batch_runs=1).move()
    with pytest.raises(ConfigurationError, match=r"being moved into .* --abort"):
        async with cluster(url, App()):
            raise AssertionError


async def test_until_the_switch_no_live_run_has_a_task(data, url, monkeypatch):
    async with local(data, App()) as flow:
        await flow.trigger("waiting", "told")
        await until(lambda: waited_for(flow, "told"))
    cut(monkeypatch, "switch", 1, after=False)
    with pytest.raises(CutError):
        await mover(data, url).move()
    assert await rows(url, "select count(*) from absurd.t_stepflow") == [(0,)]
    assert await rows(url, "select status, task_id from stepflow.runs") == [("running", None)]


async def test_a_directory_that_has_changed_since_is_copied_anew(data, url, monkeypatch):
    await some_runs(data, 4)
    with monkeypatch.context() as patch:
        cut(patch, "copy", 2, after=True)
        with pytest.raises(CutError):
            await mover(data, url, batch_runs=1).move()
    await some_runs(data, 2)
    report = await mover(data, url, batch_runs=1).move()
    assert (report.survey.runs, report.resumed) == (6, 0)
    assert await rows(url, "select count(*) from stepflow.runs") == [(6,)]


async def test_done_again_it_says_that_it_was_done(data, url):
    await some_runs(data, 2)
    first = await mover(data, url).move()
    again = await mover(data, url).move()
    assert first.switched == "now"
    assert again.switched.startswith("20")
    assert not again.checksum


# ------------------------------------------------------------ taken back


@pytest.mark.parametrize(("step", "at"), STEPS[1:])
async def test_until_the_switch_all_of_it_is_taken_back(data, url, monkeypatch, step, at):
    await some_runs(data, 7)
    was = files(data)
    with monkeypatch.context() as patch:
        cut(patch, step, at, after=False)
        with pytest.raises(CutError):
            await mover(data, url, batch_runs=2).move()
    await mover(data, url).abort()
    assert files(data) == was
    schemas = "select nspname from pg_namespace where nspname in ('stepflow', 'absurd')"
    assert await rows(url, schemas) == []
    async with local(data, App()) as flow:
        assert len((await flow.list_runs()).runs) == 7
    # And again, to the end.
    assert (await mover(data, url).move()).switched == "now"


async def test_absurd_that_was_there_before_stays_without_our_queue(data, url, monkeypatch):
    import absurdctl

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(str(absurdctl.BUNDLED_SCHEMA_SQL).encode())
        await conn.execute(b"select absurd.create_queue('theirs')")
    await some_runs(data, 1)
    cut(monkeypatch, "switch", 1, after=False)
    with pytest.raises(CutError):
        await mover(data, url).move()
    await mover(data, url).abort()
    assert await rows(url, "select queue_name from absurd.queues") == [("theirs",)]


async def test_after_the_switch_nothing_is_taken_back(data, url):
    await some_runs(data, 1)
    await mover(data, url).move()
    with pytest.raises(ConfigurationError, match=r"go on at .* since"):
        await mover(data, url).abort()
    assert (data / MOVED).exists()
    assert await rows(url, "select count(*) from stepflow.runs") == [(1,)]


async def test_where_nothing_is_being_moved_nothing_is_taken_back(data, url):
    await some_runs(data, 1)
    with pytest.raises(ConfigurationError, match="nothing is being moved"):
        await mover(data, url).abort()


async def test_the_directory_is_not_given_back_by_another_database(data, url):
    await some_runs(data, 1)
    write_moved(RealDisk(str(data)), Moved("postgresql://other/db", "00"))
    with pytest.raises(ConfigurationError, match=r"other/db.*knows nothing of that"):
        await mover(data, url).abort()
    with pytest.raises(ConfigurationError, match=r"other/db.*knows nothing of that"):
        await mover(data, url).move()
    assert (data / MOVED).exists()


# ------------------------------------------------------------ the directory afterwards


async def test_a_directory_that_has_moved_does_not_start(data, url):
    await some_runs(data, 1)
    await mover(data, url).move()
    with pytest.raises(ConfigurationError, match=r"SFW503 .*--database.*way back.*MOVED"):
        async with local(data, App()):
            raise AssertionError


async def test_nor_does_one_that_is_about_to(data, url, monkeypatch):
    await some_runs(data, 1)
    cut(monkeypatch, "switch", 1, after=False)
    with pytest.raises(CutError):
        await mover(data, url).move()
    with pytest.raises(ConfigurationError, match=r"SFW503 .*stepflow migrate .*--abort"):
        async with local(data, App()):
            raise AssertionError


async def test_nor_does_one_that_moves_while_its_server_waits_for_the_lock(data, url):
    await some_runs(data, 1)
    disk, clock = RealDisk(str(data)), SystemClock()
    lock = await lock_directory(disk, clock, 0, lambda _message: None)
    waits = asyncio.Event()

    server = asyncio.ensure_future(
        open_journal(
            str(data),
            settings=Settings(lock_wait_s=600),
            clock=clock,
            on_line=lambda _lsn, _line: None,
            on_record=lambda _lsn, _record: None,
            progress=lambda _progress: waits.set(),
        )
    )
    await waits.wait()
    write_moved(disk, Moved(where(url), "00", done=True))
    lock.release()
    with pytest.raises(ConfigurationError, match="SFW503"):
        await server
    # And it has let go of the directory.
    (await lock_directory(disk, clock, 0, lambda _message: None)).release()


async def test_a_directory_that_was_taken_back_by_hand_goes_to_another_database(data, url):
    await some_runs(data, 1)
    await mover(data, url).move()
    (data / MOVED).unlink()
    async with local(data, App()) as flow:
        assert len((await flow.list_runs()).runs) == 1
    with pytest.raises(ConfigurationError, match="another, empty database"):
        await mover(data, url).move()


# ------------------------------------------------------------ verified

DAMAGE = {
    "a record": "update stepflow.records set data = data || ' ' where rs = 1",
    "a record's checksum": "update stepflow.records set crc = crc + 1 where rs = 1",
    "a missing record": "delete from stepflow.records where rs = 2",
    "a missing run": "delete from stepflow.runs where workflow = 'short'",
    "another status": "update stepflow.runs set status = 'failed' where workflow = 'short'",
    "a wait": "update stepflow.waits set event = 'other'",
    "a missing wait": "delete from stepflow.waits",
    "a missing declaration": "delete from stepflow.declared",
    "a payload": "update stepflow.payloads set body = '2'",
    "another payload": "insert into stepflow.payloads values ('run_x', 1, '1')",
    "a key": "update stepflow.keys set run_id = 'run_other'",
    "a missing key": "delete from stepflow.keys",
    "another run": (
        "insert into stepflow.runs (run_id, workflow, tags, status, created_ms, updated_ms, rs,"
        " lsn) values ('run_other', 'short', '{}', 'completed', 1, 1, 1, 1)"
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_copy_that_differs_is_found_and_nothing_is_switched(data, url, monkeypatch, damage):
    async with local(data, App()) as flow:
        await (await flow.trigger("short", 1, idempotency_key="k")).result()
        await flow.trigger("keeping", {"id": 1})
        await until(lambda: waited_for(flow, "go-1"))
        await flow.notify("kept-1", 1)
    settle = Target.settle

    async def spoiled(self: Target) -> None:
        changed = await self.conn.execute(DAMAGE[damage].encode())
        assert changed.rowcount
        await settle(self)

    monkeypatch.setattr(Target, "settle", spoiled)
    with pytest.raises(ConfigurationError, match=r"is not what .* has: .*Nothing was switched"):
        await mover(data, url).move()
    assert not (data / MOVED).exists()
    assert await rows(url, "select switched_at from stepflow.migration") == [(None,)]


# ------------------------------------------------------------ refused


async def test_a_directory_in_use_is_refused(data, url):
    async with local(data, App()):
        with pytest.raises(DataDirLockedError):
            await mover(data, url).move()


async def test_a_dry_run_changes_nothing(data, url):
    await some_runs(data, 3)
    was = files(data)
    report = await mover(data, url).move(dry_run=True)
    assert (report.survey.runs, report.switched, report.checksum) == (3, "", "")
    assert files(data) == was
    schemas = "select nspname from pg_namespace where nspname in ('stepflow', 'absurd')"
    assert await rows(url, schemas) == []


async def test_a_database_with_runs_of_its_own_is_refused(data, url):
    await some_runs(data, 1)
    async with cluster(url, App()):
        pass
    with pytest.raises(ConfigurationError, match=r"is taken.*Give an empty database"):
        await mover(data, url).move()


async def test_a_database_that_an_engine_has_just_begun_is_refused(data, url):
    del data
    async with Target(url) as target:
        assert await target.find() is None
        async with cluster(url, App()) as flow:
            assert await (await flow.trigger("short", 1)).result() == 1
            with pytest.raises(ConfigurationError, match=r"is taken.*Give an empty database"):
                await target.begin("00", "")
    assert await rows(url, "select version from stepflow.meta") == [(FORMAT,)]


async def test_a_database_that_another_directory_fills_is_refused(data, url, tmp_path, monkeypatch):
    await some_runs(data, 1)
    await some_runs(tmp_path / "other", 1)
    with monkeypatch.context() as patch:
        cut(patch, "switch", 1, after=False)
        with pytest.raises(CutError):
            await mover(tmp_path / "other", url).move()
    for act in (mover(data, url).move, mover(data, url).abort):
        with pytest.raises(ConfigurationError, match="filled from another directory"):
            await act()


async def test_two_at_a_time_are_refused(data, url):
    await some_runs(data, 1)
    async with Target(url):
        with pytest.raises(ConfigurationError, match="another `stepflow migrate`"):
            await mover(data, url).move()


async def test_a_directory_without_data_is_refused(tmp_path, url):
    with pytest.raises(ConfigurationError, match="is no data directory"):
        await mover(tmp_path, url).move()


async def test_a_database_that_is_not_there_is_named_without_its_password(data):
    await some_runs(data, 1)
    with pytest.raises(
        ConfigurationError, match=r"at postgresql://127\.0\.0\.1:9/x cannot"
    ) as said:
        await mover(data, "postgresql://me:secret@127.0.0.1:9/x").move()
    assert "secret" not in str(said.value)


# ------------------------------------------------------------ who did what


async def test_acts_move_along_in_their_order_those_on_runs_that_have_gone_too(data, url):
    async with local(data, App()) as flow:
        for n in range(3):
            run = await flow.trigger("parent", f"never-{n}")
            await until(lambda n=n: waited_for(flow, f"never-{n}"))
            await run.cancel()
            with suppress(Exception):
                await run.result()
            if n == 1:
                await flow.purge(run.id)
        await flow.engine.note_key_act("make", "Ab3dEf9h", name="ci", by="key:ops")
        before = (await flow.engine.audit(limit=50)).audit
    assert len(before) == 5
    await mover(data, url).move()
    async with cluster(url, App()) as flow:
        after = (await flow.engine.audit(limit=50)).audit
        assert [replace(act, lsn=0) for act in after] == [replace(act, lsn=0) for act in before]
        page = await flow.engine.audit(run_id=str(before[1].run_id))
        assert [act.at for act in page.audit] == [before[1].at]


# ------------------------------------------------------------ left out


def limited(flow: Stepflow) -> Stepflow:
    """Register what has limits and schedules."""

    @flow.workflow("nightly", schedule="0 0 1 1 *")
    async def nightly(ctx: Any) -> None:
        del ctx

    @flow.workflow("in-turn", schedule=Schedule("0 0 1 1 *", overlap="queue"))
    async def in_turn(ctx: Any) -> str:
        await ctx.wait_for_event("on", f"on-{ctx.run_id}", timeout=None)
        return str(ctx.run_id)

    @flow.workflow("rated", rate_limit=RateLimit(2, per="1h"))
    async def rated(ctx: Any, n: int) -> int:
        return n

    return App(concurrency=1).register(flow)


async def test_queues_rates_and_schedules_go_on_where_they_were(data, url):
    async with limited(Stepflow(str(data))) as flow:
        first = await flow.trigger("short", 200)
        await until(lambda: waited_for(flow, "short-on"))
        second = await flow.trigger("short", 5)
        rated = [await flow.trigger("rated", n) for n in range(3)]
        for run in rated[:2]:
            await run.result()
        one, two = [await flow.schedules.trigger("in-turn") for _ in range(2)]
        await until(lambda: waited_for(flow, f"on-{one.id}"))
        await flow.schedules.pause("nightly")
    report = await mover(data, url).move()
    assert not report.survey.lacking
    async with limited(Stepflow(engine=PostgresEngine(url))) as flow:

        async def in_line() -> bool:
            return len(await rows(url, "select 1 from stepflow.gated where state = 'waits'")) == 3

        await until(in_line)
        for run in (second, rated[2], two):
            assert (await flow.get_run(run.id)).state == "queued"
        assert (await flow.get_run(second.id)).queue.held_by == (first.id,)
        assert (await flow.get_run(rated[2].id)).queue.free_at
        assert (await flow.schedules.get("nightly")).state == "paused"
        assert (await flow.schedules.get("in-turn")).live_run_ids == [one.id, two.id]
        await flow.notify("short-on")
        assert await result_of(flow, first.id) == 200
        assert await result_of(flow, second.id) == 5
        for run in (one, two):
            await until(lambda event=f"on-{run.id}": waited_for(flow, event))
            await flow.notify(f"on-{run.id}")
            assert await result_of(flow, run.id) == run.id


async def test_a_time_that_passed_during_the_move_is_not_lost(data, url):
    async with limited(Stepflow(str(data))):
        pass
    await mover(data, url).move()
    await rows(
        url, "update stepflow.schedules set last_ms = last_ms - 400 * 86400000::bigint returning 1"
    )
    async with limited(Stepflow(engine=PostgresEngine(url))) as flow:

        async def fired() -> bool:
            return (await flow.schedules.get("nightly")).fired > 0

        await until(fired)


async def test_a_run_that_is_set_aside_is_left_out_by_a_flag_alone(data, url, monkeypatch):
    await some_runs(data, 2)
    whole = Source._read

    def damaged(self: Source) -> Any:
        restorer, found = whole(self)
        run = next(restorer.runs())
        run.state.set_aside(run.state.lsn, "for the test")
        return restorer, found

    monkeypatch.setattr(Source, "_read", damaged)
    with pytest.raises(ConfigurationError, match="--leave-out set-aside"):
        await mover(data, url).move()
    report = await mover(data, url, leave_out=["set-aside"]).move()
    assert report.survey.runs == 1
    assert await rows(url, "select count(*) from stepflow.runs") == [(1,)]


async def test_a_parent_hears_of_a_child_that_had_ended_unheard(data, url, monkeypatch):
    async with local(data, App()) as flow:
        run = await flow.trigger("parent", "told")
        await until(lambda: waited_for(flow, "told"))
        await flow.notify("told", "hello")
        assert await run.result() == ["parent/before", ["waiting/first", "hello"]]
    whole = Source.states

    def unheard(self: Source) -> Iterator[RunState]:
        for state in whole(self):
            if state.id != run.id:
                yield state
                continue
            parent = RunState(state.id)
            for data_ in state.records[:-2]:
                parent.fold_data(data_, lambda _lsn: None)
            assert parent.pending_calls()[0].kind == "child"
            yield parent

    monkeypatch.setattr(Source, "states", unheard)
    await mover(data, url).move()
    async with cluster(url, App()) as flow:
        assert await result_of(flow, run.id) == ["parent/before", ["waiting/first", "hello"]]
