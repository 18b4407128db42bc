"""Lists over HTTP: runs by page and filter, workflows, awaited events, and the pages for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.claims.http.shapes import expect_problem, until_text
from stepflow.testing.conformance.reading import fresh

if TYPE_CHECKING:
    from stepflow.testing.conformance.door import Door

__all__ = ["HttpListClaims"]


class HttpListClaims(Claims):
    """The claims."""

    async def test_a_page_has_runs_without_steps_and_where_to_go_on(self, door: Door) -> None:
        for number in range(3):
            await door.trigger("conformance-echo", number)
        page = await door.json("/runs?workflowId=conformance-echo&limit=2")
        assert page.keys() >= {"runs", "nextCursor"}
        assert len(page["runs"]) == 2
        for run in page["runs"]:
            assert run.keys() >= {"id", "workflowId", "status", "input", "createdAt", "updatedAt"}
            assert "steps" not in run
        assert page["nextCursor"]

    async def test_pages_read_at_different_nodes_hold_each_run_once(self, door: Door) -> None:
        started = [(await door.trigger("conformance-echo", n))[0] for n in range(9)]
        seen: list[str] = []
        cursor = ""
        while not set(started) <= set(seen):
            path = f"/runs?workflowId=conformance-echo&limit=2{cursor}"
            page = await door.json(path)
            seen += [run["id"] for run in page["runs"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={quote(page['nextCursor'], safe='')}"
        assert [run_id for run_id in seen if run_id in started] == started[::-1]
        assert len(seen) == len(set(seen))

    async def test_a_filter_takes_what_it_names(self, door: Door) -> None:
        failed, _ = await door.trigger("conformance-fail")
        await door.whole(failed)
        live, _ = await door.trigger("conformance-wait", fresh())
        page = await door.json("/runs?status=failed&limit=200")
        assert {run["status"] for run in page["runs"]} == {"failed"}
        assert failed in {run["id"] for run in page["runs"]}
        page = await door.json("/runs?status=running,failed&workflowId=conformance-wait&limit=200")
        assert {run["workflowId"] for run in page["runs"]} == {"conformance-wait"}
        assert live in {run["id"] for run in page["runs"]}
        created = (await door.json(f"/runs/{live}"))["createdAt"]
        at = quote(created, safe="")
        after = await door.json(f"/runs?createdAfter={at}&limit=200")
        before = await door.json(f"/runs?createdBefore={at}&limit=200")
        assert failed not in {run["id"] for run in after["runs"]}
        assert live not in {run["id"] for run in before["runs"]}

    @pytest.mark.parametrize(
        "query",
        [
            *("status=done", "limit=0", "limit=x", "cursor=made-up", "createdAfter=yesterday"),
            "createdBefore=2024-13-01T00:00:00Z",
        ],
    )
    async def test_a_query_that_says_nothing_is_400(self, door: Door, query: str) -> None:
        expect_problem(await door.get(f"/runs?{query}"), 400, "INVALID_INPUT")

    async def test_workflows_are_told_with_their_schemas(self, door: Door) -> None:
        listed = await door.json("/workflows")
        rows = {row["id"]: row for row in listed["workflows"]}
        assert {"conformance-echo", "conformance-count", "conformance-keep"} <= rows.keys()
        assert rows["conformance-keep"]["events"] == ["kept-{id}"]
        one = await door.json("/workflows/conformance-count")
        schema: Any = one["inputSchema"]
        assert "count" in str(schema)
        assert one["outputSchema"] == {"type": "integer"}
        expect_problem(await door.get("/workflows/no-such"), 404, "WORKFLOW_NOT_FOUND")

    async def test_awaited_events_are_told_at_every_node(self, door: Door) -> None:
        order = fresh()
        runs = [(await door.trigger("conformance-wait", order))[0] for _ in range(2)]
        for run_id in runs:
            await until_text(door, run_id, '"state":"waiting"')
        for node in door.nodes:
            # From just before it, so that what others wait for is not in the way.
            path = f"/events?cursor=answer-{order[:-1]}"
            rows = {row["eventId"]: row for row in (await door.json(path, node=node))["events"]}
            row = rows[f"answer-{order}"]
            assert row["runs"] == 2
            assert set(row["runIds"]) == set(runs)

    async def test_it_says_that_it_is_ready(self, door: Door) -> None:
        for node in door.nodes:
            assert (await door.get("/ready", key=None, node=node)).status_code == 200

    async def test_metrics_are_prometheus_text(self, door: Door) -> None:
        answer = await door.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "\n# TYPE stepflow_" in "\n" + answer.text

    async def test_the_pages_for_people_need_no_credentials(self, door: Door) -> None:
        docs = await door.get("/docs", key=None)
        assert docs.headers["content-type"].startswith("text/html")
        page = await door.get("/ui", key=None, follow_redirects=True)
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )

    async def test_schedules_are_listed_if_there_are_any(self, door: Door) -> None:
        listed = await door.json("/schedules")
        assert listed.keys() == {"schedules"}
        expect_problem(await door.get("/schedules/no-such"), 404, "NOT_FOUND")

    @needs("system")
    async def test_the_service_is_told_at_a_glance(self, door: Door) -> None:
        found = await door.json("/system")
        assert found["state"] == "ready"
        assert found["timestamp"].endswith("Z")
