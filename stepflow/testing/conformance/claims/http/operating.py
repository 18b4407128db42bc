"""What operators do, over HTTP: an act is answered with the run, in a wrong state with 409."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from stepflow.testing.conformance.claims.base import Claims, needs
from stepflow.testing.conformance.claims.http.shapes import expect, expect_problem, until_text
from stepflow.testing.conformance.reading import NO_RUN, fresh

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.testing.conformance.door import Door

__all__ = ["OperatingClaims"]


async def _no_schedules(_: Claims, door: Door) -> None:
    """Claim that there is none: an engine that has none refuses to start with a workflow's."""
    assert (await door.json("/schedules"))["schedules"] == []
    refused = await door.post("/schedules/conformance-yearly/trigger")
    expect_problem(refused, 404, "NOT_FOUND")


class OperatingClaims(Claims):
    """The claims."""

    async def _waiting(self, door: Door, order: str = "") -> str:
        run_id, _ = await door.trigger("conformance-wait", order or fresh())
        await until_text(door, run_id, '"state":"waiting"')
        return run_id

    async def test_a_cancel_is_answered_with_the_run(self, door: Door) -> None:
        run_id = await self._waiting(door)
        answer = await door.post(f"/runs/{run_id}/cancel", {"reason": "no longer needed"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == run_id
        assert answer.json()["state"] in {"cancelling", "cancelled"}
        run = await door.ended(run_id)
        assert (run["status"], run["error"]["message"]) == ("cancelled", "no longer needed")
        expect_problem(await door.post(f"/runs/{run_id}/cancel"), 409, "CONFLICT")

    @needs("control")
    async def test_a_run_is_held_and_let_go(self, door: Door) -> None:
        order = fresh()
        run_id = await self._waiting(door, order)
        held = await door.post(f"/runs/{run_id}/pause")
        assert (held.status_code, held.json()["state"]) == (200, "paused")
        expect_problem(await door.post(f"/runs/{run_id}/pause"), 409, "CONFLICT")
        assert (await door.post(f"/runs/{run_id}/resume")).status_code == 200
        expect_problem(await door.post(f"/runs/{run_id}/resume"), 409, "CONFLICT")
        await door.post(f"/notify/answer-{order}", 1)
        assert (await door.ended(run_id))["result"] == 1

    @needs("control")
    async def test_a_failed_run_is_tried_again(self, door: Door, tmp_path: Path) -> None:
        path = tmp_path / "there"
        run_id, _ = await door.trigger("conformance-mended", str(path))
        before = await door.whole(run_id)
        path.touch()
        assert (await door.post(f"/runs/{run_id}/retry")).status_code == 200
        run = await door.ended(run_id)
        assert (run["status"], run["result"]) == ("completed", "there")
        expect_problem(await door.post(f"/runs/{run_id}/retry"), 409, "CONFLICT")
        # The end that was undone is not told again; whoever had it gets what came after it.
        after = await door.whole(run_id)
        assert after.count("event: error\n") == 0
        assert after.count("event: complete\n") == 1
        last = before.rstrip().rpartition("id: ")[2].partition("\n")[0]
        rest = await door.whole(run_id, headers={"Last-Event-ID": last})
        assert rest.endswith(
            "event: complete\n" + 'data: {"status":"completed","result":"there"}\n\n'
        )

    @needs("fork")
    async def test_a_fork_is_a_run_of_its_own(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-count", {"id": fresh(), "count": 2})
        key = (await door.ended(run_id))["steps"][1]["key"]
        answer = await door.post(f"/runs/{run_id}/fork", {"fromStep": key})
        expect(answer, 200, '{"runId":"RUN","publicAccessToken":"TOKEN"}')
        fork = await door.ended(answer.json()["runId"])
        assert (fork["status"], fork["result"]) == ("completed", 2)
        assert fork["lineage"]["runId"] == run_id
        refused = await door.post(f"/runs/{run_id}/fork", {"fromStep": "no-such"})
        expect_problem(refused, 400, "INVALID_INPUT")

    @needs("purge")
    async def test_a_finished_run_is_forgotten_and_a_live_one_is_not(self, door: Door) -> None:
        live = await self._waiting(door)
        expect_problem(await door.ask("DELETE", f"/runs/{live}"), 409, "CONFLICT")
        run_id, _ = await door.trigger("conformance-echo", 1)
        await door.whole(run_id)
        expect(await door.ask("DELETE", f"/runs/{run_id}"), 200, '{"success":true}')
        for node in door.nodes:
            expect_problem(await door.get(f"/runs/{run_id}", node=node), 404, "RUN_NOT_FOUND")
        expect_problem(await door.ask("DELETE", f"/runs/{run_id}"), 404, "RUN_NOT_FOUND")

    async def test_one_step_is_read_by_its_key(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-branches", 2)
        run = await door.ended(run_id)
        for step in run["steps"]:
            path = f"/runs/{run_id}/steps/{quote(step['key'], safe='')}"
            assert await door.json(path) == step
        expect_problem(await door.get(f"/runs/{run_id}/steps/no-such"), 404, "NOT_FOUND")

    @needs("why")
    async def test_it_says_what_a_run_waits_for(self, door: Door) -> None:
        order = fresh()
        run_id = await self._waiting(door, order)
        why = await door.json(f"/runs/{run_id}/why")
        assert list(why)[:2] == ["summary", "waitingFor"]
        (reason,) = why["waitingFor"]
        found = (reason["kind"], reason["name"], reason["eventId"])
        assert found == ("event", "answer", f"answer-{order}")

    async def test_an_idempotency_key_gives_the_same_run_at_every_node(self, door: Door) -> None:
        key = fresh()
        answers = [
            await door.post(
                "/trigger/conformance-echo", {"a": 1}, headers={"Idempotency-Key": key}, node=node
            )
            for node in [*door.nodes, 0]
        ]
        assert len({answer.json()["runId"] for answer in answers}) == 1
        other = await door.post(
            "/trigger/conformance-echo", {"a": 2}, headers={"Idempotency-Key": key}
        )
        expect_problem(other, 409, "CONFLICT")
        for bad in ("", "x" * 300):
            refused = await door.post(
                "/trigger/conformance-echo", 1, headers={"Idempotency-Key": bad}
            )
            expect_problem(refused, 400, "INVALID_INPUT")

    @needs("delay")
    async def test_a_delayed_run_is_pending_until_its_time(self, door: Door) -> None:
        answer = await door.post("/trigger/conformance-echo?delay=1h", 1)
        run_id = answer.json()["runId"]
        run = await door.json(f"/runs/{run_id}")
        assert (run["status"], run["state"]) == ("pending", "queued")
        assert (await door.post(f"/runs/{run_id}/cancel")).status_code == 200
        soon = await door.post("/trigger/conformance-echo?delay=30ms", 2)
        assert (await door.ended(soon.json()["runId"]))["result"] == 2
        refused = await door.post("/trigger/conformance-echo?delay=soon", 3)
        expect_problem(refused, 400, "INVALID_INPUT")

    @needs("bulk")
    async def test_one_call_acts_on_all_that_a_filter_takes(self, door: Door) -> None:
        runs = [await self._waiting(door) for _ in range(2)]
        done, _ = await door.trigger("conformance-echo", 1)
        await door.whole(done)
        body = {"action": "cancel", "filter": {"ids": [*runs, done]}}
        dry = await door.post("/runs/bulk", {**body, "dryRun": True})
        assert (dry.status_code, set(dry.json()["runIds"])) == (200, set(runs)), dry.text
        report = (await door.post("/runs/bulk", body)).json()
        assert set(report["runIds"]) == set(runs)
        for run_id in runs:
            assert (await door.ended(run_id))["status"] == "cancelled"
        expect_problem(
            await door.post("/runs/bulk", {"action": "cancel", "filter": {}}), 400, "INVALID_INPUT"
        )

    async def test_what_was_done_to_a_run_is_told(self, door: Door) -> None:
        run_id = await self._waiting(door)
        await door.post(f"/runs/{run_id}/cancel", {"reason": "spilt"})
        await door.whole(run_id)
        (entry,) = (await door.json(f"/runs/{run_id}/audit"))["audit"]
        assert (entry["action"], entry["reason"]) == ("cancel", "spilt")

    @needs("audit")
    async def test_what_was_done_lately_is_told(self, door: Door) -> None:
        run_id = await self._waiting(door)
        await door.post(f"/runs/{run_id}/cancel", {"reason": "spilt"})
        page = await door.json(f"/audit?runId={run_id}")
        assert [entry["action"] for entry in page["audit"]] == ["cancel"]

    @needs("export")
    async def test_a_run_is_one_file(self, door: Door) -> None:
        run_id, _ = await door.trigger("conformance-count", {"id": fresh(), "count": 1})
        await door.whole(run_id)
        answer = await door.get(f"/runs/{run_id}/export")
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="{run_id}.sfrun"'
        head, *records = [json.loads(line) for line in answer.text.splitlines()]
        assert (head["stepflow"], head["run"]) == ("run", run_id)
        assert [record["t"] for record in records][:2] == ["run.started", "step.started"]
        expect_problem(await door.get(f"/runs/{NO_RUN}/export"), 404, "RUN_NOT_FOUND")

    @needs("schedules", otherwise=_no_schedules)
    async def test_a_schedule_is_held_let_go_and_started_by_hand(self, door: Door) -> None:
        path = "/schedules/conformance-yearly"
        held = await door.post(f"{path}/pause")
        assert (held.status_code, held.json()["state"]) == (200, "paused")
        assert (await door.post(f"{path}/resume")).json()["state"] == "active"
        started = await door.post(f"{path}/trigger")
        assert started.status_code == 200, started.text
        run = await door.ended(started.json()["runId"])
        assert (run["workflowId"], run["status"]) == ("conformance-yearly", "completed")
        listed = (await door.json("/schedules"))["schedules"]
        assert "conformance-yearly" in {schedule["id"] for schedule in listed}
        assert (await door.json(path))["id"] == "conformance-yearly"
