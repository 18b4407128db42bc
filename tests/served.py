"""A real server for tests: `stepflow.web.server` in a thread, on a port of its own, in memory.

And what keeps the processes of tests from outliving them: `doomed` and `end_group`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from stepflow import MEMORY, Context, Settings, Stepflow
from stepflow.web.server import Server, make_config

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator, Sequence

    from uvicorn._types import ASGIApplication

KEY = "served-test-key-0123456789"


async def send_mail(to: str) -> dict[str, bool]:
    del to
    return {"sent": True}


def flow_of_welcome(settings: Settings | None = None) -> Stepflow:
    """Return a flow with the workflow of the published API's examples."""
    flow = Stepflow(MEMORY, settings=settings)

    @flow.workflow("welcome-user", events=["opened-{userId}"])
    async def welcome_user(ctx: Context, user: dict[str, str]) -> dict[str, bool]:
        """Welcome a user."""
        await ctx.step("send-welcome", send_mail, user["email"])
        await ctx.wait_for_event("opened", f"opened-{user['userId']}", timeout="1h")
        await ctx.step("send-followup", send_mail, user["email"])
        return {"success": True}

    @flow.workflow("anything")
    async def anything(ctx: Context, value: Any) -> Any:
        """Return the input."""
        return await ctx.step("same", same, value)

    return flow


async def same(value: Any) -> Any:
    return value


def doomed(command: Sequence[str]) -> list[str]:
    """Return the command such that the kernel kills it when the thread that started it ends.

    A test that is itself killed leaves no server behind so. Start it from a thread that lives as
    long as the process shall, and with `start_new_session=True`, so that `end_group` finds all of
    it. Where there is no `setpriv` (it is Linux's) the command is returned as it is.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


def end_group(process: subprocess.Popen[Any], *, within_s: float = 60) -> int:
    """Kill the process and all of its group, if they live still; return its exit status.

    The process must have been started with `start_new_session=True`.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait(within_s)


@contextmanager
def served(flow: Stepflow, **options: Any) -> Generator[str]:
    """Serve the flow; yield its URL."""
    started, url = threading.Event(), ""

    def on_started(host: str, port: int) -> None:
        nonlocal url
        url = f"http://{host}:{port}"
        started.set()

    app = cast("ASGIApplication", flow.asgi(**options))
    config = make_config(app, flow.settings, port=0, log_level="error")
    server = Server(config, begin_shutdown=flow.begin_shutdown, on_started=on_started)
    # Signals belong to the main thread: there is nothing to install here.
    thread = threading.Thread(target=server.run_to_end, daemon=True)
    thread.start()
    assert started.wait(30), "the server did not start"
    try:
        yield url
    finally:
        server.stop()
        thread.join(30)
    assert not thread.is_alive()
