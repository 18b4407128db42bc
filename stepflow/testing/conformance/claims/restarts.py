"""Any process may be killed at any time: nothing acknowledged is lost, nothing recorded runs again.

Each claim is made for every process of the deployment in turn. Clients retry, as those of the
product do; what a claim awaits is bounded by the test's own time limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from stepflow.client import Client
from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.reading import (
    decoded,
    fresh,
    read_events,
    rows_of,
    until_event,
    until_waiting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from stepflow.model.views import RunView
    from stepflow.testing.conformance.deployment import Deployment

__all__ = ["RestartClaims", "patient"]

_TRIES = 200
_STEPS = 6


def patient(deployment: Deployment) -> Client:
    """Return a client that tries again until the deployment serves again."""
    return Client(deployment.url, deployment.api_key, tries=_TRIES)


async def _restart(deployment: Deployment, process: str) -> None:
    await asyncio.to_thread(deployment.kill, process)
    await asyncio.to_thread(deployment.revive, process)


def _ran(log: Path) -> Counter[tuple[str, str]]:
    """Return how often the step of each run and key was begun."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter((run_id, key) for run_id, key, _ in (line.split(" ") for line in lines))


def _recorded(view: RunView) -> set[tuple[str, str]]:
    """Return the steps of the run that have their result."""
    steps: Any = view.steps
    return {(view.id, step.key) for step in steps if step.status == "completed"}


class RestartClaims(Claims):
    """The claims. `processes` are those of the deployment."""

    processes: ClassVar[Sequence[str]] = ("server",)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make each claim for every process."""
        if "process" in metafunc.fixturenames:
            metafunc.parametrize("process", self.processes)

    async def test_no_recorded_step_runs_again(
        self, deployment: Deployment, process: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "steps"
        async with patient(deployment) as client:
            plan = {"id": fresh(), "steps": _STEPS, "log": str(log)}
            runs = [(await client.trigger("conformance-plodding", plan)).id for _ in range(4)]
            await until_event(client, runs[0], lambda event: event.event == "step")
            views = [await client.get_run(run_id) for run_id in runs]
            told = set[tuple[str, str]]().union(*(_recorded(view) for view in views))
            assert told, "some steps have ended"
            await _restart(deployment, process)
            ends = [await client.wait(run_id) for run_id in runs]
        assert [(end.status, decoded(end.result)) for end in ends] == [("completed", _STEPS)] * 4
        ran = _ran(log)
        assert {key: ran[key] for key in told if ran[key] > 1} == {}
        # At most the step that was under way, of each run.
        again = Counter(run_id for (run_id, _), times in ran.items() if times > 1)
        assert all(times <= 1 for times in again.values()), again
        assert len(ran) == 4 * _STEPS

    async def test_what_waits_goes_on_waiting_and_is_woken_once(
        self, deployment: Deployment, process: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "steps"
        async with patient(deployment) as client:
            plan = {"id": fresh(), "steps": 2, "log": str(log)}
            run = await client.trigger("conformance-logged", plan)
            await until_waiting(client, run.id)
            await _restart(deployment, process)
            await client.notify(f"go-on-{plan['id']}", "go")
            end = await client.wait(run.id)
        assert decoded(end.result) == [4, "go"]
        assert set(_ran(log).values()) == {1}

    async def test_an_acknowledged_event_is_not_lost(
        self, deployment: Deployment, process: str
    ) -> None:
        async with patient(deployment) as client:
            order = fresh()
            run = await client.trigger("conformance-wait", order)
            kept = await client.trigger("conformance-keep", {"id": order, "count": 2})
            await until_waiting(client, run.id)
            await until_waiting(client, kept.id)
            await client.notify(f"kept-{order}", 1)
            await client.notify(f"kept-{order}", 2)
            await client.notify(f"answer-{order}", "acknowledged")
            await _restart(deployment, process)
            assert decoded((await client.wait(run.id)).result) == "acknowledged"
            await client.notify(f"go-{order}")
            assert decoded((await client.wait(kept.id)).result) == [1, 2]

    async def test_an_acknowledged_cancel_is_carried_out(
        self, deployment: Deployment, process: str
    ) -> None:
        async with patient(deployment) as client:
            run = await client.trigger("conformance-cleanup", {"id": fresh(), "count": 2})
            await until_waiting(client, run.id)
            await client.cancel(run.id)
            await _restart(deployment, process)
            assert (await client.wait(run.id)).status == "cancelled"
            steps: Any = (await client.get_run(run.id)).steps
        cleaned = [decoded(step.result) for step in steps if step.kind == "step"]
        assert cleaned == ["cleaned 0", "cleaned 1"]

    async def test_a_used_key_gives_the_same_run_as_before(
        self, deployment: Deployment, process: str
    ) -> None:
        key = fresh()
        async with patient(deployment) as client:
            first = await client.trigger("conformance-echo", {"a": 1}, idempotency_key=key)
            await _restart(deployment, process)
            again = await client.trigger("conformance-echo", {"a": 1}, idempotency_key=key)
        assert first.id == again.id

    async def test_a_stream_goes_on_and_has_each_event_once(
        self, deployment: Deployment, process: str
    ) -> None:
        async with patient(deployment) as client:
            order = fresh()
            run = await client.trigger("conformance-beside", {"id": order, "count": 3})
            following = asyncio.ensure_future(read_events(client, run.id))
            await until_event(client, run.id, lambda e: e.json().get("result") == 8)
            await _restart(deployment, process)
            await client.notify(f"answer-{order}", "go")
            read = await following
            whole = await read_events(client, run.id)
        assert rows_of(read) == rows_of(whole)
        ids = [event.id for event in read]
        assert ids == sorted(set(ids))

    async def test_a_sleep_ends_although_its_process_was_killed(
        self, deployment: Deployment, process: str
    ) -> None:
        async with patient(deployment) as client:
            runs = [await client.trigger("conformance-sleep", 300) for _ in range(3)]
            await _restart(deployment, process)
            assert [decoded((await client.wait(run.id)).result) for run in runs] == [True] * 3

    async def test_children_are_found_again(self, deployment: Deployment, process: str) -> None:
        async with patient(deployment) as client:
            order = fresh()
            run = await client.trigger("conformance-parent-of-one", order)
            await until_event(client, run.id, lambda e: e.json().get("kind") == "child")
            await _restart(deployment, process)
            steps: Any = (await client.get_run(run.id)).steps
            await until_waiting(client, steps[0].child_run_id)
            await client.notify(f"answer-{order}", "found")
            assert decoded((await client.wait(run.id)).result) == "found"
