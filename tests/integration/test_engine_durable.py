"""Nobody is told what is not on disk; what somebody was told survives a power cut."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from stepflow.errors import ConflictError, EventNotFoundError, RateLimitedError, RunNotFoundError
from tests.engine_kit import ALL, Service, held_back, reborn, service

pytestmark = pytest.mark.asyncio


async def prepared(world: Service) -> dict[str, str]:
    """One run of each kind, durable."""
    runs = {
        "waiting": await world.trigger("waits", "ev"),
        "declared": await world.trigger("declares", {"id": 1}),
        "delayed": await world.trigger("echo", 1, delay_ms=60_000),
        "live": await world.trigger("sleeps", 86_400),
        "done": await world.trigger("echo", 5, run_id="run_done0000", idempotency_key="k"),
    }
    await world.finished(runs["done"])
    for name in ("waiting", "declared", "live"):
        await world.waiting(runs[name])
    return runs


async def unsynced(world: Service) -> None:
    """Append a record that is not durable, so that lists and refusals have something to rest on."""
    await held_back(world.trigger("sleeps", 5))


ACTS: dict[str, Any] = {
    "trigger": lambda w, r: w.trigger("echo", 1),
    "trigger_delayed": lambda w, r: w.trigger("echo", 1, delay_ms=5_000),
    "trigger_many": lambda w, r: w.engine.trigger_many("echo", [b"1", b"2"]),
    "notify_waiting": lambda w, r: w.engine.notify("ev", b"1"),
    "notify_kept": lambda w, r: w.engine.notify("kept-1", b"1"),
    "notify_addressed": lambda w, r: w.engine.notify("any", b"1", run_id=r["live"]),
    "cancel": lambda w, r: w.engine.cancel(r["waiting"]),
    "cancel_delayed": lambda w, r: w.engine.cancel(r["delayed"]),
    "purge": lambda w, r: w.engine.purge(r["done"]),
}


@pytest.mark.parametrize("act", list(ACTS))
async def test_an_act_is_answered_when_it_is_on_disk_and_survives_a_power_cut(act: str) -> None:
    async with service() as world:
        runs = await prepared(world)
        before = await world.views()
        await world.clock.advance(1)
        world.hold()
        answer = await held_back(ACTS[act](world, runs))
        async with reborn(world) as other:
            assert await other.views() == before
        world.release()
        await answer
        image = world.image()
        await world.settle()
        async with reborn(world, image) as other:
            assert await other.views() != before
            await CHECKS[act](other, runs, answer.result())


async def _exists(world: Service, runs: dict[str, str], answer: Any) -> None:
    for run_id in [answer] if isinstance(answer, str) else answer:
        assert (await world.get(run_id)).id == run_id


async def _woken(world: Service, runs: dict[str, str], answer: Any) -> None:
    assert answer == 1
    assert (await world.finished(runs["waiting"])).status == "completed"


async def _kept(world: Service, runs: dict[str, str], answer: Any) -> None:
    assert answer == 1
    assert await world.engine.notify("go-1", b"0") == 1
    assert msgspec.json.decode((await world.finished(runs["declared"])).result) == [1]


async def _addressed(world: Service, runs: dict[str, str], answer: Any) -> None:
    assert answer == 1
    assert world.actor(runs["live"]).peek().kept_count == 1


async def _cancelled(world: Service, runs: dict[str, str], answer: Any) -> None:
    assert answer.state in {"cancelling", "cancelled"}
    assert (await world.finished(answer.id)).status == "cancelled"


async def _purged(world: Service, runs: dict[str, str], answer: Any) -> None:
    with pytest.raises(RunNotFoundError):
        await world.get(runs["done"])


CHECKS: dict[str, Any] = {
    "trigger": _exists,
    "trigger_delayed": _exists,
    "trigger_many": _exists,
    "notify_waiting": _woken,
    "notify_kept": _kept,
    "notify_addressed": _addressed,
    "cancel": _cancelled,
    "cancel_delayed": _cancelled,
    "purge": _purged,
}

READS: dict[str, Any] = {
    "list": (lambda w, r: w.engine.list_runs(ALL, limit=9, cursor=None), None),
    "empty list": (lambda w, r: w.page(tag="nobody"), None),
    "waiting events": (lambda w, r: w.engine.waiting_events(), None),
    "unknown run": (lambda w, r: w.get("run_nobody00"), RunNotFoundError),
    "require unknown run": (lambda w, r: w.engine.require_run("run_nobody00"), RunNotFoundError),
    "unknown run's stream": (lambda w, r: w.engine.stream("run_nobody00"), RunNotFoundError),
    "unknown event": (lambda w, r: w.engine.notify("nobody", b"1"), EventNotFoundError),
    "event to an unknown run": (
        lambda w, r: w.engine.notify("x", b"1", run_id="run_nobody00"),
        EventNotFoundError,
    ),
}


@pytest.mark.parametrize("what", list(READS))
async def test_lists_and_refusals_wait_for_all_records_before_them(what: str) -> None:
    ask, refusal = READS[what]
    async with service() as world:
        runs = await prepared(world)
        world.hold()
        await unsynced(world)
        answer = await held_back(ask(world, runs))
        world.release()
        if refusal is None:
            await answer
        else:
            with pytest.raises(refusal):
                await answer


async def test_a_purged_run_is_unknown_only_when_its_purge_is_on_disk() -> None:
    async with service() as world:
        runs = await prepared(world)
        world.hold()
        purge = await held_back(world.engine.purge(runs["done"]))
        again = await held_back(world.engine.purge(runs["done"]))
        read = await held_back(world.get(runs["done"]))
        world.release()
        await purge
        for refused in (again, read):
            with pytest.raises(RunNotFoundError):
                await refused


async def test_a_read_of_one_run_waits_for_that_run_alone() -> None:
    async with service() as world:
        runs = await prepared(world)
        world.hold()
        notified = await held_back(world.engine.notify("ev", b"1"))
        read = await held_back(world.get(runs["waiting"]))
        assert (await world.get(runs["live"])).state == "sleeping"
        assert (await world.get(runs["done"])).status == "completed"
        world.release()
        assert (await read).steps[0].status == "completed"
        await notified


async def test_the_refusal_of_a_taken_id_and_of_a_used_key_wait_for_the_run_they_name() -> None:
    async with service() as world:
        world.hold()
        first = await held_back(
            world.trigger("echo", 1, run_id="run_taken000", idempotency_key="k")
        )
        taken = await held_back(world.trigger("echo", 1, run_id="run_taken000"))
        other = await held_back(world.trigger("echo", 2, idempotency_key="k"))
        same = await held_back(world.trigger("echo", 1, idempotency_key="k"))
        world.release()
        assert await first == await same == "run_taken000"
        for refused in (taken, other):
            with pytest.raises(ConflictError):
                await refused


async def test_the_refusals_of_cancel_and_purge_wait_for_the_state_they_name() -> None:
    async with service() as world:
        runs = await prepared(world)
        world.hold()
        notified = await held_back(world.engine.notify("ev", b"1"))
        await world.until(lambda: world.actor(runs["waiting"]).finished)
        cancel = await held_back(world.engine.cancel(runs["waiting"]))
        world.release()
        await notified
        with pytest.raises(ConflictError, match="completed"):
            await cancel
        world.hold()
        event = await held_back(world.engine.notify("x", b"1", run_id=runs["live"]))
        purge = await held_back(world.engine.purge(runs["live"]))
        world.release()
        await event
        with pytest.raises(ConflictError, match="live"):
            await purge


async def test_the_refusal_of_one_event_too_many_waits_for_those_that_are_kept() -> None:
    async with service(kept_events_max=1) as world:
        runs = await prepared(world)
        world.hold()
        kept = await held_back(world.engine.notify("kept-1", b"1"))
        refused = await held_back(world.engine.notify("kept-1", b"2"))
        world.release()
        assert await kept == 1
        with pytest.raises(RateLimitedError):
            await refused
        assert world.actor(runs["declared"]).peek().kept_count == 1


async def test_a_stream_shows_an_event_when_it_is_on_disk() -> None:
    async with service() as world:
        runs = await prepared(world)
        stream = await world.engine.stream(runs["waiting"])
        seen = stream.read(1 << 20)
        assert b"status" in seen
        world.hold()
        notified = await held_back(world.engine.notify("ev", b'"hello"'))
        changed = await held_back(stream.changed())
        assert stream.read(1 << 20) == b""
        assert not stream.ended
        late = await world.engine.stream(runs["waiting"])
        assert late.read(1 << 20) == seen
        world.release()
        await changed
        await notified
        await world.durable()
        rest = stream.read(1 << 20)
        assert b'"hello"' in rest
        assert b"event: complete" in rest
        assert late.read(1 << 20) == rest
        assert stream.ended
        assert stream.finished
        late.close()
        stream.close()


async def test_a_new_run_can_be_neither_read_nor_streamed_before_it_is_on_disk() -> None:
    async with service() as world:
        world.hold()
        trigger = await held_back(world.trigger("echo", 1, run_id="run_new00000"))
        asks = [
            await held_back(ask)
            for ask in (
                world.get("run_new00000"),
                world.engine.require_run("run_new00000"),
                world.engine.stream("run_new00000"),
                world.engine.wait("run_new00000"),
                world.engine.cancel("run_new00000"),
            )
        ]
        world.release()
        assert await trigger == "run_new00000"
        await asks[0]
        await asks[1]
        (await asks[2]).close()
        await asks[3]
        with pytest.raises(ConflictError):
            await asks[4]


async def test_a_result_is_given_when_the_end_is_on_disk() -> None:
    async with service() as world:
        run_id = await world.trigger("gated")
        await world.until(lambda: world.life.ran)
        world.hold()
        world.gate.set()
        wait = await held_back(world.engine.wait(run_id))
        assert world.actor(run_id).finished
        async with reborn(world) as other:
            assert (await other.get(run_id)).status == "running"
        world.release()
        assert (await wait).status == "completed"


async def test_the_next_step_starts_when_the_one_before_is_on_disk() -> None:
    async with service() as world:
        world.hold()
        task = await held_back(world.trigger("doubles", 1))
        assert world.ran_keys() == []
        world.release()
        await world.finished(await task)
        assert world.ran_keys() == ["one#1", "two#1"]


async def test_every_answer_under_load_survives_a_power_cut_right_after_it() -> None:
    async with service() as world:
        done: dict[str, Any] = {}
        images = []

        async def client(number: int) -> None:
            run_id = await world.trigger("doubles", number)
            done[run_id] = None
            images.append((world.image(), dict(done)))
            done[run_id] = bytes((await world.finished(run_id)).result)
            images.append((world.image(), dict(done)))

        await asyncio.gather(*(client(n) for n in range(12)))
        for disk, told in images:
            async with reborn(world, disk) as other:
                for run_id, result in told.items():
                    view = await other.get(run_id)
                    assert result is None or bytes(view.result) == result
