"""Server-sent events, byte for byte: history, what follows, what was missed, at any node."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import pytest

from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.claims.http.shapes import expect_problem, masked, until_text
from stepflow.testing.conformance.reading import NO_RUN, fresh

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stepflow.testing.conformance.door import Door

__all__ = ["HttpStreamClaims"]

_BEGIN: Final = "retry: 1000\n\n"
# Ids only rise and may have holes: they are masked here, and looked at by themselves.
_STREAM: Final = """id: N
event: status
data: {"status":"running"}

id: N
event: status
data: {"status":"running","stepName":"before","key":"before#1","kind":"step","attempt":1}

id: N
event: step
data: {"name":"before","status":"completed","result":1,"key":"before#1","kind":"step"}

id: N
event: status
data: {"status":"running","stepName":"answer","key":"answer#1","kind":"event","eventId":"answer-ORDER"}

id: N
event: step
data: {"name":"answer","status":"completed","result":{"amount":42},"key":"answer#1","kind":"event"}

id: N
event: complete
data: {"status":"completed","result":{"amount":42}}

"""  # noqa: E501  one event's data is one line


def _blocks(text: str) -> list[str]:
    """Return the events of a stream, each as its bytes."""
    assert text.startswith(_BEGIN), text[:40]
    return [block + "\n\n" for block in text.removeprefix(_BEGIN).split("\n\n")[:-1]]


def _id(block: str) -> int:
    first = block.partition("\n")[0]
    assert first.startswith("id: "), block
    return int(first.removeprefix("id: "))


class HttpStreamClaims(Claims):
    """The claims."""

    async def _told(self, door: Door) -> tuple[str, str, str]:
        """Return a finished run, the id of its order and its whole stream."""
        order = fresh()
        run_id, _ = await door.trigger("conformance-wait", order)
        await until_text(door, run_id, '"state":"waiting"')
        await door.post(f"/notify/answer-{order}", {"amount": 42})
        return run_id, order, await door.whole(run_id)

    async def test_the_bytes_of_a_stream(self, door: Door) -> None:
        run_id, order, text = await self._told(door)
        ids = [_id(block) for block in _blocks(text)]
        assert ids == sorted(set(ids))
        told = text.removeprefix(_BEGIN)
        for event_id in ids:
            told = told.replace(f"id: {event_id}\n", "id: N\n", 1)
        assert told == _STREAM.replace("ORDER", order)
        answer = await door.get(f"/runs/{run_id}/stream")
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store, no-transform",
            "x-content-type-options": "nosniff",
        }
        assert {name: answer.headers.get(name) for name in headers} == headers
        assert "content-length" not in answer.headers

    async def test_every_node_tells_the_same_bytes_live_and_later(self, door: Door) -> None:
        order = fresh()
        run_id, token = await door.trigger("conformance-wait", order)
        live = [
            asyncio.ensure_future(
                door.get(f"/runs/{run_id}/stream?token={token}", key=None, node=node)
            )
            for node in door.nodes
        ]
        await until_text(door, run_id, '"state":"waiting"')
        await door.post(f"/notify/answer-{order}", {"amount": 42})
        texts = {(await answer).text for answer in live}
        texts |= {await door.whole(run_id, node=node) for node in door.nodes}
        assert len(texts) == 1
        assert len(_blocks(texts.pop())) == 6

    @pytest.mark.parametrize("way", ["header", "query"])
    async def test_after_any_event_comes_precisely_the_rest_at_any_node(
        self, door: Door, way: str
    ) -> None:
        run_id, _, text = await self._told(door)
        blocks = _blocks(text)
        for place, block in enumerate(blocks[:-1]):
            rest = _BEGIN + "".join(blocks[place + 1 :])
            if way == "header":
                got = await door.whole(run_id, headers={"Last-Event-ID": str(_id(block))})
            else:
                answer = await door.get(f"/runs/{run_id}/stream?lastEventId={_id(block)}")
                got = answer.text
            assert got == rest, f"after {_id(block)}"

    async def test_the_header_comes_before_the_query(self, door: Door) -> None:
        run_id, _, text = await self._told(door)
        blocks = _blocks(text)
        answer = await door.get(
            f"/runs/{run_id}/stream?lastEventId={_id(blocks[0])}",
            headers={"Last-Event-ID": str(_id(blocks[3]))},
        )
        assert _blocks(answer.text) == blocks[4:]

    async def test_a_finished_runs_last_id_is_204_which_stops_a_browser(self, door: Door) -> None:
        run_id, _, text = await self._told(door)
        last = str(_id(_blocks(text)[-1]))
        for node in door.nodes:
            answer = await door.get(
                f"/runs/{run_id}/stream", headers={"Last-Event-ID": last}, node=node
            )
            assert (answer.status_code, answer.content) == (204, b"")

    async def test_an_id_not_reached_yet_brings_the_run_itself_then_what_follows(
        self, door: Door
    ) -> None:
        order = fresh()
        run_id, _ = await door.trigger("conformance-wait", order)
        await until_text(door, run_id, '"state":"waiting"')
        async with aclosing(
            _events(door, f"/runs/{run_id}/stream", {"Last-Event-ID": "1000000"})
        ) as events:
            first = await anext(events)
            assert first["event"] == "resync"
            assert json.loads(first["data"])["id"] == run_id
            await door.post(f"/notify/answer-{order}", 1)
            rest = [event["event"] async for event in events]
        assert rest == ["step", "complete"]

    @pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1" * 30])
    async def test_a_text_that_is_no_id_counts_as_none(self, door: Door, text: str) -> None:
        run_id, _ = await door.trigger("conformance-echo", 1)
        whole = await door.whole(run_id)
        assert await door.whole(run_id, headers={"Last-Event-ID": text}) == whole

    async def test_a_stream_that_breaks_goes_on_at_another_node_by_its_id(self, door: Door) -> None:
        order = fresh()
        run_id, _ = await door.trigger("conformance-beside", {"id": order, "count": 4})
        path, got, last = f"/runs/{run_id}/stream", list[dict[str, str]](), ""
        for turn in range(8):
            node = turn % len(door.nodes)
            headers = {"Last-Event-ID": last} if last else {}
            async with aclosing(_events(door, path, headers, node=node)) as events:
                got.append(await anext(events))
            last = got[-1]["id"]
        await door.post(f"/notify/answer-{order}", "go")
        answer = await door.get(path, headers={"Last-Event-ID": last})
        put_together = "".join(_text(event) for event in got) + answer.text.removeprefix(_BEGIN)
        assert _BEGIN + put_together == await door.whole(run_id)

    async def test_failed_and_cancelled_runs_end_their_streams_with_an_error(
        self, door: Door
    ) -> None:
        run_id, _ = await door.trigger("conformance-fail")
        last = _blocks(await door.whole(run_id))[-1]
        assert last.endswith(
            'event: error\ndata: {"status":"failed","error":{"type":"ValueError",'
            '"message":"refused on purpose","step":"refuse","attempts":1}}\n\n'
        )
        run_id, _ = await door.trigger("conformance-wait", fresh())
        await until_text(door, run_id, '"state":"waiting"')
        assert (await door.post(f"/runs/{run_id}/cancel")).status_code == 200
        last = _blocks(await door.whole(run_id))[-1]
        assert '\nevent: error\ndata: {"status":"cancelled","error":{' in last

    async def test_a_stream_of_no_run_is_an_answer_not_a_stream(self, door: Door) -> None:
        answer = await door.get(f"/runs/{NO_RUN}/stream", headers={"Accept": "text/event-stream"})
        expect_problem(answer, 404, "RUN_NOT_FOUND")

    async def test_what_a_run_emits_is_in_its_history(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-tells")
        text = masked(await door.whole(run_id))
        assert 'event: emit\ndata: {"name":"token","data":{"text":"one"}}\n\n' in text
        emitted = next(b for b in _blocks(await door.whole(run_id)) if "event: emit" in b)
        assert _id(emitted) > 0


async def _events(
    door: Door, path: str, headers: dict[str, str], *, node: int | None = None
) -> AsyncGenerator[dict[str, str]]:
    """Yield the events of a stream as they come."""
    block: dict[str, str] = {}
    async with aclosing(door.lines(path, headers=headers, node=node)) as lines:
        async for line in lines:
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
            elif "event" in block:
                yield block
                block = {}
            else:
                block = {}


def _text(event: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in event.items()) + "\n"
