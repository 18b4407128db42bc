"""Random attacks for as long as wanted: the same seed tries the same.

================ =================================================================
forge            keys, JWTs and tokens made of good ones by random changes: 401
garble           good requests with random bytes changed, over a real socket: some
                 answer or none, never 500, and the next client is served
queries          paths, queries and bodies with random changes: never 500, always why
texts            JSON with random changes: what is taken is what Python's parser
                 reads, and is given back as it was
machine          random sequences of calls beside the model (`api_machine.py`)
tables           every table once more
crowd            half requests, slow bodies and silent connections by the hundred,
                 and a healthy client between them
================ =================================================================
"""

from __future__ import annotations

import json
import random
import re
import socket
import tempfile
import time
from asyncio import run
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stepflow.config import MIB
from tests.attacks.api_machine import run_machine
from tests.attacks.door import ADMIN, JWT_SECRET, ORIGIN, Door, Request
from tests.attacks.jwt_forgeries import signed
from tests.attacks.run import TABLES, run_table
from tests.attacks.storm import reconnect_storm
from tests.attacks.wire import KEY, Wire, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.attacks.wire import Reply

__all__ = ["crowd", "forge", "garble", "queries", "repeat", "texts", "torture"]

_STORM_S: Final = 45.0
_SILENT_S: Final = 60.0
ALLOWED: Final = {200, 400, 401, 403, 404, 405, 408, 413, 414, 429, 431, 503}


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Attack for about so long; return how often. Raises `AssertionError` with what to repeat."""
    until_s = time.monotonic() + seconds
    counts = {"attacks": 0, "cases": 0, "kills": 0, "violations": 0}
    for name in TABLES:
        count, wrong = run_table(name)
        assert not wrong, f"python -m tests.attacks {name}: {wrong[0]}"
        counts["attacks"] += count
    say(f"{counts['attacks']} attacks of the tables")
    if seconds > _STORM_S:
        streams = 500 if seconds > 5 * _STORM_S else 100
        with tempfile.TemporaryDirectory() as where:
            run(reconnect_storm(streams, 2, Path(where)))
        counts["kills"] += 2
        say(f"{streams} streams survived two kills")
    number = 0
    with _targets() as (door, wire):
        while not number or time.monotonic() < until_s:
            one_round(door, wire, seed * 1_000_003 + number, counts)
            number += 1
            if number % 20 == 0:
                say(f"{counts['attacks']} attacks, {counts['cases']} sequences of calls")
    return counts


@contextmanager
def _targets() -> Generator[tuple[Door, Wire]]:
    with ExitStack() as stack:
        door = stack.enter_context(Door(cors=(ORIGIN,), changes={"finished_bytes_max": 16 * MIB}))
        wire = stack.enter_context(
            on_a_socket(header_deadline_s=0.5, body_deadline_s=0.5, linger_s=0.1)
        )
        yield door, wire


def repeat(seed: int) -> dict[str, int]:
    """Make the round of that seed again."""
    counts = {"attacks": 0, "cases": 0}
    with _targets() as (door, wire):
        one_round(door, wire, seed, counts)
    return counts


def one_round(door: Door, wire: Wire, seed: int, counts: dict[str, int]) -> None:
    """Make one round, all chance from `seed`: `python -m tests.attacks --round SEED` repeats it."""
    dice = random.Random(seed)
    try:
        counts["attacks"] += forge(door, dice, 300) + texts(door, dice, 200)
        counts["attacks"] += queries(door, dice, 300)
        counts["attacks"] += garble(wire, dice, 100)
        if dice.random() < 0.1:
            counts["attacks"] += crowd(wire, dice, 100)
        run_machine(examples=2, steps=40, seed=seed, shorten=False)
        counts["cases"] += 2
    except AssertionError as error:
        raise AssertionError(f"attacks, round {seed}: {error}") from error


# ---------------------------------------------------------------- forging


def forge(door: Door, dice: random.Random, count: int) -> int:
    """Change good credentials; none may open a door, and nothing else than 401 may come."""
    jwt = signed({"alg": "HS256"}, {"sub": "ann", "exp": door.now_s + 60}, JWT_SECRET.encode())
    good: dict[str, tuple[str, str]] = {
        "key": ("X-API-Key", ADMIN),
        "made key": ("X-API-Key", door.reader),
        "JWT": ("Authorization", f"Bearer {jwt}"),
        "token": ("Authorization", f"Bearer {door.token}"),
    }
    for _ in range(count):
        kind = dice.choice(sorted(good))
        header, text = good[kind]
        changed = _changed_text(text, dice)
        if changed in {each for _, each in good.values()} or _is_the_same(changed, text):
            continue
        reply = door.ask(Request("GET", f"/runs/{door.run}", ((header, changed),)))
        assert reply.status == 401, (kind, changed, reply)
        _no_secret(door, reply)
    return count


def _is_the_same(changed: str, text: str) -> bool:
    """Say whether only the scheme's case was changed, which means nothing."""
    one, _, rest = changed.partition(" ")
    other, _, same = text.partition(" ")
    return bool(rest) and rest == same and one.lower() == other.lower()


def _changed_text(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text))
    other = dice.choice("aA0_-.=/+ \t\n\0é") + dice.choice("zZ9")
    match dice.randrange(7):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + chr(ord(text[place]) ^ 1 << dice.randrange(7)) + text[place + 1 :]
        case 2:
            return text[:place] + other + text[place:]
        case 3:
            return text[:place] + text[place + 1 :]
        case 4:
            return text + text[place:]
        case 5:
            return text[:place] + text[place:][::-1]
        case _:
            return text.swapcase()


def _no_secret(door: Door, reply: Reply) -> None:
    shown = reply.body.decode("utf-8", "replace")
    assert not any(secret in shown for secret in door.secrets.values()), reply


# ---------------------------------------------------------------- JSON


def texts(door: Door, dice: random.Random, count: int) -> int:
    """Change JSON; what is taken is JSON for Python too, and comes back as it went in."""
    for _ in range(count):
        body = _changed_bytes(json.dumps(_value(dice, 3)).encode(), dice)
        reply = door.ask(Request("POST", "/trigger/echo", door.as_admin(), body))
        assert reply.status in {200, 400}, (body, reply)
        if reply.status == 400:
            continue
        expected = json.loads(body) if body else None
        run = json.loads(reply.body)["runId"]
        view = json.loads(door.ask(Request("GET", f"/runs/{run}", door.as_admin())).body)
        assert view["input"] == expected, (body, view)
    return count


def _value(dice: random.Random, depth: int) -> Any:
    match dice.randrange(7 if depth else 4):
        case 0:
            return dice.choice([None, True, False, "", "a\n\u2028\ud83d\ude00", "\\u0000", "{[}]"])
        case 1:
            return dice.choice([0, -1, 2**63, 2**64 - 1, -(2**63), dice.getrandbits(60)])
        case 2:
            return dice.choice([0.5, -1e300, 1e-300, dice.random()])
        case 3:
            return "".join(chr(dice.randrange(1, 0x300)) for _ in range(dice.randrange(20)))
        case 4 | 5:
            return [_value(dice, depth - 1) for _ in range(dice.randrange(4))]
        case _:
            return {str(n): _value(dice, depth - 1) for n in range(dice.randrange(4))}


def _changed_bytes(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice([0, 1, 1, 2, 5])):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(4):
            case 0 if place < len(changed):
                changed[place] ^= 1 << dice.randrange(8)
            case 1:
                del changed[place : place + dice.randrange(1, 4)]
            case 2:
                changed[place:place] = dice.choice([b"\0", b"[", b"{", b'"', b"\\", b",", b"\xff"])
            case _:
                changed[place:place] = changed[: dice.randrange(20)]
    return bytes(changed)


# ---------------------------------------------------------------- paths and queries

_PATHS: Final = (
    "/runs",
    "/runs/{run}",
    "/runs/{run}/stream",
    "/workflows/echo",
    "/events",
    "/metrics",
    "/ready",
    "/health",
)
_QUERIES: Final = (
    "limit=3",
    "status=completed",
    "workflowId=echo",
    "tag=a",
    "createdAfter=2024-01-15T10:30:00Z",
    "createdBefore=2024-01-15T10:30:00.123+02:00",
    "lastEventId=3",
    "token={token}",
    "cursor={cursor}",
)
_BODIES: Final = (b'{"ttl":60}', b'{"ttl":86400.5}', b"{}", b"null", b"[1,2]", b'{"id":"1"}')
_WRITES: Final = ("/runs/{run}/token", "/runs/{run}/resume", "/trigger/echo/batch", "/notify/go-z")


def queries(door: Door, dice: random.Random, count: int) -> int:
    """Change paths, queries and bodies of good requests; the answer is no defect and says why."""
    page = json.loads(door.ask(Request("GET", "/runs?limit=1", door.as_admin())).body)
    given = {"run": door.other, "token": door.token, "cursor": page["nextCursor"]}
    for _ in range(count):
        if dice.random() < 0.7:
            terms = dice.choices(_QUERIES, k=dice.randrange(4))
            target = dice.choice(_PATHS) + "?" + "&".join(terms)
            method, body = dice.choice(["GET", "GET", "GET", "HEAD", "OPTIONS", "PATCH"]), b""
        else:
            target, method = dice.choice(_WRITES), "POST"
            body = _changed_bytes(dice.choice(_BODIES), dice)
        target = target.format(**given)
        for _ in range(dice.randrange(3)):
            place = dice.randrange(1, len(target))
            piece = dice.choice(
                ["%00", "%", "%ff", "&", "=", "+", "%2e%2e/", "9" * 25, "é", ";", "#"]
            )
            target = target[:place] + piece + target[place + dice.randrange(3) :]
        if "stream" in target:
            method = "HEAD"  # a stream that is open does not end
        reply = door.ask(Request(method, target, door.as_admin(), body))
        assert reply.status < 500, (method, target, body, reply)
        if reply.status >= 400 and method != "HEAD":
            assert list(json.loads(reply.body)) == ["error", "code"], (method, target, reply)
    return count


# ---------------------------------------------------------------- the connection


def garble(wire: Wire, dice: random.Random, count: int) -> int:
    """Change the bytes of good requests; the server answers something, and serves on."""
    key = f"X-API-Key: {KEY}\r\n".encode()
    good = (
        b"GET /runs?limit=1 HTTP/1.1\r\nHost: a\r\n" + key + b"\r\n",
        b"POST /trigger/echo HTTP/1.1\r\nHost: a\r\n" + key + b"Content-Length: 3\r\n\r\n[1]",
        b"POST /trigger/echo HTTP/1.1\r\nHost: a\r\n"
        + key
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n",
        b"GET /runs/run_0123456789/stream HTTP/1.1\r\nHost: a\r\n" + key + b"\r\n",
    )
    for _ in range(count):
        data = b"".join(
            _changed_bytes(dice.choice(good), dice) for _ in range(dice.choice([1, 1, 2, 4]))
        )
        for status in _statuses(wire, data, dice):
            assert status in ALLOWED, (data, status)
    _is_served(wire)
    return count


def _statuses(wire: Wire, data: bytes, dice: random.Random) -> list[int]:
    """Send it in some pieces, say that it is all, and return the statuses that came."""
    with wire.connected() as sock:
        sock.settimeout(_SILENT_S)
        place = dice.randrange(len(data) + 1)
        taken = b""
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data[:place])
            sock.sendall(data[place:])
            with suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(65536):
                taken += chunk
    return [int(text) for text in re.findall(rb"HTTP/1\.1 (\d\d\d) ", taken) if text != b"100"]


def crowd(wire: Wire, dice: random.Random, count: int) -> int:
    """Open connections that do nothing good; each is closed, and a healthy client is served."""
    starts = (
        b"",
        b"GET / HTTP/1.1\r\nHost",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 20_000,
        b"POST /trigger/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n[",
        b"\r\n\r\n",
    )
    with ExitStack() as stack:
        socks = [stack.enter_context(wire.connected()) for _ in range(count)]
        for sock in socks:
            sock.settimeout(_SILENT_S)
            sock.sendall(dice.choice(starts))
            if dice.random() < 0.1:
                _is_served(wire)
        for sock in socks:
            with suppress(ConnectionResetError):
                while sock.recv(65536):
                    pass
    _is_served(wire)
    return count


def _is_served(wire: Wire) -> None:
    assert wire.ask("GET", "/runs?limit=1").status == 200
