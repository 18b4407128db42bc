"""docs/operations.md names the figures that /metrics has, and Prometheus' own parser reads them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stepflow import MEMORY, Concurrency, Context, Stepflow
from stepflow.journal.stats import COMMIT_BOUNDS_S
from stepflow.web.metrics import exposition

pytestmark = pytest.mark.asyncio

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def make_flow() -> Stepflow:
    flow = Stepflow(MEMORY)

    @flow.workflow("one", concurrency=Concurrency(1), aliases=["uno"])
    async def one(ctx: Context, _: Any) -> None:
        await ctx.wait_for_event("go", "go")

    @flow.workflow("fails")
    async def fails(ctx: Context) -> None:
        raise ValueError("no")

    return flow


def read(flow: Stepflow) -> dict[str, Any]:
    text = exposition(flow.engine.metrics()).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Any], name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return float(found)


def family_of(name: str) -> str:
    """Return the name under which the parser knows it: counters go without their ending."""
    return name.removesuffix("_total")


async def test_docs_and_metrics_name_the_same_figures() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### Figures")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(stepflow_\w+)` \| .{5,} \|$", section, re.MULTILINE)
    assert len(told) == len(set(told))
    async with make_flow() as flow:
        families = read(flow)
    assert {family_of(name) for name in told} == set(families)
    for name in told:
        kind = families[family_of(name)].type
        assert (kind == "counter") is name.endswith("_total"), name


async def test_the_figures_of_each_workflow_move() -> None:
    async with make_flow() as flow:
        first = await flow.trigger("one")
        second = await flow.trigger("one")
        failing = await flow.trigger("fails")
        await flow.engine.wait(failing.id)
        now = read(flow)
        assert value(now, "stepflow_workflow_runs_live", workflow="one") == 2
        assert value(now, "stepflow_workflow_runs_queued", workflow="one") == 1
        assert value(now, "stepflow_workflow_runs_started_total", workflow="one") == 2
        ended = "stepflow_workflow_runs_ended_total"
        assert value(now, ended, workflow="fails", status="failed") == 1
        assert value(now, "stepflow_workflow_runs_live", workflow="fails") == 0
        await flow.engine.cancel(second.id)
        await flow.engine.wait(second.id)
        await flow.notify("go")
        await first.result()
        now = read(flow)
        assert value(now, "stepflow_workflow_runs_live", workflow="one") == 0
        assert value(now, "stepflow_workflow_runs_queued", workflow="one") == 0
        assert value(now, ended, workflow="one", status="completed") == 1
        assert value(now, ended, workflow="one", status="cancelled") == 1


async def test_runs_queued_are_no_more_when_they_were_let_in() -> None:
    async with make_flow() as flow:
        runs = [await flow.trigger("one") for _ in range(3)]
        assert value(read(flow), "stepflow_workflow_runs_queued", workflow="one") == 2
        for left, run in zip((1, 0, 0), runs, strict=True):
            while flow.engine.sup.runs.status(run.id) != "running":  # type: ignore[attr-defined]
                await flow.engine.require_run(run.id)
            await flow.notify("go", run_id=run.id)
            await run.result()
            assert flow.engine.sup.admission.waiting["one"] in {left, left + 1}  # type: ignore[attr-defined]
        assert value(read(flow), "stepflow_workflow_runs_queued", workflow="one") == 0


async def test_commits_are_a_histogram() -> None:
    async with make_flow() as flow:
        await (await flow.trigger("one")).cancel()
        families = read(flow)
        stats = flow.engine.sup.journal.stats()  # type: ignore[attr-defined]
    name = "stepflow_journal_commit_seconds"
    assert families[name].type == "histogram"
    buckets = [s for s in families[name].samples if s.name == f"{name}_bucket"]
    assert [float(s.labels["le"]) for s in buckets] == [*COMMIT_BOUNDS_S, float("inf")]
    counts = [s.value for s in buckets]
    assert counts == sorted(counts)
    assert counts[-1] == value(families, f"{name}_count") == sum(stats.commits) > 0
    assert value(families, f"{name}_sum") == pytest.approx(stats.commit_seconds_total)


async def test_a_figure_of_the_loop_and_of_the_start_is_there() -> None:
    async with make_flow() as flow:
        families = read(flow)
        assert value(families, "stepflow_recovery_seconds") > 0
        assert value(families, "stepflow_journal_snapshot_age_seconds") >= 0
        assert value(families, "stepflow_loop_lag_seconds_max") >= 0
