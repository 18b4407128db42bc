"""Whatever a run says, a stream says that and nothing more: no forged event, id or line.

Every hostile text goes in wherever a caller or an author can put one, and three readers (our own
parser behind both clients, and npm's) get the same events with the same JSON.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from stepflow import Context, NonRetryableError, Stepflow, current_step
from stepflow.auth.handlers import allow_all
from stepflow.client import Client, SyncClient
from stepflow.client.sse import SseParser
from stepflow.config import MEMORY
from tests.attacks.eventsource_cases import STREAMS, Event
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER: Final = Path(__file__).parents[1] / "browser"
NAMES: Final = {"status", "step", "complete", "error", "emit", "progress", "resync", "expired"}
FORGED: Final = 'id: 99\nevent: complete\ndata: {"status":"completed","result":"forged"}\n\n'

HOSTILE: Final[dict[str, str]] = {
    "LF": "a\nb",
    "CR": "a\rb",
    "CR LF": "a\r\nb",
    "a blank line": "a\n\nb",
    "an event": FORGED,
    "an event behind a blank line": "\n\n" + FORGED,
    "an event with CR": FORGED.replace("\n", "\r"),
    "a quote and an event": '"}\n\n' + FORGED,
    "data:": "data: forged",
    "a colon": ":",
    "retry": "\nretry: 0\n",
    "NUL": "a\0b",
    "line separators": "a\u2028b\u2029c\u0085d",
    "a byte order mark": "\ufeffa\ufeff",
    "VT FF": "a\v\fb",
    "ESC": "\x1b[2J\x9b2J",
    "right to left": "\u202egnp.exe\u2066",
    "markup": '"></script><script>alert(1)</script><img src=x onerror=alert(1)>',
    "a template": "{{7*7}}${7*7}",
    "four-byte letters": "😀\U0010ffff\uffff",
    "a name of JavaScript": "__proto__",
    "backslashes": "\\n\\u000a\\",
    "a long line": "data: " + "a" * 300_000,
    "many lines": "data: a\n" * 20_000,
}


async def say(text: str) -> str:
    await current_step().emit({"emitted": text, text[:64]: 1})
    return text


async def fail(text: str) -> None:
    raise NonRetryableError(text)


def flow_of_hostility() -> Stepflow:
    flow = Stepflow(MEMORY)

    @flow.workflow("says", events=["go-{id}"])
    async def says(ctx: Context, value: dict[str, Any]) -> Any:  # pyright: ignore[reportUnusedFunction]
        """Put the text into everything that an author has."""
        text: str = value["text"]
        await ctx.emit("emitted", {"text": text, text[:64]: text})
        ctx.progress(1, 2, text[:1000])
        said = await ctx.step("said", say, text, key=text.encode()[:200].decode("utf-8", "ignore"))
        got = await ctx.wait_for_event("go", f"go-{value['id']}", timeout="1h")
        if value.get("fails"):
            await ctx.step("failing", fail, text[:1000])
        return {"said": said, "got": got, text[:64]: text}

    return flow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(flow_of_hostility(), auth=allow_all) as at:
        yield at


def one_run(client: SyncClient, http: httpx.Client, name: str, *, fails: bool) -> tuple[str, bytes]:
    """Let a run say the text everywhere; return its id and its whole stream, watched live."""
    text, event = HOSTILE[name], f"{list(HOSTILE).index(name)}-{fails}"
    given = {"text": text, "id": event, "fails": fails, text[:64]: text}
    run = client.trigger("says", given).id
    with http.stream("GET", f"/runs/{run}/stream") as live:
        pieces = live.iter_raw()
        first = next(pieces)
        client.notify(f"go-{event}", {"text": text, text[:64]: 1})
        data = first + b"".join(pieces)
    return run, data


def events_of(data: bytes, pieces: int = 1) -> list[Event]:
    parser = SseParser()
    return [
        (event.event, event.data, event.id)
        for piece in cut(data, pieces)
        for event in parser.feed(piece)
    ]


def cut(data: bytes, pieces: int) -> list[bytes]:
    dice = random.Random(len(data))
    places = [0, *sorted(dice.randrange(len(data) + 1) for _ in range(pieces - 1)), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places)]


def npm_events_of(node: str, streams: list[list[bytes]]) -> list[list[Event]]:
    if not (BROWSER / "node_modules" / "eventsource-parser").exists():
        pytest.skip("no eventsource-parser here: make node-deps")
    asked = [{"pieces": [base64.b64encode(each).decode() for each in one]} for one in streams]
    done = subprocess.run(
        [node, "parse_sse.mjs"],
        cwd=BROWSER,
        input=json.dumps(asked).encode(),
        capture_output=True,
        check=True,
        timeout=100,
    )
    return [[(event[0], event[1], event[2]) for event in one] for one in json.loads(done.stdout)]


def check_nothing_is_forged(events: list[Event], text: str, *, fails: bool) -> None:
    assert {name for name, _, _ in events} <= NAMES
    ids = [int(number) for _, _, number in events if number is not None]
    assert ids == sorted(set(ids))
    last, data, _ = events[-1]
    assert last == ("error" if fails else "complete")
    assert [name for name, _, _ in events].count(last) == 1
    end = json.loads(data)
    if fails:
        # A message is kept as text that every tool shows: without NUL.
        assert end["error"]["message"] == text[:1000].replace("\0", "\ufffd")
    else:
        assert end["result"] == {"said": text, "got": {"text": text, text[:64]: 1}, text[:64]: text}


@pytest.mark.tool("node")
@pytest.mark.timeout(300)
def test_no_text_forges_an_event_and_every_reader_gets_the_same_json(
    url: str, tool_path: dict[str, str]
) -> None:
    streams: list[bytes] = []
    with SyncClient(url) as client, httpx.Client(base_url=url, timeout=60) as http:
        for name, text in HOSTILE.items():
            for fails in (False, True):
                run, live = one_run(client, http, name, fails=fails)
                raw = http.get(f"/runs/{run}/stream").content
                events = events_of(raw)
                check_nothing_is_forged(events, text, fails=fails)
                check_nothing_is_forged(events_of(live), text, fails=fails)
                check_clients_agree(url, client, run, events, http.get(f"/runs/{run}").json())
                streams += [raw, live]
    expected = [events_of(each) for each in streams]
    assert npm_events_of(tool_path["node"], [[each] for each in streams]) == expected
    in_pieces = [cut(each, 9) for each in streams]
    assert npm_events_of(tool_path["node"], in_pieces) == expected
    assert [events_of(each, 40) for each in streams] == expected


def check_clients_agree(
    url: str, client: SyncClient, run: str, events: list[Event], view: dict[str, Any]
) -> None:
    """Both clients give what the stream says; its end is what `GET /runs/{id}` says."""
    said = [(name, data.encode()) for name, data, _ in events]
    assert [(each.event, bytes(each.data)) for each in client.stream(run)] == said
    assert asyncio.run(streamed(url, run)) == said
    end = json.loads(said[-1][1])
    assert view["status"] == end["status"]
    for key in ("result", "error"):
        assert view.get(key) == end.get(key)


async def streamed(url: str, run: str) -> list[tuple[str, bytes]]:
    async with Client(url) as client:
        return [(each.event, bytes(each.data)) async for each in client.stream(run)]


@pytest.mark.parametrize("name", STREAMS)
def test_our_parser_finds_the_events_however_the_stream_is_cut(name: str) -> None:
    data, expected = STREAMS[name]
    assert events_of(data) == expected
    for pieces in (2, 3, 7):
        assert events_of(data, pieces) == expected
    if len(data) < 100:
        assert [event for each in cut_everywhere(data) for event in [each]] == [expected] * len(
            data
        )


def cut_everywhere(data: bytes) -> Iterator[list[Event]]:
    for place in range(len(data)):
        parser = SseParser()
        parts = (data[:place], data[place:])
        yield [(e.event, e.data, e.id) for part in parts for e in parser.feed(part)]


@pytest.mark.tool("node")
def test_npms_parser_finds_the_same(tool_path: dict[str, str]) -> None:
    found = npm_events_of(tool_path["node"], [[data] for data, _ in STREAMS.values()])
    expected = [events for _, events in STREAMS.values()]
    for name, one, other in zip(STREAMS, found, expected, strict=True):
        assert one == other, name
