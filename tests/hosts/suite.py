"""The suite of one host: its processes, every check, its ends, and what does not apply to it."""

from __future__ import annotations

import asyncio
import json
import traceback
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

from stepflow import Settings, Stepflow
from stepflow.client import SyncClient
from stepflow.errors import WorkflowNotFoundError
from tests.hosts import javascript
from tests.hosts.checks import CHECKS, Api, stream, subscribers
from tests.hosts.hosts import KEY, started

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.hosts.hosts import Host, Process

SECRET: Final = "service's key"
PRESETS: Final = "presets"
SIGTERM: Final = "SIGTERM"
LIFE: Final = "own life"
WITHOUT: Final = "before start: 503"
ROOT_PATH: Final = "prefix, root_path"
NAMES: Final = (
    *(check.__doc__ or "" for check in CHECKS),
    *(SECRET, PRESETS, SIGTERM, LIFE, WITHOUT, ROOT_PATH),
)

Found: TypeAlias = dict[str, str]
"""What is wrong, by check; nothing: an empty text."""


def absent(host: Host, name: str, *, way: str = "") -> str | None:
    """Return why a check says nothing of that host, if so; `way`: what nginx does to its prefix."""
    ours = host.speaks == "Python"
    if name == "own routes" and host.own is None:
        return "the service alone has no routes but the API's"
    if name == "links" and not ours:
        return "an adapter forwards the API; the dashboard stays with the service"
    if name == "its users" and not host.users:
        return "the suite's application has no users of its own"
    if name == SECRET and ours:
        return "the host is the service: its keys are those that callers have"
    if name == "document" and not ours and way == "stripped":
        return "of a prefix that a proxy takes away an adapter knows what `publicPath` says"
    if name == SIGTERM and host.server == "next dev":
        return "a server for development: Next.js ends it without waiting for its answers"
    if name in {SECRET, PRESETS, SIGTERM, LIFE, WITHOUT, ROOT_PATH} and way:
        return "no matter of nginx: see the host's own row"
    if name == LIFE and not host.lives:
        return "the suite's application has no start and end of its own"
    return None


def api_of(host: Host, root: str, *, fronted: bool = False) -> Api:
    """Return the host's API at that address."""
    ours = host.speaks == "Python"
    return Api(
        root,
        host.prefix,
        KEY,
        host.own,
        host.users,
        host.strays,
        fronted=fronted,
        audited=ours,
        client_script=client_of_python if ours else javascript.client_script(host),
    )


class Tries:
    """Tries the checks that apply, and keeps what was wrong."""

    def __init__(self, host: Host, way: str = "") -> None:
        self.host = host
        self.way = way
        self.found: Found = {}

    def __call__(self, name: str, check: Callable[[], None]) -> None:
        if absent(self.host, name, way=self.way) is not None:
            return
        try:
            check()
        except Exception:  # noqa: BLE001  it is told, and the others are run
            self.found[name] = traceback.format_exc()
        else:
            self.found.setdefault(name, "")

    def all(self, api: Api) -> None:
        for check in CHECKS:
            self(check.__doc__ or "", lambda check=check: check(api))


def run_host(host: Host, directory: Path) -> Found:
    """Return what is wrong, by check."""
    run = run_python if host.speaks == "Python" else run_javascript
    return run(host, directory)


def run_python(host: Host, directory: Path) -> Found:
    tries = Tries(host)
    with started(host, directory / "data") as process:
        with closing(api_of(host, process.url)) as api:
            tries.all(api)
            tries(SIGTERM, lambda: ends(api, process))
        tries(LIFE, lambda: lived(process))
    how = {
        "uvicorn": ("--lifespan", "off", "--root-path", "/gw"),
        # The last of two of the same option counts. It keeps the prefix in the path.
        "granian": ("--interface", "asginl", "--url-path-prefix", "/gw"),
    }[host.server]
    with started(host, directory / "other", *how, endpoints="private") as process:
        if host.server == "granian":
            process.url += "/gw"
        tries(WITHOUT, lambda: without_lifespan(host, process))
        tries(PRESETS, lambda: is_private(host, process.url))
        tries(ROOT_PATH, lambda: below_root_path(host, process))
    return tries.found


def run_javascript(host: Host, directory: Path) -> Found:
    tries = Tries(host)
    with javascript.service(directory / "data") as service, closing(_api(service)) as behind:
        with javascript.started(host, service) as process:
            with closing(api_of(host, process.url)) as api:
                tries.all(api)
                tries(SECRET, lambda: keeps_the_key(api, behind))
                tries(SIGTERM, lambda: host_ends(api, process, behind))
            tries(LIFE, lambda: lived(process))
        with javascript.started(host, service, below="/gw", endpoints="private") as process:
            with closing(api_of(host, f"{process.url}/gw")) as api:
                tries(PRESETS, lambda: is_private(host, api.root))
                tries(ROOT_PATH, lambda: below_a_prefix(api))
                tries(SIGTERM, lambda: service_ends(api, behind, service))
                if service.popen.poll() is None:
                    service.end()
                tries(WITHOUT, lambda: without_service(api))
    return tries.found


def run_checks(host: Host, root: str, way: str) -> Found:
    """Return what is wrong with the API behind a proxy at that address, by check."""
    tries = Tries(host, way)
    with closing(api_of(host, root, fronted=True)) as api:
        tries.all(api)
    return tries.found


def client_of_python(url: str, key: str) -> str:
    """Use our own client as a program would."""
    with SyncClient(url, key) as client:
        assert client.result(client.trigger("double", 21).id) == 42
        try:
            client.trigger("nothing", 1)
        except WorkflowNotFoundError:
            pass
        else:
            raise AssertionError("a workflow that is none was started")
        run = client.trigger("talk", {"id": "client"}).id
        events = []
        for event in client.stream(run):
            events.append(event.event)
            if json.loads(event.data).get("stepName") == "turn-0":
                client.notify("say-client", "stop")
        assert events[-1] == "complete"
        assert client.get_run(run).status == "completed"
    return "client: ok"


# ---------------------------------------------------------------- ends


@contextmanager
def three_streams(api: Api, run: str) -> Generator[Callable[[], None]]:
    """Open three streams of a silent run; yield what reads each to its end, as a whole response."""
    streams = [stream(api.new(), run) for _ in range(3)]
    opened = [each.__enter__() for each in streams]
    for events in opened:
        next(events)

    def read() -> None:
        for events in opened:
            list(events)  # raises where the connection was cut

    yield read
    for each in streams:
        each.__exit__(None, None, None)


def ends(api: Api, process: Process) -> None:
    """With three streams open, SIGTERM ends each as a whole response, and then the process."""
    run, _ = api.talk()
    with three_streams(api, run) as read:
        process.popen.terminate()
        read()
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


def host_ends(api: Api, process: Process, behind: Api) -> None:
    """The same of a host that has the engine behind it, and the service hears of it."""
    run, _ = api.talk()
    with three_streams(api, run) as read:
        process.popen.terminate()
        read()
    status = process.left()
    assert status in {0, 143, -15}, f"{status}\n{process.said}"
    assert "Error" not in process.said, process.said
    until_none(behind)
    assert behind.client.get(f"/runs/{run}").json()["status"] == "running"


def service_ends(api: Api, behind: Api, service: Process) -> None:
    """When it is the service that ends, streams through the host are whole, too."""
    run, _ = behind.talk()
    with three_streams(api, run) as read:
        service.popen.terminate()
        read()
    assert service.left() in {0, -15}, service.said
    assert asyncio.run(_reopened(service.data, run)) == "running"


def until_none(behind: Api) -> None:
    for _ in range(10_000):
        if subscribers(behind) == 0:
            return
    raise AssertionError("the service still has streams open")


def lived(process: Process) -> None:
    """The host's own start and end ran, once each."""
    assert process.popen.poll() is not None, "it runs still"
    for word in ("host started", "host stopped"):
        assert process.said.count(word) == 1, process.said


# ---------------------------------------------------------------- starts


def without_lifespan(host: Host, process: Process) -> None:
    """Where nobody runs the lifespan, a request says what is missing and where to read of it."""
    headers = {"X-API-Key": KEY}
    below = f"{process.url}{host.prefix}"
    for answer in (
        httpx.get(f"{below}/runs", headers=headers, timeout=100),
        httpx.get(f"{below}/runs/run_nobody00/stream", headers=headers, timeout=100),
        httpx.post(f"{below}/runs/run_nobody00/cancel", headers=headers, timeout=100),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE"), answer.text
        assert "docs/embedding.md" in answer.json()["error"]
    assert not process.data.exists()


def without_service(api: Api) -> None:
    """Where the service is not there, a read is not done, and what an act did is not known."""
    read = api.client.get("/runs")
    assert (read.status_code, read.json()["code"]) == (503, "UNAVAILABLE"), read.text
    act = api.client.post("/runs/run_nobody00/cancel")
    assert (act.status_code, act.json()["code"]) == (503, "OUTCOME_UNKNOWN"), act.text
    for answer in (read, act):
        assert set(answer.json()) == {"error", "code"}
        assert int(answer.headers["retry-after"]) >= 1


def is_private(host: Host, root: str) -> None:
    """`private` serves neither trigger nor notify: they do not exist, and everything else does."""
    headers = {"X-API-Key": KEY}
    with httpx.Client(base_url=root + host.prefix, headers=headers, timeout=100) as client:
        for path in ("/trigger/double", "/trigger/double/batch", "/notify/x"):
            answer = client.post(path, json=1)
            assert answer.status_code == 404, f"{path}: {answer.text}"
            if host.strays:
                assert answer.json() == {"error": "Not found", "code": "NOT_FOUND"}
        assert client.get("/health").status_code == 200
        for path in ("/runs", "/runs/run_nobody00", "/runs/run_nobody00/stream", "/metrics"):
            # 503 where the engine does not run; never what a route that is left out would say.
            answer = client.get(path)
            found = (
                (answer.status_code, answer.json().get("code")) if answer.content[:1] == b"{" else 0
            )
            assert found != (404, "NOT_FOUND"), path
            assert answer.status_code in {200, 404, 503}, path


def below_root_path(host: Host, process: Process) -> None:
    """Behind a proxy that takes a prefix away and says so, the same routes are there."""
    with httpx.Client(base_url=process.url + host.prefix, timeout=100) as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.put("/health").json()["code"] == "METHOD_NOT_ALLOWED"
        assert f'url: "/gw{host.prefix}"' in client.get("/openapi.yaml").text


def below_a_prefix(api: Api) -> None:
    """Mounted elsewhere, before a service below a path of its own, the same routes are there."""
    assert api.client.get("/health").json()["status"] == "ok"
    assert api.client.put("/health").json()["code"] == "METHOD_NOT_ALLOWED"
    assert api.client.get("/runs/run_nobody00").json()["code"] == "RUN_NOT_FOUND"
    document = api.client.get("/openapi.yaml")
    assert f'url: "/gw{api.prefix}"' in document.text
    assert javascript.INNER not in document.text


def keeps_the_key(api: Api, behind: Api) -> None:
    """The host adds the service's key; callers neither have it nor ever see it."""
    assert api.key != behind.key
    refused = behind.client.get("/runs", headers={"X-API-Key": api.key})
    assert refused.status_code == 401
    answers = [
        api.client.get("/runs"),
        api.client.get("/health"),
        api.client.get("/openapi.yaml"),
        api.client.get("/nothing"),
        api.client.post("/trigger/double", json=1),
        api.client.get("/runs", headers={"X-API-Key": behind.key}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 200, 401]
    for answer in answers:
        assert behind.key not in answer.text + repr(answer.headers)
    with httpx.Client() as session:
        # A session of the host's is nothing to the service; the key is the host's to add.
        session.cookies.update({"user": "ada"})
        assert session.get(f"{api.root}{api.prefix}/runs").status_code == 200
        assert session.get(f"{behind.root}/runs").status_code == 401


def _api(service: Process) -> Api:
    return Api(service.url, "", javascript.SERVICE_KEY)
