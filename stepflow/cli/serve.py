"""`stepflow serve`: one process, one port, one directory.

The order: load the target, make the directory and a key, listen, recover, say where it is, serve,
drain, leave with the engine's status.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import click

from stepflow.cli.access import prepare_access
from stepflow.cli.banner import banner
from stepflow.cli.connection import is_loopback
from stepflow.cli.errors import Failure, failing
from stepflow.cli.inherited import inherited_socket
from stepflow.cli.lifecycle import ServeApp, base_path_of
from stepflow.cli.loader import load_or_fail, target_directory
from stepflow.cli.process import harden, tune_gc, tune_malloc
from stepflow.cli.reload import Reloader, require_watchfiles, serve_command
from stepflow.cli.service_manager import tell_service_manager
from stepflow.clock import SystemClock
from stepflow.engine.choosing import database_engine
from stepflow.engine.code_check import CodeReport  # noqa: TC001  loaded before the loop runs, not in it
from stepflow.engine.local import LocalEngine
from stepflow.errors import OperatorError
from stepflow.log import configure_logging
from stepflow.runtime.logged import RunFields
from stepflow.web.cors import cors_origins
from stepflow.web.presets import Endpoints
from stepflow.web.same_site import SameSite
from stepflow.web.server import EXIT_CANNOT_LISTEN, Server, make_config

if TYPE_CHECKING:
    import socket

    from uvicorn._types import ASGIApplication

    from stepflow.flow import Stepflow
    from stepflow.journal.api import RecoveryProgress, RecoveryReport

__all__ = ["progress_line", "recovered_line", "serve"]

_PROGRESS_S: Final = 1.0
_MORE_US: Final = 30_000_000
"""So much longer a service manager waits for a start that is under way, in microseconds."""
_ROLES: Final = ("all", "worker", "api")
_PRESETS: Final = ("all", "public", "private", "internal", "none")

logger = logging.getLogger("stepflow.serve")


@click.command()
@click.argument("target")
@click.option("--data", metavar="DIR", help="The data directory; beats what the code says.")
@click.option("--database", metavar="URL", help="Run on PostgreSQL; beats what the code says.")
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    help="On PostgreSQL: run runs and answer calls, or one of the two.  [default: all]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one."
)
@click.option("--base-path", default="", help="Serve the API below this path: /api/stepflow.")
@click.option(
    "--endpoints",
    type=click.Choice(_PRESETS),
    default="all",
    show_default=True,
    help="Which routes: private has no trigger and notify, internal has health alone.",
)
@click.option("--no-auth", is_flag=True, help="Ask for no credentials; on loopback only.")
@click.option("--reload", "reload_", is_flag=True, help="Restart when a Python file changes.")
def serve(  # noqa: PLR0913, PLR0917  its options
    target: str,
    data: str | None,
    database: str | None,
    role: str | None,
    host: str,
    port: int,
    base_path: str,
    endpoints: str,
    no_auth: bool,
    reload_: bool,
) -> None:
    """Serve the workflows of TARGET over HTTP.

    TARGET is a file or a module: shop.py, shop.py:flow, acme.shop or acme.shop:flow. The name after
    the colon defaults to the one Stepflow in it.

    With no key and no JWT setting, a key is made at the first start, kept in the data directory and
    printed once.

    A listening socket that systemd hands over (LISTEN_FDS) takes the place of --host and --port:
    connections queue at it over a restart, and are accepted once the engine is ready.

    \b
    Examples:
      stepflow serve shop.py
      stepflow serve acme.flows:flow --data /var/lib/acme --host 0.0.0.0 --port 80
      stepflow serve shop.py --database postgresql://db/shop --role worker
    """
    _check_open(host, no_auth=no_auth)
    with failing():
        configure_logging(
            os.environ.get("STEPFLOW_LOG_FORMAT", "console"),
            os.environ.get("STEPFLOW_LOG_LEVEL", "info"),
            sys.stderr,
        )
        for handler in logging.getLogger().handlers:
            handler.addFilter(RunFields())
        if reload_:
            sys.exit(_reload(target))
        harden()
        tune_malloc()
        flow = load_or_fail(target)
        role = role or os.environ.get("STEPFLOW_ROLE") or "all"
        database = database or os.environ.get("STEPFLOW_DATABASE_URL")
        _check_role(role, database)
        if database:
            flow.swap_engine(database_engine(database, role=role))
        if role == "worker":
            # It runs runs, and says how it is.
            endpoints = "internal"
        options = _Options(base_path, endpoints, no_auth)
        service = _Service(flow, target, data, options, inherited_socket())
        sys.exit(service.run(host, port))


@dataclass(frozen=True, slots=True)
class _Options:
    base_path: str
    endpoints: str
    no_auth: bool


def _check_open(host: str, *, no_auth: bool) -> None:
    if no_auth and not is_loopback(host):
        raise Failure(
            f"--no-auth is refused on {host}: everyone who reaches it could run your workflows",
            64,
            "listen on 127.0.0.1, or leave --no-auth out and give out keys: stepflow keys create",
        )


def _check_role(role: str, database: str | None) -> None:
    if role not in _ROLES:
        raise Failure(f"STEPFLOW_ROLE={role!r} is none of {', '.join(_ROLES)}", 64)
    if role != "all" and not database:
        raise Failure(
            f"--role {role} is for runs in a database that other processes have, too",
            64,
            "say which with --database postgresql://…",
        )


def _reload(target: str) -> int:
    require_watchfiles()
    directory = target_directory(target)
    logger.info("watching %s for changes", directory)
    return Reloader(serve_command(sys.argv[1:]), directory, logger.info).run()


class _Service:
    """The server of one `Stepflow`."""

    def __init__(
        self,
        flow: Stepflow,
        target: str,
        data: str | None,
        options: _Options,
        handed: socket.socket | None,
    ) -> None:
        if data is not None:
            flow.use_data_dir(data)
        self._flow = flow
        self._target = target
        self._check: asyncio.Task[CodeReport] | None = None
        self._options = options
        self._handed = handed
        if handed is not None:
            _check_open(handed.getsockname()[0], no_auth=options.no_auth)
        self._access = prepare_access(flow.data_dir, os.environ, no_auth=options.no_auth)
        flow.auth_chain  # noqa: B018  a credential that cannot be used refuses the start
        self._app = self._make_app()
        flow.on_fatal = self._app.fail
        self._server: Server | None = None
        self._url = ""
        self._ready = False

    def _make_app(self) -> ServeApp:
        access = self._access
        endpoints = Endpoints.named(self._options.endpoints)
        api = self._flow.asgi(endpoints=endpoints, auth=access.handler)
        if access.open_to_all:
            listed = os.environ.get("STEPFLOW_CORS_ORIGINS", "").split(",")
            api = SameSite(api, cors_origins(listed))
        return ServeApp(
            api,
            self._flow.engine,
            base_path=self._options.base_path,
            while_waiting=self._begin_progress if self._handed is not None else None,
            on_ready=self._engine_ready,
            on_failed=self._failed,
        )

    def run(self, host: str, port: int) -> int:
        """Serve until a signal or the disk's end; return the exit status."""
        server = self._server = Server(
            make_config(
                cast("ASGIApplication", self._app), self._flow.settings, host=host, port=port
            ),
            begin_shutdown=self._begin_shutdown,
            on_started=self._listening,
            give_up=self._app.give_up if self._handed is not None else None,
        )
        code = server.run_to_end(lambda: self._app.exit_code, self._handed)
        if code == EXIT_CANNOT_LISTEN:
            raise Failure(
                f"cannot listen on {host}:{port}", code, "choose another port with --port"
            )
        return code

    # ------------------------------------------------------------ what happens meanwhile

    def _listening(self, host: str, port: int) -> None:
        # Every address is one of this machine's, and the copied commands are run here.
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host) or _in_url(host)  # noqa: S104
        self._url = f"http://{shown}:{port}{base_path_of(self._options.base_path)}"
        everywhere = f" (on every address: {host})" if shown != _in_url(host) else ""
        # Always: an engine may be ready before the port is bound, and programs wait for this line.
        logger.info("listening on %s%s", self._url, everywhere)
        if self._ready:
            self._say()
        else:
            self._begin_progress()

    def _begin_shutdown(self) -> None:
        tell_service_manager("STOPPING=1", "STATUS=ending streams, draining")
        self._flow.begin_shutdown()

    def _engine_ready(self) -> None:
        self._ready = True
        tune_gc()
        if self._url:
            self._say()

    def _failed(self, error: BaseException) -> None:
        """The start or the disk failed: say why and leave."""
        if isinstance(error, OperatorError):
            logger.critical("%s", error)
        else:
            logger.critical("the engine failed", exc_info=error)
        if self._server is not None:
            self._server.stop()

    def _begin_progress(self) -> None:
        self._progress = asyncio.ensure_future(self._show_progress())

    async def _show_progress(self) -> None:
        """Say how far recovery is, every second that it takes."""
        clock = SystemClock()
        while True:
            passed = asyncio.Event()
            timer = clock.call_later(_PROGRESS_S, passed.set)
            try:
                await passed.wait()
            finally:
                timer.cancel()
            if self._ready or self._app.exit_code:
                return
            progress = getattr(self._flow.engine, "progress", None)
            if progress is not None and progress.phase != "waiting":
                line = progress_line(progress)
                logger.info("%s", line)
                tell_service_manager(f"STATUS={line}", f"EXTEND_TIMEOUT_USEC={_MORE_US}")

    def _say(self) -> None:
        flow = self._flow
        tell_service_manager(f"STATUS={self._url}", "READY=1")
        workflows = flow.engine.workflows()
        if not workflows:
            logger.warning("no workflow is registered: decorate one with @flow.workflow()")
        click.echo(
            banner(
                self._url,
                self._access,
                workflows,
                data_dir=flow.data_dir,
                recovered=recovered_line(getattr(flow.engine, "recovery", None)),
                docs=self._options.endpoints in {"all", "public", "private"},
            )
        )
        if isinstance(flow.engine, LocalEngine):
            self._check = asyncio.ensure_future(flow.check(self._target))
            self._check.add_done_callback(_check_ended)


def _check_ended(check: asyncio.Task[CodeReport]) -> None:
    error = None if check.cancelled() else check.exception()
    if error is not None:
        logger.error("checking the live runs against the code failed", exc_info=error)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def progress_line(progress: RecoveryProgress) -> str:
    """Return `recovering: journal 45% (12,345 records)`."""
    share = progress.bytes_done * 100 // progress.bytes_total if progress.bytes_total else 0
    return f"recovering: {progress.phase} {share}% ({progress.records:,} records)"


def recovered_line(report: RecoveryReport | None) -> str:
    """Return what the start found, to stand behind the directory's name; empty for a new one."""
    if report is None or not (report.records or report.lines):
        return ""
    stop = "" if report.clean else ", after an unclean stop"
    return f" (recovered {report.records:,} records{stop})"
