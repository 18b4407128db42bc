"""`flow.handlers`: single operations on routes of the host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stepflow import MEMORY, Context, Endpoints, Principal, Stepflow, allow_all, any_of
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from stepflow import AuthRequest


@pytest_asyncio.fixture
async def flow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stepflow]:
    monkeypatch.setenv("STEPFLOW_API_KEYS", "k" * 20)
    made = Stepflow(MEMORY)

    @made.workflow("checkout", events=["paid-{id}"])
    async def checkout(ctx: Context, order: dict[str, str]) -> Any:
        return await ctx.wait_for_event("paid", f"paid-{order['id']}", timeout="1h")

    async with made:
        yield made


def client_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host")


@pytest.mark.asyncio
async def test_the_five_published_operations_stand_on_paths_of_the_hosts_choice(
    flow: Stepflow,
) -> None:
    handlers = flow.handlers(auth=allow_all)
    app = Starlette(
        routes=[
            Route("/jobs/{workflowId}", handlers.trigger, methods=["POST"]),
            Route("/jobs/run/{runId}", handlers.run),
            Route("/jobs/run/{runId}/live", handlers.stream),
            Route("/hooks/{eventId}", handlers.notify, methods=["POST"]),
            Route("/alive", handlers.health),
            Route("/jobs/run/{runId}/stop", handlers["cancelRun"], methods=["POST"]),
        ]
    )
    async with client_of(app) as client:
        run_id = (await client.post("/jobs/checkout", json={"id": "7"})).json()["runId"]
        assert (await client.get(f"/jobs/run/{run_id}")).json()["status"] == "running"
        assert (await client.post("/hooks/paid-7", json=1)).json() == {"success": True}
        assert "event: complete" in (await client.get(f"/jobs/run/{run_id}/live")).text
        assert (await client.get("/alive")).json()["status"] == "ok"
        assert (await client.post(f"/jobs/run/{run_id}/stop")).status_code == 409


@pytest.mark.asyncio
async def test_an_endpoint_of_the_host_decides_and_then_lets_a_handler_answer(
    flow: Stepflow,
) -> None:
    handlers = flow.handlers(auth=allow_all)

    async def order(request: Request) -> Response:
        if request.headers.get("x-open") != "yes":
            return JSONResponse({"closed": True}, 409)
        return handlers.trigger.response(workflowId="checkout")

    app = Starlette(routes=[Route("/orders", order, methods=["POST"])])
    async with client_of(app) as client:
        assert (await client.post("/orders", json={"id": "8"})).json() == {"closed": True}
        answer = await client.post("/orders", json={"id": "8"}, headers={"X-Open": "yes"})
        assert set(answer.json()) == {"runId", "publicAccessToken"}


@pytest.mark.asyncio
async def test_a_handler_keeps_the_order_of_checks_and_the_shape_of_errors(flow: Stepflow) -> None:
    handlers = flow.handlers()
    app = Starlette(
        routes=[
            Route("/t/{workflowId}", handlers.trigger, methods=["POST", "GET"]),
            Route("/r/{runId}", handlers.run),
        ]
    )
    async with client_of(app) as client:
        answer = await client.post("/t/checkout", json={"id": "8"})
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
        key = {"X-API-Key": "k" * 20}
        answer = await client.post("/t/nothing", headers=key)
        assert (answer.status_code, answer.json()["code"]) == (404, "WORKFLOW_NOT_FOUND")
        answer = await client.get("/t/checkout", headers=key)
        assert (answer.status_code, answer.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
        started = (await client.post("/t/checkout", json={"id": "8"}, headers=key)).json()
        assert (await client.head(f"/r/{started['runId']}", headers=key)).status_code == 200
        token = {"token": started["publicAccessToken"]}
        assert (await client.get(f"/r/{started['runId']}", params=token)).status_code == 200


@pytest.mark.asyncio
async def test_a_handler_answers_for_origins_where_they_are_listed(flow: Stepflow) -> None:
    handlers = flow.handlers(cors_origins=["https://app.example"])
    app = Starlette(routes=[Route("/alive", handlers.health)])
    async with client_of(app) as client:
        answer = await client.get("/alive", headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_what_endpoints_leave_out_is_no_handler() -> None:
    made = Stepflow(MEMORY)
    handlers = made.handlers(endpoints=Endpoints(trigger=False), ui=False)
    assert "getRoot" not in {handler.operation.id for handler in handlers}
    assert "getRoot" in {handler.operation.id for handler in made.handlers()}
    assert len(made.handlers(endpoints="none")) == 0
    assert repr(handlers.health) == "Handler('getHealth')"
    with pytest.raises(ConfigurationError, match=r"'triggerWorkflow' is none of .*cancelRun"):
        handlers.trigger  # noqa: B018
    with pytest.raises(ConfigurationError, match="leaves them all out"):
        made.handlers(endpoints="none")["getRun"]


@pytest.mark.asyncio
async def test_handlers_of_the_hosts_own_stand_beside_keys_and_say_who_it_is(
    flow: Stepflow,
) -> None:
    def from_a_header(request: AuthRequest) -> Principal | None:
        name = request.headers.get("x-user")
        return Principal(name) if name else None

    auth = any_of(from_a_header, flow.authenticate)
    async with client_of(flow.asgi(auth=auth)) as client:
        assert (await client.get("/runs")).status_code == 401
        assert (await client.get("/runs", headers={"X-API-Key": "k" * 20})).status_code == 200
        user = {"X-User": "ada"}
        started = await client.post("/trigger/checkout", json={"id": "9"}, headers=user)
        run_id = started.json()["runId"]
        await client.post(f"/runs/{run_id}/cancel", headers=user)
        audit = (await client.get(f"/runs/{run_id}/audit", headers=user)).json()
        assert "user:ada" in str(audit)
