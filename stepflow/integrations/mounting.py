"""`flow.mount(app, path)`: which host takes the API in, and how.

============ ===================================================================
host         what happens
============ ===================================================================
FastAPI      routes of its own, before the others, so that its document has them
Starlette    a `Mount` before its other routes; its lifespan is put inside ours
Quart        its `asgi_app` is wrapped
any other    `ConfigurationError`, which names what to write instead
============ ===================================================================

A host is known by the module of its class, so that no framework is imported for another's sake.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Mount

from stepflow.errors import ConfigurationError
from stepflow.integrations.host import app_of
from stepflow.integrations.wrap import Wrapped, check_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.applications import Starlette

    from stepflow.integrations.host import Flow, HostOptions

__all__ = ["mount"]

_INSTEAD: Final = {
    "litestar": "Litestar(plugins=[StepflowPlugin(flow, {path!r})]) or flow.wrap(app, {path!r})",
    "flask": "app = flow.wrap(a2wsgi.WSGIMiddleware(flask_app), {path!r}) on an ASGI server",
    "django": "application = flow.wrap(get_asgi_application(), {path!r}) in asgi.py",
}
_ANY: Final = "app = flow.wrap(app, {path!r}), and serve what it returns"


def mount(flow: Flow, app: object, path: str, options: HostOptions) -> None:
    """Serve the API in `app` below `path`, and run the engine while it runs.

    Raises `ConfigurationError` for a host that cannot take it in, naming what to write instead.
    """
    prefix = check_prefix(path)
    for name in _families(app):
        how = _HOSTS.get(name)
        if how is not None:
            how(flow, app, prefix, options)
            return
    instead = next((_INSTEAD[name] for name in _families(app) if name in _INSTEAD), _ANY)
    raise ConfigurationError(
        f"flow.mount() cannot change a {type(app).__module__}.{type(app).__qualname__}: "
        f"write {instead.format(path=prefix)}; see docs/hosts.md"
    )


def _families(app: object) -> list[str]:
    """Return the top-level packages of its classes, its own first."""
    return list(dict.fromkeys(cls.__module__.partition(".")[0] for cls in type(app).__mro__))


def _fastapi(flow: Flow, app: Any, prefix: str, options: HostOptions) -> None:
    # Imported here, because only who has a FastAPI application has FastAPI.
    from stepflow.integrations import fastapi  # noqa: PLC0415

    fastapi.mount(flow, app, prefix, **options)


def _starlette(flow: Flow, app: Any, prefix: str, options: HostOptions) -> None:
    host: Starlette = app
    # First, so that a catch-all of the host, its static files say, does not hide it.
    host.router.routes.insert(0, Mount(prefix, app=app_of(flow, **options)))
    inner: Any = host.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        async with flow.lifespan(app), inner(app) as state:
            yield state

    host.router.lifespan_context = lifespan


def _quart(flow: Flow, app: Any, prefix: str, options: HostOptions) -> None:
    app.asgi_app = Wrapped(app.asgi_app, app_of(flow, **options), prefix, flow.lifespan)


_HOSTS: Final[Mapping[str, Callable[[Flow, Any, str, HostOptions], None]]] = {
    "fastapi": _fastapi,
    "quart": _quart,
    "starlette": _starlette,
}
