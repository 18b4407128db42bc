"""The suite of one host: its process, every check, its end, and its life without a lifespan."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import closing
from typing import TYPE_CHECKING, Final

import httpx

from stepflow import Settings, Stepflow
from tests.hosts.checks import CHECKS, Api, stream
from tests.hosts.hosts import KEY, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hosts.hosts import Host, Process

LIFE: Final = "own life"
SIGTERM: Final = "SIGTERM"
WITHOUT: Final = "no lifespan: 503"
ROOT_PATH: Final = "root_path"
NAMES: Final = (
    *(check.__doc__ or "" for check in CHECKS),
    *(SIGTERM, LIFE, WITHOUT, ROOT_PATH),
)


def run_host(host: Host, directory: Path) -> dict[str, str]:
    """Return what is wrong, by check; nothing: an empty text."""
    wrong: dict[str, str] = {}

    def tried(name: str, check: Callable[[], None]) -> None:
        try:
            check()
        except Exception:  # noqa: BLE001  it is told, and the others are run
            wrong[name] = traceback.format_exc()
        else:
            wrong[name] = ""

    with started(host, directory / "data") as process:
        api = Api(process.url, host.prefix, KEY, host.own, host.users, host.strays)
        with closing(api):
            for check in CHECKS:
                tried(check.__doc__ or "", lambda check=check: check(api))
            tried(SIGTERM, lambda: ends(api, process))
        tried(LIFE, lambda: lived(host, process))
    if host.server == "uvicorn":
        options = ("--lifespan", "off", "--root-path", "/gw")
        with started(host, directory / "other", *options) as process:
            tried(WITHOUT, lambda: without_lifespan(host, process))
            tried(ROOT_PATH, lambda: below_root_path(host, process))
    return wrong


def run_checks(host: Host, root: str) -> dict[str, str]:
    """Return what is wrong with the API behind a proxy at that address, by check."""
    wrong: dict[str, str] = {}
    made = Api(root, host.prefix, KEY, host.own, host.users, host.strays, fronted=True)
    with closing(made) as api:
        for check in CHECKS:
            try:
                check(api)
            except Exception:  # noqa: BLE001  it is told, and the others are run
                wrong[check.__doc__ or ""] = traceback.format_exc()
            else:
                wrong[check.__doc__ or ""] = ""
    return wrong


def ends(api: Api, process: Process) -> None:
    """With three streams open, SIGTERM ends each as a whole response, and then the process."""
    run, _ = api.talk()
    streams = [stream(api.new(), run) for _ in range(3)]
    opened = [each.__enter__() for each in streams]
    for events in opened:
        next(events)
    process.popen.terminate()
    for events in opened:
        list(events)  # raises where the connection was cut
    for each in streams:
        each.__exit__(None, None, None)
    status = process.left()
    # uvicorn ends by the signal that it got, after all is done.
    assert status in {0, -15}, f"{status}\n{process.said}"
    assert "Traceback" not in process.said, process.said
    assert asyncio.run(_reopened(process.data, run)) == "running"


async def _reopened(data: Path, run: str) -> str:
    flow = Stepflow(data, settings=Settings(lock_wait_s=0.0))
    async with flow:
        # Stopped in order: nothing had to be mended.
        assert flow.engine.recovery.clean  # type: ignore[attr-defined]
        return (await flow.get_run(run)).status


def lived(host: Host, process: Process) -> None:
    """The host's own start and end ran, once each."""
    assert process.popen.poll() is not None, "it runs still"
    for word in ("host started", "host stopped"):
        assert process.said.count(word) == (1 if host.lives else 0), process.said


def without_lifespan(host: Host, process: Process) -> None:
    """Where nobody runs the lifespan, a request says what is missing and where to read of it."""
    headers = {"X-API-Key": KEY}
    for answer in (
        httpx.get(f"{process.url}{host.prefix}/runs", headers=headers, timeout=100),
        httpx.post(f"{process.url}{host.prefix}/trigger/double", headers=headers, timeout=100),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE"), answer.text
        assert "docs/embedding.md" in answer.json()["error"]
    assert not process.data.exists()


def below_root_path(host: Host, process: Process) -> None:
    """Behind a proxy that takes a prefix away and says so, the same routes are there."""
    with httpx.Client(base_url=process.url + host.prefix, timeout=100) as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.put("/health").json()["code"] == "METHOD_NOT_ALLOWED"
