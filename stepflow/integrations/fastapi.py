"""FastAPI: our operations as its own routes, in its OpenAPI document, behind its dependencies.

`flow.mount(app, path)` comes here for a FastAPI application. `mount(flow, app, path, …)` takes, in
addition, what only FastAPI has: dependencies that guard every route, and a dependency that says who
calls::

    def current(user: Annotated[User | None, Depends(session_user)]) -> Principal | None:
        return Principal(user.name) if user else None

    mount(flow, app, "/api/stepflow", principal=current)

A dependency that raises ends the request, in our shape. One that returns None lets go on whoever
has another credential: a public access token, and what `auth=` asks for, where that is given. Whom
it names is not let in where a cookie comes from a page of another site.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Mount

from stepflow.auth.handlers import any_of, deny_all, same_site
from stepflow.errors import ApiError, InvalidInputError
from stepflow.integrations.handlers import handlers_of
from stepflow.integrations.host import app_of
from stepflow.integrations.wrap import check_prefix
from stepflow.web.app import bound, template_of
from stepflow.web.openapi import document
from stepflow.web.problems import SAFE_HEADERS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
    from typing import Unpack

    from fastapi import FastAPI
    from fastapi.params import Depends as Dependency
    from starlette.types import Receive, Scope, Send

    from stepflow.auth.handlers import AuthHandler, AuthRequest
    from stepflow.integrations.handlers import Handler
    from stepflow.integrations.host import Auth, Flow, HostOptions
    from stepflow.web.operations import Operation

__all__ = ["mount"]

_PRINCIPAL: Final = "stepflow.principal"
_CODES: Final[Mapping[int, str]] = {
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    409: "CONFLICT",
    429: "RATE_LIMITED",
    503: "UNAVAILABLE",
}


def mount(
    flow: Flow,
    app: FastAPI,
    path: str = "/api/stepflow",
    *,
    principal: Callable[..., Any] | None = None,
    dependencies: Sequence[Dependency] = (),
    **options: Unpack[HostOptions],
) -> None:
    """Serve the API in `app` below `path`, and run the engine while it runs.

    `principal` is a dependency that returns a `Principal`, True, or None for nobody. `dependencies`
    are run before every route. `options` are those of `flow.asgi()`.
    """
    prefix = check_prefix(path)
    if principal is not None:
        options["auth"] = _beside(options.get("auth"))
    described = _Described(prefix, own_users=principal is not None)
    routes = app.router.routes
    before = len(routes)
    for handler in handlers_of(flow, **options):
        operation = handler.operation
        who = principal if operation.scope is not None else None
        app.router.add_api_route(
            prefix + template_of(operation.path),
            _endpoint(handler, who),
            methods=[operation.method],
            response_class=Response,
            dependencies=dependencies,
            route_class_override=_Route,
            include_in_schema=operation.documented,
            operation_id=operation.id,
            name=f"stepflow.{operation.id}",
            openapi_extra=described.operation(operation) if operation.documented else None,
        )
        bound(cast("APIRoute", routes[-1]), operation.path)
    # First, so that a catch-all of the host does not hide them. What is left below the prefix, a
    # method or a path that is none, is answered by ours, which lets nobody in.
    options["auth"] = deny_all
    routes.append(Mount(prefix, app=app_of(flow, **options)))
    routes[:] = [*routes[before:], *routes[:before]]
    _include(app, described)
    _live_with(flow, app)


def _live_with(flow: Flow, app: FastAPI) -> None:
    inner: Any = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        async with flow.lifespan(app), inner(app) as state:
            yield state

    app.router.lifespan_context = lifespan


# ---------------------------------------------------------------- one route


def _endpoint(handler: Handler, who: Callable[..., Any] | None) -> Callable[..., Any]:
    if who is None:

        async def open_to_all(request: Request) -> Response:
            del request
            return handler.response()

        open_to_all.__annotations__ = {"request": Request}
        return open_to_all

    async def for_principals(request: Request, found: Any = Depends(who)) -> Response:  # noqa: B008
        request.scope[_PRINCIPAL] = found
        return handler.response()

    for_principals.__annotations__ = {"request": Request, "found": Any}
    return for_principals


def _found(request: AuthRequest) -> Any:
    scope = cast("Mapping[str, Any]", request.extra)
    return scope.get(_PRINCIPAL)


_found_by_cookie: Final = same_site(_found)


def _from_dependency(request: AuthRequest) -> Any:
    # A dependency may go by a cookie, and those come along from pages of other sites, too.
    return (_found_by_cookie if "cookie" in request.headers else _found)(request)


def _beside(auth: Auth | None) -> Auth:
    """Return `auth`, with the dependency's word before it."""
    if auth is None:
        return _from_dependency
    if callable(auth):
        return any_of(_from_dependency, auth)
    both: dict[str, AuthHandler] = {
        name: any_of(_from_dependency, handler) for name, handler in auth.items()
    }
    return {"global": _from_dependency, **both}


class _Route(APIRoute):
    """A route whose refusals have the shape of the API, also those of the host's dependencies.

    GET answers HEAD, too, as in Starlette; FastAPI would have it a second operation.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches({**scope, "method": "GET"} if self._headed(scope) else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._headed(scope):
            await self.app(scope, receive, send)
        else:
            await super().handle(scope, receive, send)

    def _headed(self, scope: Scope) -> bool:
        return (
            scope["type"] == "http" and scope["method"] == "HEAD" and "GET" in (self.methods or ())
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await original(request)
            except RequestValidationError as error:
                return _refused(InvalidInputError.status, InvalidInputError.code, str(error))
            except ApiError as error:
                return _refused(error.status, error.code, str(error))
            except HTTPException as error:
                if error.status_code < 400:
                    raise
                return _of_http(error)

        return handle


def _of_http(error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    # FastAPI's may be any JSON value, whatever Starlette's annotation says.
    detail = cast("object", error.detail)
    text = detail if isinstance(detail, str) else status.phrase
    response = _refused(status, _CODES.get(status, status.name), text)
    response.headers.update(error.headers or {})
    return response


def _refused(status: int, code: str, text: str) -> Response:
    headers = {name.decode(): value.decode() for name, value in SAFE_HEADERS}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": text, "code": code}, status, headers)


# ---------------------------------------------------------------- its document


class _Described:
    """Our document, in words that do not collide with the host's: `StepflowRun`, `stepflowJwt`."""

    def __init__(self, prefix: str, *, own_users: bool) -> None:
        self._own_users = own_users
        ours = "#/components/schemas/"
        text = json.dumps(document()).replace(ours, f"{ours}Stepflow")
        made: dict[str, Any] = json.loads(text)
        self._paths: dict[str, Any] = made["paths"]
        components = made["components"]
        self.tags: list[dict[str, str]] = [
            {**tag, "name": f"Stepflow: {tag['name']}"} for tag in made["tags"]
        ]
        self.schemas = {f"Stepflow{k}": v for k, v in components["schemas"].items()}
        self.schemes = {_scheme(k): v for k, v in components["securitySchemes"].items()}
        self.prefix = prefix

    def operation(self, operation: Operation) -> dict[str, Any]:
        """Return what FastAPI does not know of it."""
        item = self._paths[operation.path]
        made: dict[str, Any] = {**item[operation.method.lower()]}
        made.pop("operationId")
        made["tags"] = [f"Stepflow: {tag}" for tag in made["tags"]]
        made["parameters"] = [*item.get("parameters", ()), *made.get("parameters", ())]
        wanted = [
            {_scheme(name): scopes for name, scopes in choice.items()}
            for choice in made.pop("security", ())
            if not self._own_users or "publicAccessToken" in choice
        ]
        if wanted:
            made["security"] = wanted
        return made


def _scheme(name: str) -> str:
    return f"stepflow{name[0].upper()}{name[1:]}"


def _include(app: FastAPI, described: _Described) -> None:
    original = app.openapi

    def openapi() -> dict[str, Any]:
        made = original()
        components: dict[str, Any] = made.setdefault("components", {})
        components.setdefault("schemas", {}).update(described.schemas)
        components.setdefault("securitySchemes", {}).update(described.schemes)
        tags: list[Any] = made.setdefault("tags", [])
        tags += [tag for tag in described.tags if tag not in tags]
        return made

    # FastAPI's documented way.
    app.openapi = openapi  # type: ignore[method-assign]
