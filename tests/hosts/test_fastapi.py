"""FastAPI's own: the document it shows includes ours, its dependencies guard and say who calls."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.security import APIKeyCookie
from openapi_spec_validator import validate

from stepflow import MEMORY, Context, Principal, Stepflow, allow_all
from stepflow.integrations.fastapi import mount
from stepflow.web.openapi import document

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

KEY = "k" * 20
COOKIE = APIKeyCookie(name="user", auto_error=False)


def made() -> Stepflow:
    flow = Stepflow(MEMORY)

    @flow.workflow("echo")
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    return flow


@asynccontextmanager
async def client_of(flow: Stepflow, app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with flow, httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def refs(value: Any) -> set[str]:
    return set(re.findall(r"'\$ref': '([^']+)'", repr(value)))


def test_fastapis_document_includes_ours_whole_and_is_valid() -> None:
    app = FastAPI()

    class Run:
        """A model of the host's of the same name is no collision."""

    @app.get("/own", operation_id="own")
    def own() -> dict[str, str]:
        return {}

    made().mount(app, "/api/stepflow")
    shown = app.openapi()
    assert app.openapi() is shown
    validate(shown)
    assert "/own" in shown["paths"]
    ours = document()["paths"]
    for path, item in ours.items():
        for method in item.keys() - {"parameters"}:
            found = shown["paths"][f"/api/stepflow{path}"][method]
            assert found["operationId"] == item[method]["operationId"]
            assert found["summary"] == item[method]["summary"]
            assert set(found["responses"]) == set(item[method]["responses"])
            assert len(found.get("parameters", ())) == len(item.get("parameters", ())) + len(
                item[method].get("parameters", ())
            )
    schemas = {f"#/components/schemas/{name}" for name in shown["components"]["schemas"]}
    assert refs(shown) <= schemas
    stream = shown["paths"]["/api/stepflow/runs/{runId}/stream"]["get"]
    assert set(stream["responses"]["200"]["content"]) == {"text/event-stream"}
    schemes = shown["components"]["securitySchemes"]
    assert {"stepflowApiKey", "stepflowJwt", "stepflowPublicAccessToken"} <= set(schemes)
    assert {"name": "Stepflow: Runs"}.items() <= shown["tags"][1].items()


def test_a_dependency_that_authenticates_is_in_the_document_in_place_of_our_keys() -> None:
    app = FastAPI()

    def current(user: Annotated[str | None, Depends(COOKIE)]) -> Principal | None:
        return Principal(user) if user else None

    mount(made(), app, principal=current)
    shown = app.openapi()
    assert shown["paths"]["/api/stepflow/runs"]["get"]["security"] == [{"APIKeyCookie": []}]
    assert "security" not in shown["paths"]["/api/stepflow/health"]["get"]


@pytest.mark.asyncio
async def test_a_dependency_says_who_calls_and_others_go_by_what_auth_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    flow, app = made(), FastAPI()

    def current(user: Annotated[str | None, Depends(COOKIE)]) -> Principal | None:
        return Principal(user, scopes=frozenset({"read"})) if user else None

    mount(flow, app, "/flow", principal=current, auth=flow.authenticate)
    async with client_of(flow, app) as client:
        ada = {"Cookie": "user=ada"}
        assert (await client.get("/flow/runs", headers=ada)).status_code == 200
        answer = await client.post("/flow/trigger/echo", headers=ada)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
        key = {"X-API-Key": KEY}
        started = (await client.post("/flow/trigger/echo", headers=key)).json()
        assert (await client.get("/flow/runs")).status_code == 401
        token = {"token": started["publicAccessToken"]}
        run = await client.get(f"/flow/runs/{started['runId']}", params=token)
        assert run.json()["id"] == started["runId"]
        assert (await client.get("/flow/health")).status_code == 200


@pytest.mark.asyncio
async def test_per_route_handlers_stand_beside_the_dependency() -> None:
    flow, app = made(), FastAPI()

    def nobody() -> None:
        return None

    mount(flow, app, "/flow", principal=nobody, auth={"trigger": allow_all})
    async with client_of(flow, app) as client:
        assert (await client.post("/flow/trigger/echo")).status_code == 200
        assert (await client.get("/flow/runs")).status_code == 401


@pytest.mark.asyncio
async def test_what_dependencies_raise_ends_the_request_in_our_shape() -> None:
    flow, app = made(), FastAPI()

    def guard(x_gate: Annotated[int, Header()]) -> None:
        if x_gate == 1:
            raise HTTPException(429, "slow down", headers={"Retry-After": "7"})
        if x_gate == 2:
            raise HTTPException(401)
        if x_gate == 3:
            raise HTTPException(418, {"any": "value"})
        if x_gate == 4:
            raise HTTPException(307, headers={"Location": "/login"})

    mount(flow, app, "/flow", dependencies=[Depends(guard)], auth=allow_all)
    wanted = [
        (429, {"error": "slow down", "code": "RATE_LIMITED"}),
        (401, {"error": "Unauthorized", "code": "UNAUTHORIZED"}),
        (418, {"error": "I'm a Teapot", "code": "IM_A_TEAPOT"}),
    ]
    async with client_of(flow, app) as client:
        for gate, (status, body) in enumerate(wanted, 1):
            answer = await client.get("/flow/runs", headers={"X-Gate": str(gate)})
            assert (answer.status_code, answer.json()) == (status, body)
            if status == 429:
                assert answer.headers["retry-after"] == "7"
        answer = await client.get("/flow/runs")
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_INPUT")
        assert (await client.get("/flow/runs", headers={"X-Gate": "4"})).status_code == 307
        assert (await client.get("/flow/runs", headers={"X-Gate": "0"})).status_code == 200
        # What is no route of FastAPI's is answered by ours, and lets nobody past the guard.
        assert (await client.put("/flow/runs")).status_code == 405
        assert (await client.patch("/flow/nothing", headers={"X-Gate": "0"})).status_code == 404
        # HEAD is GET's, behind the same guard.
        assert (await client.head("/flow/runs")).status_code == 400
        assert (await client.head("/flow/runs", headers={"X-Gate": "2"})).status_code == 401
        assert (await client.head("/flow/runs", headers={"X-Gate": "0"})).status_code == 200


@pytest.mark.asyncio
async def test_an_id_with_slashes_is_one_and_a_line_break_is_no_path_of_ours() -> None:
    flow, app = made(), FastAPI()

    @flow.workflow("wait", events=["a/{id}"])
    async def wait(ctx: Context, value: dict[str, str]) -> Any:
        return await ctx.wait_for_event("answer", f"a/{value['id']}", timeout=None)

    mount(flow, app, "/flow", auth=allow_all)
    async with client_of(flow, app) as client:
        for name, path in (("b/c", "a/b/c"), ("d/e", "a%2Fd%2Fe")):
            run = (await client.post("/flow/trigger/wait", json={"id": name})).json()["runId"]
            answer = await client.post(f"/flow/notify/{path}", json=name)
            assert answer.json() == {"success": True}
            await client.get(f"/flow/runs/{run}/stream")
            assert (await client.get(f"/flow/runs/{run}")).json()["result"] == name
        assert (await client.get("/flow/health%0a")).status_code == 404
    assert "/flow/notify/{eventId}" in app.openapi()["paths"]


@pytest.mark.asyncio
async def test_a_cookie_from_a_page_of_another_site_is_nobody() -> None:
    flow, app = made(), FastAPI()

    def current(user: Annotated[str | None, Depends(COOKIE)]) -> Principal | None:
        return Principal(user) if user else None

    mount(flow, app, "/flow", principal=current)
    async with client_of(flow, app) as client:
        headers = {"Cookie": "user=ada", "Origin": "https://evil.example"}
        assert (await client.post("/flow/trigger/echo", headers=headers)).status_code == 403
        headers["Origin"] = "http://test"
        assert (await client.post("/flow/trigger/echo", headers=headers)).status_code == 200
