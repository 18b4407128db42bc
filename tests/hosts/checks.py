"""What must be true of the API in every host: black box, over real HTTP.

A check gets the host's address and prefix, so that it serves for any host, in any language and
behind any proxy. Its first line is its name in the table.
"""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class _Again(httpx.HTTPTransport):
    """Asks once more where the server closed a kept connection just as a request went out.

    That is the server's right, and a client's to repeat what changes nothing (RFC 9112, 9.3.1).
    """

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return super().handle_request(request)
        except httpx.RemoteProtocolError as error:
            if request.method not in {"GET", "HEAD"} or "without sending" not in str(error):
                raise
            return super().handle_request(request)


@dataclass
class Api:
    """The API somewhere: `root` is the host's address, with what a proxy puts in front."""

    root: str
    prefix: str
    key: str
    own: str | None = None
    users: bool = False
    strays: bool = True
    """Whether what is no route below the prefix is ours to answer."""
    fronted: bool = False
    """Whether a proxy stands in front."""
    audited: bool = True
    """Whether the service hears which of the host's users calls."""
    client_script: Callable[[str, str], str] | None = None
    """Runs the host's language's own client against an address, with a key; says what it said."""
    client: httpx.Client = field(init=False)
    opened: list[httpx.Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = self.new()

    def close(self) -> None:
        for client in self.opened:
            client.close()

    def new(self, *, key: bool = True) -> httpx.Client:
        headers = {"X-API-Key": self.key} if key else {}
        made = httpx.Client(
            base_url=self.root + self.prefix, headers=headers, timeout=100, transport=_Again()
        )
        self.opened.append(made)
        return made

    def host(self) -> httpx.Client:
        return httpx.Client(base_url=self.root, timeout=100)

    def trigger(self, workflow: str, value: Any) -> dict[str, str]:
        answer = self.client.post(f"/trigger/{workflow}", json=value)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"runId", "publicAccessToken"}
        return answer.json()

    def talk(self) -> tuple[str, Callable[[str], None]]:
        """Start a run that takes a word for each event; return its id, and what says a word."""
        name = uuid.uuid4().hex
        run = self.trigger("talk", {"id": name})["runId"]

        def say(word: str) -> None:
            answer = self.client.post(f"/notify/say-{name}", json=word)
            assert answer.json() == {"success": True}, answer.text

        return run, say


@contextmanager
def stream(client: httpx.Client, run: str, **options: Any) -> Generator[Iterator[dict[str, str]]]:
    with client.stream("GET", f"/runs/{run}/stream", **options) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        yield events_of(answer.iter_lines())


def events_of(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        if not line and "data" in event:
            yield event
            event = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")


def until(events: Iterator[dict[str, str]], wanted: Callable[[Any], bool]) -> dict[str, str]:
    for event in events:
        if wanted(json.loads(event["data"])):
            return event
    raise AssertionError("the stream ended before that event")


def turn(number: int, status: str) -> Callable[[Any], bool]:
    return lambda data: (
        data.get("name", data.get("stepName")) == f"turn-{number}"
        and (data.get("status") == status or status == "any")
    )


# ---------------------------------------------------------------- the checks


def own_routes(api: Api) -> None:
    """own routes"""
    with api.host() as client:
        answer = client.get("/own")
        assert answer.status_code == 200
        assert "own" in answer.text
        assert client.get("/elsewhere").status_code == 404


def triggers(api: Api) -> None:
    """trigger, get"""
    run = api.trigger("double", 21)
    with stream(api.client, run["runId"]) as events:
        last = list(events)[-1]
    assert json.loads(last["data"])["result"] == 42
    shown = api.client.get(f"/runs/{run['runId']}")
    assert shown.status_code == 200
    assert (
        shown.json().items()
        >= {
            "id": run["runId"],
            "workflowId": "double",
            "status": "completed",
            "input": 21,
            "result": 42,
        }.items()
    )
    assert [step["name"] for step in shown.json()["steps"]] == ["double"]
    # An id that is written in percent-encoding is the same id, once and only once.
    assert api.client.post("/trigger/%64ouble", json=1).status_code == 200
    assert api.client.post("/trigger/%2564ouble", json=1).status_code == 404


def notifies(api: Api) -> None:
    """notify"""
    # An event's id may have anything in it, slashes too, as they are or encoded.
    for safe in ("/", ""):
        name = f"a/b {uuid.uuid4().hex} ü"
        run = api.trigger("talk", {"id": name})["runId"]
        answer = api.client.post(f"/notify/say-{quote(name, safe=safe)}", json="stop")
        assert (answer.status_code, answer.json()) == (200, {"success": True}), answer.text
        with stream(api.client, run) as events:
            assert list(events)[-1]["event"] == "complete"


def unbuffered(api: Api) -> None:
    """stream unbuffered"""
    run, say = api.talk()
    with stream(api.client, run) as events:
        for number in range(3):
            # Each word is said only when what follows from the word before has been read here: a
            # stream that is held back anywhere comes to a standstill.
            say(f"word {number}")
            until(events, turn(number, "completed"))
        say("stop")
        assert list(events)[-1]["event"] == "complete"


def resumes(api: Api) -> None:
    """resume by id"""
    run, say = api.talk()
    say("one")
    with stream(api.client, run) as events:
        seen = until(events, turn(0, "completed"))
    say("two")
    say("stop")
    with stream(api.client, run, headers={"Last-Event-ID": seen["id"]}) as events:
        rest = list(events)
    ids = [int(event["id"]) for event in rest]
    assert ids == sorted(set(ids))
    assert ids[0] > int(seen["id"])
    with stream(api.client, run) as events:
        every = [int(event["id"]) for event in events]
    assert [number for number in every if number > int(seen["id"])] == ids
    again = api.client.get(f"/runs/{run}/stream", headers={"Last-Event-ID": str(ids[-1])})
    assert again.status_code == 204


def subscribers(api: Api) -> int:
    text = api.client.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("stepflow_stream_subscribers ")]
    assert len(lines) == 1, "no figure of subscribers"
    return int(float(lines[0].split()[1]))


def dropped(api: Api) -> None:
    """dropped client"""
    run, say = api.talk()
    with api.new() as leaving, stream(leaving, run) as events:
        next(events)
        assert subscribers(api) >= 1
    # The run is silent, so nothing is sent that could fail: the server must notice by itself.
    for _ in range(10_000):
        if subscribers(api) == 0:
            break
    assert subscribers(api) == 0
    say("stop")


def refuses(api: Api) -> None:
    """refusals"""
    with api.new(key=False) as nobody:
        for answer in (
            nobody.get("/runs"),
            nobody.post("/trigger/double", json=1),
            nobody.get("/runs", headers={"X-API-Key": "w" * 20}),
            nobody.get("/runs/run_nobody00"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
        for path in ("/health", "/ready", "/openapi.yaml"):
            assert nobody.get(path).status_code == 200
    if api.strays:
        answer = api.client.get("/nothing")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    asks = [
        (api.client.put("/health"), 405, "METHOD_NOT_ALLOWED"),
        (api.client.get("/runs/run_nobody00"), 404, "RUN_NOT_FOUND"),
        (api.client.post("/trigger/nothing", json=1), 404, "WORKFLOW_NOT_FOUND"),
        (api.client.post("/notify/nothing", json=1), 404, "EVENT_NOT_FOUND"),
        (api.client.post("/trigger/double", json="x"), 400, "INVALID_INPUT"),
        (api.client.post("/trigger/double", content=b"{", headers=JSON), 400, "INVALID_INPUT"),
    ]
    if not api.fronted:
        # A proxy has a limit of its own, or loses an answer that comes before it has sent it all.
        large = b'"' + b"x" * (1 << 20) + b'"'
        answer = api.client.post("/trigger/double", content=large, headers=JSON)
        asks.append((answer, 413, "PAYLOAD_TOO_LARGE"))
    for answer, status, code in asks:
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert set(answer.json()) == {"error", "code"}


def heads(api: Api) -> None:
    """HEAD"""
    answer = api.client.head("/health")
    assert (answer.status_code, answer.content) == (200, b"")
    assert api.client.head("/runs/run_nobody00").status_code == 404


def links(api: Api) -> None:
    """links"""
    html = {"Accept": "text/html"}
    with api.new(key=False) as browser:
        page = browser.get("/", headers=html, follow_redirects=True)
        assert page.status_code == 200
        assert "text/html" in page.headers["content-type"]
        # Wherever it is mounted, and whatever a proxy has put in front, links stay below it.
        assert str(page.url).startswith(f"{api.root}{api.prefix}/")
        if api.prefix:
            bare = httpx.get(api.root + api.prefix, headers=html, follow_redirects=True)
            assert bare.status_code == 200
            assert str(bare.url).startswith(f"{api.root}{api.prefix}/")


def documents(api: Api) -> None:
    """document"""
    with api.new(key=False) as reader:
        read = reader.get("/openapi.yaml")
        document = yaml.safe_load(read.text)
        assert {"/trigger/{workflowId}", "/runs/{runId}/stream"} <= set(document["paths"])
        # It says of itself where it is served.
        [server] = document["servers"]
        assert str(read.url.join(server["url"])).rstrip("/") == api.root + api.prefix


def clients(api: Api) -> None:
    """client"""
    assert api.client_script is not None
    assert "client: ok" in api.client_script(api.root + api.prefix, api.key)


def tokens(api: Api) -> None:
    """public token"""
    run, other = api.trigger("double", 1), api.trigger("double", 2)
    token = {"token": run["publicAccessToken"]}
    with api.new(key=False) as page:
        assert page.get(f"/runs/{run['runId']}", params=token).status_code == 200
        with stream(page, run["runId"], params=token) as events:
            assert list(events)[-1]["event"] == "complete"
        assert page.get(f"/runs/{other['runId']}", params=token).status_code == 404
        assert page.get("/runs", params=token).status_code == 403
        assert page.get(f"/runs/{run['runId']}", params={"token": "pat_x"}).status_code == 401


def its_users(api: Api) -> None:
    """its users"""
    with api.host() as browser, api.new(key=False) as below:
        browser.headers["Origin"] = api.root
        answer = browser.post("/login", json={"user": "ada"})
        assert answer.status_code in {200, 201}, answer.text
        below.cookies.update(browser.cookies)
        below.headers["X-CSRFToken"] = answer.text.strip('"')
        started = below.post("/trigger/talk", json={"id": "ada"})
        assert started.status_code == 200, started.text
        run = started.json()["runId"]
        assert below.post(f"/runs/{run}/cancel").status_code == 200
        if api.audited:
            assert "user:ada" in below.get(f"/runs/{run}/audit").text
        with stream(below, run) as events:
            next(events)
        # A page of another site has the cookie sent, too.
        for forged in (
            below.post("/trigger/double", json=1, headers={"Origin": "https://evil.example"}),
            below.post("/trigger/double", headers={"Origin": "https://evil.example"}),
        ):
            assert forged.status_code in {401, 403}, forged.text
            assert set(forged.json()) == {"error", "code"}


JSON: Final = {"Content-Type": "application/json"}
CHECKS: Final[tuple[Callable[[Api], None], ...]] = (
    own_routes,
    triggers,
    notifies,
    unbuffered,
    resumes,
    dropped,
    refuses,
    heads,
    links,
    documents,
    clients,
    tokens,
    its_users,
)
