"""The published contract, byte for byte: a run from trigger to end, and what is refused."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest

from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.claims.http.shapes import (
    expect,
    expect_problem,
    masked,
    until_text,
)
from stepflow.testing.conformance.reading import NO_RUN, fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.door import Door

__all__ = ["PublishedClaims"]

_WAITING: Final = (
    '{"id":"RUN","workflowId":"conformance-wait","status":"running","input":"ORDER","steps":['
    '{"name":"before","status":"completed","key":"before#1","kind":"step","result":1,"attempts":1,'
    '"startedAt":"TIME","completedAt":"TIME"},'
    '{"name":"answer","status":"pending","key":"answer#1","kind":"event","startedAt":"TIME",'
    '"eventId":"answer-ORDER"}],"createdAt":"TIME","updatedAt":"TIME","state":"waiting"}'
)
_ENDED: Final = (
    '{"id":"RUN","workflowId":"conformance-wait","status":"completed","input":"ORDER","steps":['
    '{"name":"before","status":"completed","key":"before#1","kind":"step","result":1,"attempts":1,'
    '"startedAt":"TIME","completedAt":"TIME"},'
    '{"name":"answer","status":"completed","key":"answer#1","kind":"event","result":{"amount":42},'
    '"startedAt":"TIME","completedAt":"TIME","eventId":"answer-ORDER"}],'
    '"createdAt":"TIME","updatedAt":"TIME","state":"completed","result":{"amount":42}}'
)
_FAILED: Final = (
    '{"id":"RUN","workflowId":"conformance-fail","status":"failed","input":null,"steps":['
    '{"name":"refuse","status":"failed","key":"refuse#1","kind":"step","error":{"type":"ValueError",'
    '"message":"refused on purpose","step":"refuse","attempts":1},"attempts":1,"startedAt":"TIME",'
    '"completedAt":"TIME"}],"createdAt":"TIME","updatedAt":"TIME","state":"failed",'
    '"error":{"type":"ValueError","message":"refused on purpose","step":"refuse","attempts":1}}'
)


class PublishedClaims(Claims):
    """The claims."""

    async def test_a_run_from_its_trigger_to_its_end(self, door: Door) -> None:
        order = fresh()
        started = await door.post("/trigger/conformance-wait", order)
        expect(started, 200, '{"runId":"RUN","publicAccessToken":"TOKEN"}')
        run_id, token = started.json().values()
        assert re.fullmatch(r"run_[A-Za-z0-9]{22}", run_id)
        waiting = await until_text(door, run_id, '"state":"waiting"')
        expect(waiting, 200, _WAITING.replace("ORDER", order))
        by_token = await door.get(f"/runs/{run_id}?token={token}", key=None)
        assert by_token.content == waiting.content
        told = await door.post(f"/notify/answer-{order}", {"amount": 42})
        expect(told, 200, '{"success":true}')
        await door.whole(run_id)
        expect(await door.get(f"/runs/{run_id}"), 200, _ENDED.replace("ORDER", order))

    async def test_a_failed_run_is_shown_with_its_error(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-fail")
        await door.whole(run_id)
        expect(await door.get(f"/runs/{run_id}"), 200, _FAILED)

    async def test_what_was_acknowledged_is_read_at_every_node(self, door: Door) -> None:
        for first in door.nodes:
            answer = await door.post("/trigger/conformance-wait", fresh(), node=first)
            run_id = answer.json()["runId"]
            for node in door.nodes:
                read = await door.get(f"/runs/{run_id}", node=node)
                assert read.json()["id"] == run_id
                listed = await door.json("/runs?workflowId=conformance-wait&limit=5", node=node)
                assert run_id in {run["id"] for run in listed["runs"]}

    async def test_health_is_ok_and_names_the_time(self, door: Door) -> None:
        for node in door.nodes:
            answer = await door.get("/health", key=None, node=node)
            expect(answer, 200, '{"status":"ok","timestamp":"TIME"}')
            stamp = answer.json()["timestamp"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stamp)
            datetime.fromisoformat(stamp)

    async def test_the_document_is_the_same_everywhere(self, door: Door) -> None:
        texts: set[str] = set()
        for node in door.nodes:
            answer = await door.get("/openapi.yaml", key=None, node=node)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/yaml"
            assert answer.text.startswith('openapi: "3.1.0"\n')
            # Each names as its server the place that it is served at.
            texts.add(answer.text.partition("\npaths:")[2])
        assert len(texts) == 1
        assert "\n  /runs/{runId}/stream:\n" in texts.pop()

    @pytest.mark.parametrize(
        ("method", "path", "content", "status", "body"),
        [
            ("POST", "/trigger/no-such", b"{}", 404, ("Workflow not found", "WORKFLOW_NOT_FOUND")),
            ("GET", f"/runs/{NO_RUN}", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
            ("GET", "/runs/nonsense", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
            ("GET", f"/runs/{NO_RUN}/stream", b"", 404, ("Run not found", "RUN_NOT_FOUND")),
            ("POST", "/notify/nobody-waits", b"{}", 404, ("Event not found", "EVENT_NOT_FOUND")),
            (
                *("POST", f"/notify/any?runId={NO_RUN}", b"{}", 404),
                ("Event not found", "EVENT_NOT_FOUND"),
            ),
            (
                *("POST", "/trigger/conformance-count", b'{"id":1,"count":1}', 400),
                ("id: expected str, got int", "INVALID_INPUT"),
            ),
            ("GET", "/no-such-route", b"", 404, ("Not found", "NOT_FOUND")),
            ("GET", "/trigger/x", b"", 405, ("Method not allowed", "METHOD_NOT_ALLOWED")),
        ],
    )
    async def test_what_is_refused_has_the_one_shape(
        self, door: Door, method: str, path: str, content: bytes, status: int, body: Any
    ) -> None:
        answer = await door.ask(method, path, content=content)
        expect(answer, status, f'{{"error":"{body[0]}","code":"{body[1]}"}}')

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            *(("DELETE", f"/runs/{NO_RUN}"), ("GET", f"/runs/{NO_RUN}/why")),
            *(("POST", f"/runs/{NO_RUN}/{act}") for act in ("cancel", "pause", "resume", "retry")),
            *(("POST", f"/runs/{NO_RUN}/token"), ("GET", f"/runs/{NO_RUN}/steps/x")),
            *(("POST", "/runs/nonsense/cancel"),),
        ],
    )
    async def test_a_run_that_is_not_there_is_404_on_every_route(
        self, door: Door, method: str, path: str
    ) -> None:
        expect_problem(await door.ask(method, path), 404, "RUN_NOT_FOUND")

    async def test_a_405_names_the_methods_that_are_allowed(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-echo")
        for method, path, allowed in (
            ("GET", "/trigger/conformance-echo", "POST"),
            ("PUT", f"/runs/{run_id}", "DELETE, GET, HEAD"),
            ("POST", "/health", "GET, HEAD"),
        ):
            answer = await door.ask(method, path)
            expect_problem(answer, 405, "METHOD_NOT_ALLOWED")
            assert answer.headers["allow"] == allowed

    async def test_head_is_get_without_the_body(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-echo", "x")
        await door.whole(run_id)
        for path in (f"/runs/{run_id}", "/health", "/openapi.yaml", "/workflows"):
            got = await door.get(path, node=0)
            head = await door.ask("HEAD", path, node=0)
            assert (head.status_code, head.content) == (200, b"")
            if path not in {"/health", "/workflows"}:
                assert head.headers["content-length"] == str(len(got.content))

    async def test_times_are_rfc_3339_in_utc(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-count", {"id": fresh(), "count": 1})
        run = await door.ended(run_id)
        (step,) = run["steps"]
        times = [
            *(run["createdAt"], step["startedAt"], step["completedAt"], run["updatedAt"]),
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", t) for t in times)
        assert times == sorted(times)
        assert masked(times[0]) == "TIME"
