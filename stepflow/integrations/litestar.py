"""Litestar: a plugin, so that its middleware sees our requests and its lifespan runs the engine.

Litestar hands a mounted application another path than the ASGI specification says: the prefix is
gone, a slash is added, `root_path` is empty. So the path is taken from `raw_path` again.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from litestar import asgi
from litestar.plugins import InitPlugin
from litestar.types import Receive, Scope, Send  # noqa: TC002  Litestar reads the annotations

from stepflow.integrations.host import app_of
from stepflow.integrations.wrap import Wrapped, check_prefix
from stepflow.web.app import NoSuchRoute

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import Unpack

    from litestar import Litestar
    from litestar.config.app import AppConfig

    from stepflow.integrations.host import Flow, HostOptions

__all__ = ["StepflowPlugin"]


class StepflowPlugin(InitPlugin):
    """`Litestar(plugins=[StepflowPlugin(flow)])`. `options` are those of `flow.asgi()`."""

    def __init__(
        self, flow: Flow, path: str = "/api/stepflow", **options: Unpack[HostOptions]
    ) -> None:
        self._flow = flow
        self._prefix = check_prefix(path)
        self._app = Wrapped(NoSuchRoute(), app_of(flow, **options), self._prefix, flow.lifespan)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app: Any = self._app

        @asgi(self._prefix, is_mount=True, copy_scope=True)
        async def stepflow(scope: Scope, receive: Receive, send: Send) -> None:
            await app(_as_it_came(scope), receive, send)

        app_config.route_handlers = [*app_config.route_handlers, stepflow]
        config: Any = app_config  # its lists are of types that are not written out
        # The first to be entered is the last to be left.
        config.lifespan = [self._lifespan, *config.lifespan]
        return app_config

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncGenerator[None]:
        async with self._flow.lifespan(app):
            yield


def _as_it_came(scope: Any) -> dict[str, Any]:
    raw: bytes = scope["raw_path"]
    return {**scope, "path": unquote_to_bytes(raw.partition(b"?")[0]).decode("utf-8", "replace")}
