"""One stream over many runs: list, then stream from the page's cursor, and nothing is missed."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.claims.http.shapes import expect_problem
from stepflow.testing.conformance.reading import fresh

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stepflow.testing.conformance.door import Door

__all__ = ["ManyClaims"]


async def _events(door: Door, path: str, **more: Any) -> AsyncGenerator[tuple[str, str, Any]]:
    """Yield id, event and data of each."""
    block: dict[str, str] = {}
    async with aclosing(door.lines(path, **more)) as lines:
        async for line in lines:
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            event, block = block, {}
            if "event" in event:
                yield event.get("id", ""), event["event"], json.loads(event["data"])


class ManyClaims(Claims):
    """The claims."""

    async def _cursor(self, door: Door) -> str:
        cursor = (await door.json("/runs?limit=1"))["streamCursor"]
        assert cursor
        return str(cursor)

    @needs("stream-all")
    async def test_from_a_pages_cursor_on_each_run_is_told_whole(self, door: Door) -> None:
        cursor = await self._cursor(door)
        runs = {(await door.trigger("conformance-echo", n))[0] for n in range(3)}
        told: dict[str, list[str]] = {run_id: [] for run_id in runs}
        path = f"/stream?workflowId=conformance-echo&lastEventId={cursor}"
        async with aclosing(_events(door, path)) as events:
            async for _, event, data in events:
                if data["runId"] not in runs:
                    continue
                assert data["workflowId"] == "conformance-echo"
                told[data["runId"]].append(event)
                if all(names[-1:] == ["complete"] for names in told.values()):
                    break
        assert list(told.values()) == [["status", "complete"]] * 3

    @needs("stream-all")
    async def test_it_goes_on_after_any_of_its_events_at_every_node(self, door: Door) -> None:
        cursor = await self._cursor(door)
        order = fresh()
        run_id, _ = await door.trigger("conformance-count", {"id": order, "count": 2})
        await door.whole(run_id)
        whole = await self._until_end(door, run_id, cursor, 0)
        assert [event for _, event, _ in whole].count("step") == 2
        for place, (event_id, _, _) in enumerate(whole[:-1]):
            for node in door.nodes:
                rest = await self._until_end(door, run_id, event_id, node)
                assert rest == whole[place + 1 :], f"after {event_id} at node {node}"

    async def _until_end(
        self, door: Door, run_id: str, cursor: str, node: int
    ) -> list[tuple[str, str, Any]]:
        got: list[tuple[str, str, Any]] = []
        path = f"/stream?runId={run_id}"
        headers = {"Last-Event-ID": cursor}
        async with aclosing(_events(door, path, headers=headers, node=node)) as events:
            async for event in events:
                got.append(event)
                if event[1] in {"complete", "error"}:
                    break
        return got

    @needs("stream-all")
    async def test_a_cursor_of_another_store_gets_a_resync(self, door: Door) -> None:
        path = "/stream?lastEventId=0123456789abcdef-7"
        async with aclosing(_events(door, path)) as events:
            _, event, data = await anext(events)
        assert event == "resync"
        assert data["streamCursor"]

    @needs("stream-all")
    async def test_a_token_for_runs_watches_these(self, door: Door) -> None:
        cursor = await self._cursor(door)
        run_id, own = await door.trigger("conformance-echo", 1)
        other, _ = await door.trigger("conformance-echo", 2)
        made = await door.post("/tokens", {"runIds": [run_id]})
        token = made.json()["publicAccessToken"]
        await door.whole(other)
        path = f"/stream?token={token}&lastEventId={cursor}"
        async with aclosing(_events(door, path, key=None)) as events:
            async for _, event, data in events:
                assert data["runId"] == run_id
                if event == "complete":
                    break
        refused = await door.get(f"/stream?token={own}", key=None)
        expect_problem(refused, 403, "FORBIDDEN")
