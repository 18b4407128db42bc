"""Views as plain values, as bytes, and as pydantic writes and describes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import msgspec
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from stepflow import MEMORY, Context, RunPage, RunView, Stepflow
from stepflow.model.audit import AuditPage
from stepflow.model.schedules import BackfillView, ScheduleView
from stepflow.model.views import StepView, WorkflowView
from stepflow.model.why import WhyView

if TYPE_CHECKING:
    from stepflow.model.shown import Shown

VIEWS = [RunView, RunPage, StepView, WorkflowView, WhyView, AuditPage, ScheduleView, BackfillView]


def a_run(result: str = '{"a":[1,"ü"]}') -> RunView:
    return RunView(
        id="run_12345678",
        workflow_id="w",
        status="completed",
        input=msgspec.Raw(b"null"),
        steps=[StepView(name="s", status="completed", key="s#1", kind="step")],
        created_at="2024-01-15T10:30:00Z",
        updated_at="2024-01-15T10:30:01Z",
        result=msgspec.Raw(result.encode()),
    )


def test_a_view_is_plain_values_by_the_names_of_the_api() -> None:
    run = a_run()
    assert json.loads(run.to_json()) == run.to_dict()
    assert run.to_dict() == {
        "id": "run_12345678",
        "workflowId": "w",
        "status": "completed",
        "input": None,
        "steps": [{"name": "s", "status": "completed", "key": "s#1", "kind": "step"}],
        "createdAt": "2024-01-15T10:30:00Z",
        "updatedAt": "2024-01-15T10:30:01Z",
        "result": {"a": [1, "ü"]},
    }


def test_pydantic_takes_a_view_as_it_is_and_writes_it_as_the_api_does() -> None:
    class Order(BaseModel):
        run: RunView
        more: list[RunView] = []

    run = a_run()
    order = Order(run=run, more=[run])
    assert order.run is run
    assert order.model_dump()["run"] == run.to_dict()
    assert json.loads(order.model_dump_json())["more"] == [run.to_dict()]
    with pytest.raises(ValidationError):
        TypeAdapter(RunView).validate_python({"id": "run_12345678"})


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_each_view_has_a_schema_without_references(kind: type[Shown], mode: Any) -> None:
    schema = TypeAdapter(kind).json_schema(mode=mode)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "$ref" not in json.dumps(schema)
    assert set(schema["properties"]) == {
        field.encode_name for field in msgspec.structs.fields(kind)
    }


def test_what_the_schema_says_of_a_run_is_so() -> None:
    schema = TypeAdapter(RunView).json_schema(mode="serialization")
    jsonschema.validate(a_run().to_dict(), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(a_run().to_dict() | {"status": "nothing"}, schema)


@pytest.mark.asyncio
async def test_a_route_of_fastapi_may_return_runs() -> None:
    flow, app = Stepflow(MEMORY), FastAPI()

    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    async def one() -> RunView:
        run = await flow.trigger("echo", {"deep": [None, 1.5]})
        await run.result()
        return await run.get()

    async def page() -> RunPage:
        return await flow.list_runs()

    app.get("/run", response_model=RunView)(one)
    app.get("/runs", response_model=RunPage)(page)
    transport = httpx.ASGITransport(app)
    async with flow, httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        run = (await client.get("/run")).json()
        assert run["result"] == run["input"] == {"deep": [None, 1.5]}
        rows = (await client.get("/runs")).json()["runs"]
        assert [row["id"] for row in rows] == [run["id"]]
    answer = app.openapi()["paths"]["/run"]["get"]["responses"]["200"]
    described = answer["content"]["application/json"]["schema"]
    assert {"workflowId", "result"} <= set(described["properties"])
