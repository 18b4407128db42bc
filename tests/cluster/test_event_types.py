"""A payload that the waits' types refuse is refused on PostgreSQL as by the local engine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import psycopg
import pydantic
import pytest

from stepflow import Context, RetryPolicy, Stepflow
from stepflow.authoring.registry import Registry
from stepflow.config import Settings
from stepflow.engine.postgres import PostgresEngine
from stepflow.engine.postgres.delivering import Types, deliver
from stepflow.errors import EventNotFoundError, InvalidInputError, UnavailableError
from stepflow.testing.conformance.reading import decoded
from tests.cluster.moving_kit import mover

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio


@dataclass
class Payment:
    cents: int


FAILING: list[int] = []
"""While it holds anything the step of `fails-first` fails."""
Amount = Annotated[int, pydantic.Field(gt=0)]


class Node(NamedTuple):
    flow: Stepflow
    engine: Any


def register(flow: Stepflow) -> None:
    """The workflows, on whichever engine."""

    @dataclass
    class Nameless:
        cents: int

    @dataclass
    class Local:
        cents: int

    @flow.workflow("waits-for-a-local")
    async def waits_for_a_local(ctx: Context, kind: str) -> Any:
        kinds: Any = list[Local] if kind == "list" else Amount
        return await ctx.wait_for_event("news", timeout=None, type=kinds)

    types: dict[str, Any] = {
        "int": int,
        "text": str,
        "payment": Payment,
        "payments": list[Payment],
        "choice": Literal["yes", "no"],
        "nameless": Nameless,
    }

    @flow.workflow("waits")
    async def waits(ctx: Context, kind: str) -> Any:
        # A wait's name has one type; several of them have one event.
        return await ctx.wait_for_event(kind, "news", timeout=None, type=types.get(kind, Any))

    @flow.workflow("keeps", events=["news"])
    async def keeps(ctx: Context, times: int) -> Any:
        await ctx.wait_for_event("begin", timeout=None)
        return [
            await ctx.wait_for_event("number", "news", timeout=None, type=int) for _ in range(times)
        ]

    @flow.workflow("both")
    async def both(ctx: Context) -> Any:
        return await asyncio.gather(
            ctx.wait_for_event("number", "news", timeout=None, type=int),
            ctx.wait_for_event("word", "news", timeout=None, default=0),
        )

    @flow.workflow("sends")
    async def sends(ctx: Context, payload: Any) -> int:
        return await ctx.notify("news", payload)

    @flow.workflow("fails-first")
    async def fails_first(ctx: Context) -> Any:
        # So that it takes a while until it waits again.
        for _ in range(1000):
            await asyncio.sleep(0)
        waiting = asyncio.create_task(
            ctx.wait_for_event("number", "news", timeout=None, type=int)  # type: ignore[arg-type]
        )
        await ctx.step("once", once, retry=RetryPolicy(max_attempts=1))
        return await waiting

    async def once() -> None:
        if FAILING:
            raise ValueError("not yet")


def a_node(url: str, *, worker: bool, **more: Any) -> Node:
    engine = PostgresEngine(url, worker=worker, poll_s=0.1)
    flow = Stepflow(engine=engine, settings=Settings(**more))
    register(flow)
    return Node(flow, engine)


@asynccontextmanager
async def cluster(url: str, **more: Any) -> AsyncIterator[Node]:
    """An API process, which runs nothing, and a worker."""
    async with AsyncExitStack() as stack:
        api = a_node(url, worker=False)
        await stack.enter_async_context(api.flow)
        await stack.enter_async_context(a_node(url, worker=True, **more).flow)
        yield api


@asynccontextmanager
async def on_local(data: Any) -> AsyncIterator[Node]:
    flow = Stepflow(data)
    register(flow)
    async with flow:
        yield Node(flow, flow.engine)


@asynccontextmanager
async def on_both(url: str, data: Any) -> AsyncIterator[list[Node]]:
    async with cluster(url) as api, on_local(data) as local:
        yield [local, api]


async def waiting(node: Node, workflow: str, value: Any = None, *, waits: int = 1) -> str:
    """Trigger a run and return its id when it waits."""
    run = await node.flow.trigger(workflow, value)
    await until_waits(node, run.id, waits)
    return run.id


async def until_waits(node: Node, run_id: str, waits: int = 1, name: str = "") -> None:
    async with asyncio.timeout(30):
        while True:
            steps = (await node.engine.get_run(run_id)).steps
            pending = [s.name for s in steps if s.kind == "event" and s.status == "pending"]
            if len(pending) == waits and (not name or name in pending):
                return
            await asyncio.sleep(0.01)


async def result(node: Node, run_id: str) -> Any:
    async with asyncio.timeout(30):
        return decoded((await node.engine.wait(run_id)).result)


async def refusal(node: Node, payload: bytes, **more: Any) -> str:
    with pytest.raises(InvalidInputError) as refused:
        await node.engine.notify("news", payload, **more)
    return refused.value.message


@pytest.mark.parametrize(
    ("kind", "bad", "good"),
    [
        ("int", b'"many"', b"7"),
        ("payment", b'{"cents":"many"}', b'{"cents":7}'),
        ("payments", b'[{"cents":1},{}]', b'[{"cents":1}]'),
        ("choice", b'"perhaps"', b'"yes"'),
    ],
)
async def test_what_every_waiter_refuses_is_refused_in_the_same_words(url, data, kind, bad, good):
    said = []
    async with on_both(url, data) as nodes:
        for node in nodes:
            run_id = await waiting(node, "waits", kind)
            said.append(await refusal(node, bad))
            # Nothing was taken: the run waits on, and takes what fits.
            assert (await node.engine.get_run(run_id)).status == "running"
            assert await node.engine.notify("news", good) == 1
            await result(node, run_id)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("kind", "bad", "good"), [("list", b"[{}]", b'[{"cents":1}]'), ("amount", b"0", b"7")]
)
async def test_what_the_function_has_in_a_variable_is_known_everywhere(url, data, kind, bad, good):
    said = []
    async with on_both(url, data) as nodes:
        for node in nodes:
            run_id = await waiting(node, "waits-for-a-local", kind)
            said.append(await refusal(node, bad))
            assert await node.engine.notify("news", good) == 1
            await result(node, run_id)
    assert said[0] == said[1]


async def test_where_the_workflow_is_not_registered_its_variables_are_not_known(url, caplog):
    async with cluster(url) as api:
        await waiting(api, "waits-for-a-local", "list")
        engine = PostgresEngine(url, worker=False)
        async with Stepflow(engine=engine):
            with caplog.at_level(logging.WARNING):
                # The worker looks at it once more.
                assert await engine.notify("news", b"[{}]") == 1
                async with asyncio.timeout(30):
                    while "is refused by the wait's type" not in caplog.text:
                        await asyncio.sleep(0.01)
    assert "which is not in this process" in caplog.text


async def test_where_code_differs_each_side_goes_by_its_own(url, caplog):
    def a_flow(amount: Any, *, worker: bool) -> Stepflow:
        flow = Stepflow(engine=PostgresEngine(url, worker=worker, poll_s=0.1))

        @flow.workflow("differs")
        async def differs(ctx: Context) -> Any:
            return await ctx.wait_for_event("news", timeout=None, type=amount)

        return flow

    old = Annotated[int, pydantic.Field(le=9)]
    new = Annotated[int, pydantic.Field(le=99, gt=5)]
    async with a_flow(old, worker=False) as api, a_flow(new, worker=True):
        node = Node(api, api.engine)
        run_id = await waiting(node, "differs")
        with pytest.raises(InvalidInputError):
            await node.engine.notify("news", b"50")
        with caplog.at_level(logging.WARNING):
            assert await node.engine.notify("news", b"1") == 1
            async with asyncio.timeout(30):
                while "is refused by the wait's type" not in caplog.text:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while True:
                with suppress(EventNotFoundError):
                    await node.engine.notify("news", b"7")
                    break
        assert await result(node, run_id) == 7


async def test_of_several_those_take_it_whose_types_do_and_the_last_refusal_is_told(url, data):
    said = []
    async with on_both(url, data) as nodes:
        for node in nodes:
            numbers = [await waiting(node, "waits", "int") for _ in range(2)]
            text = await waiting(node, "waits", "text")
            said.append(await refusal(node, b"[]"))
            assert await node.engine.notify("news", b"7") == 2
            assert [await result(node, run_id) for run_id in numbers] == [7, 7]
            anything = await waiting(node, "waits", "anything")
            assert await node.engine.notify("news", b"[]") == 1
            assert await result(node, anything) == []
            assert await node.engine.notify("news", b'"seven"') == 1
            assert await result(node, text) == "seven"
            with pytest.raises(EventNotFoundError):
                await node.engine.notify("news", b"7")
    assert said == ["expected str, got array"] * 2


async def test_a_run_that_waits_for_nothing_now_keeps_all_and_one_that_waits_only_what_fits(
    url, data
):
    async with on_both(url, data) as nodes:
        for node in nodes:
            run_id = await waiting(node, "keeps", 2)
            assert await node.engine.notify("news", b"1") == 1
            await node.engine.notify("begin", b"null")
            await until_waits(node, run_id, name="number")
            # It waits for its second, and keeps nothing that this refuses, addressed or not.
            for more in ({}, {"run_id": run_id}):
                assert await refusal(node, b'"two"', **more) == "expected int, got str"
            assert await node.engine.notify("news", b"2", run_id=run_id) == 1
            assert await result(node, run_id) == [1, 2]


async def test_a_run_takes_what_one_of_its_waits_takes(url, data):
    async with on_both(url, data) as nodes:
        for node in nodes:
            run_id = await waiting(node, "both", waits=2)
            assert await node.engine.notify("news", b'"word"', run_id=run_id) == 1
            async with asyncio.timeout(30):
                view = await node.engine.wait(run_id)
            assert view.status == "failed"


async def test_what_an_event_starts_does_not_hang_on_who_waits(url, data):
    async with on_both(url, data) as nodes:
        for node in nodes:

            @node.flow.workflow("on-news", on="news")
            async def on_news(ctx: Context, value: str) -> str:
                return value

            run_id = await waiting(node, "waits", "int")
            assert await node.engine.notify("news", b'"seven"') == 1
            # Neither takes it.
            assert await refusal(node, b"[]") == "expected int, got array"
            assert await node.engine.notify("news", b"7") == 1
            assert await result(node, run_id) == 7


async def test_what_a_workflow_sends_reaches_those_whose_types_take_it(url, data):
    async with on_both(url, data) as nodes:
        for node in nodes:
            number, text = [await waiting(node, "waits", kind) for kind in ("int", "text")]
            for payload, reached in (([], 0), (7, 1), ("seven", 1)):
                sender = await node.flow.trigger("sends", payload)
                assert await result(node, sender.id) == reached
            assert [await result(node, run_id) for run_id in (number, text)] == [7, "seven"]


async def test_the_types_of_a_run_that_sleeps_are_known_to_who_has_never_run_it(url):
    async with cluster(url, passivate_after_s=0.01) as api:
        run_id = await waiting(api, "waits", "payment")
        with psycopg.connect(url, autocommit=True) as conn:
            async with asyncio.timeout(30):
                # Until no worker has it.
                while conn.execute("select wake from stepflow.runs").fetchone() == (None,):
                    await asyncio.sleep(0.01)
    async with a_node(url, worker=False).flow as flow:
        with pytest.raises(InvalidInputError):
            await flow.engine.notify("news", b"7")
        assert (await flow.get_run(run_id)).status == "running"


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Do something once while an event's types are being looked at."""

    def set_up(act: Any) -> None:
        todo = [act]

        async def with_a_pause(types: Any, payload: bytes, ask: Any) -> Any:
            async def asking(taking: list[str], refusing: list[str]) -> Any:
                row = await ask(taking, refusing)
                if row[2] and todo:
                    await todo.pop()()
                return row

            return await deliver(types, payload, asking)

        monkeypatch.setattr("stepflow.engine.postgres.engine.deliver", with_a_pause)

    return set_up


async def test_a_run_whose_wait_is_over_by_the_time_of_the_delivery_keeps_the_event(url, between):
    async with cluster(url) as api:
        run_id = await waiting(api, "keeps", 2)
        await api.engine.notify("begin", b"null")
        await until_waits(api, run_id, name="number")

        async def another() -> None:
            assert await api.engine.notify("news", b"1") == 1

        between(another)
        assert await api.engine.notify("news", b"2") == 1
        assert await result(api, run_id) == [1, 2]


async def test_who_begins_to_wait_meanwhile_is_asked_too(url, between):
    async with cluster(url) as api:
        number = await waiting(api, "waits", "int")
        late: list[str] = []

        async def another() -> None:
            late.append(await waiting(api, "waits", "text"))

        between(another)
        # The second is known by then: nobody takes it, and both wait on.
        assert await refusal(api, b"[]") == "expected str, got array"
        assert await api.engine.notify("news", b"7") == 1
        assert await api.engine.notify("news", b'"seven"') == 1
        assert [await result(api, run_id) for run_id in (number, *late)] == [7, "seven"]


async def test_where_all_take_anything_the_database_is_asked_once(url, monkeypatch):
    asked = []
    real = PostgresEngine._offer

    async def offer(engine: PostgresEngine, *args: Any) -> Any:
        asked.append(args)
        return await real(engine, *args)

    monkeypatch.setattr(PostgresEngine, "_offer", offer)
    async with cluster(url) as api:
        run_id = await waiting(api, "waits", "anything")
        assert await api.engine.notify("news", b"[]") == 1
        assert await result(api, run_id) == []
    assert len(asked) == 1


async def test_a_type_that_has_no_name_is_known_where_it_runs_and_elsewhere_the_worker_refuses(
    url, caplog
):
    async with cluster(url) as api:
        run_id = await waiting(api, "waits", "nameless")
        with caplog.at_level(logging.WARNING):
            assert await api.engine.notify("news", b"7") == 1
            async with asyncio.timeout(30):
                while "is refused by the wait's type" not in caplog.text:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while True:
                # Its wait goes on when that is written.
                with suppress(EventNotFoundError):
                    await api.engine.notify("news", b'{"cents":1}')
                    break
        assert await result(api, run_id) == {"cents": 1}
    node = a_node(url, worker=True)
    async with node.flow:
        await waiting(node, "waits", "nameless")
        assert await refusal(node, b"7") == "expected object, got int"


async def test_a_worker_wakes_a_sleeping_run_of_which_it_does_not_know_what_it_takes(url, caplog):
    first = a_node(url, worker=True, passivate_after_s=0.01)
    async with first.flow:
        run_id = await waiting(first, "waits", "nameless")
    async with cluster(url) as api:
        with caplog.at_level(logging.WARNING):
            assert await api.engine.notify("news", b"7") == 1
            async with asyncio.timeout(30):
                while "is refused by the wait's type" not in caplog.text:
                    await asyncio.sleep(0.01)
        assert (await api.engine.get_run(run_id)).status == "running"


async def test_after_a_retry_the_types_are_known_again(url):
    FAILING.append(1)
    async with cluster(url) as api:
        run = await api.flow.trigger("fails-first")
        async with asyncio.timeout(30):
            assert (await api.engine.wait(run.id)).status == "failed"
    FAILING.clear()
    # By a worker that has not seen any of its waits.
    async with cluster(url) as api:
        await api.flow.retry(run.id)
        await until_waits(api, run.id)
        with psycopg.connect(url, autocommit=True) as conn:
            async with asyncio.timeout(30):
                while conn.execute("select type from stepflow.waits").fetchone() == (None,):
                    await asyncio.sleep(0.01)
        assert await refusal(api, b'"x"') == "expected int, got str"
        assert await api.engine.notify("news", b"7") == 1
        assert await result(api, run.id) == 7


async def test_who_is_never_done_with_looking_is_told_to_come_again():
    asked = []

    async def ask(taking: list[str], refusing: list[str]) -> Any:
        asked.append((list(taking), list(refusing)))
        return 0, None, [f'"nowhere:Type{len(asked)}"']

    with pytest.raises(UnavailableError):
        await deliver(Types(Registry()), b"1", ask)
    assert asked[2] == (['"nowhere:Type1"', '"nowhere:Type2"'], [])


async def test_what_waits_take_is_said_again_when_it_could_not_be_written(url, monkeypatch):
    node = a_node(url, worker=True)
    async with node.flow:
        run_id = await waiting(node, "waits", "int")
        waits = node.engine._worker.waits
        (key,) = [step.key for step in (await node.engine.get_run(run_id)).steps]

        async def gone(*_: Any) -> None:
            raise UnavailableError("gone")

        waits._untold = {(run_id, key)}
        with monkeypatch.context() as patch:
            patch.setattr(waits._database, "act", gone)
            with pytest.raises(UnavailableError):
                await waits.say()
        assert waits._untold == {(run_id, key)}
        await waits.say()
        assert waits._untold == set()


async def test_of_runs_that_were_moved_in_one_of_each_kind_is_woken_to_hear_what_it_takes(
    url, data
):
    async with on_local(str(data)) as local:
        for kind in ("int", "int", "payment"):
            await waiting(local, "waits", kind)
        paused = await waiting(local, "waits", "text")
        await local.flow.pause(paused)
    await mover(data, url).move()
    with psycopg.connect(url, autocommit=True) as conn:
        untold = "select run_id from stepflow.waits where type is null"
        assert len(conn.execute(untold).fetchall()) == 4
        async with cluster(url, passivate_after_s=0.01) as api:
            async with asyncio.timeout(30):
                while conn.execute(untold).fetchall() != [(paused,)]:
                    await asyncio.sleep(0.01)
            # Of the paused one nobody asks, so it takes anything.
            assert await api.engine.notify("news", b'"any"') == 1
            assert await refusal(api, b'"any"') == "expected object, got str"
            assert await api.engine.notify("news", b"7") == 2
