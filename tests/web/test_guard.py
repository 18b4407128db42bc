"""What the guard answers, byte for byte, over raw sockets, on both event loops."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.config import Settings
from stepflow.web.server import Server, make_config

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

DEADLINE_S = 0.8
SHORT = {"header_deadline_s": DEADLINE_S, "body_deadline_s": DEADLINE_S, "linger_s": 0.3}
HOST = b"Host: a\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


class App:
    """Answers with what it was sent; holds some requests until it is told to go on."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.disconnects = threading.Semaphore(0)
        self.arrived = threading.Semaphore(0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._go: asyncio.Event | None = None

    def go(self) -> None:
        assert self._loop
        assert self._go
        self._loop.call_soon_threadsafe(self._go.set)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        self.seen.append(scope)
        self.arrived.release()
        if scope["path"] == "/boom":
            raise RuntimeError("the host's own mistake")
        if scope["path"] == "/early":
            return await _answer(send, b"early")
        if scope["path"] == "/stream":
            return await self._stream(send)
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnects.release()
                return None
            body += message["body"]
            more = message["more_body"]
        if scope["path"] == "/hold":
            assert self._go
            await self._go.wait()
        names = sorted(name.decode() for name, _ in scope["headers"])
        text = json.dumps({"path": scope["path"], "body": body.decode(), "headers": names})
        return await _answer(send, text.encode())

    async def _stream(self, send: Any) -> None:
        assert self._go
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await self._go.wait()
        await send({"type": "http.response.body", "body": b"last", "more_body": False})

    async def _lifespan(self, receive: Any, send: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._go = asyncio.Event()
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})


async def _answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Served:
    def __init__(self, server: Server, app: App, address: tuple[str, int]) -> None:
        self.server = server
        self.app = app
        self.address = address

    @contextmanager
    def connect(self) -> Iterator[Wire]:
        with socket.create_connection(self.address, timeout=60) as sock:
            yield Wire(sock)

    def ask(self, request: bytes) -> bytes:
        """Send one request; return all that comes until the server closes."""
        with self.connect() as wire:
            wire.send(request)
            return wire.to_end()


class Wire:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def to_end(self) -> bytes:
        taken, self._held = self._held, b""
        while chunk := self.sock.recv(65536):
            taken += chunk
        return taken

    def until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            chunk = self.sock.recv(65536)
            assert chunk, f"closed before {mark!r}: {self._held!r}"
            self._held += chunk
        taken, _, self._held = self._held.partition(mark)
        return taken + mark

    def response(self) -> tuple[int, bytes]:
        head = self.until(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        wanted = int(length[1])
        while len(self._held) < wanted:
            chunk = self.sock.recv(65536)
            assert chunk
            self._held += chunk
        body, self._held = self._held[:wanted], self._held[wanted:]
        return int(head.split(b" ", 2)[1]), body


@contextmanager
def served(loop: str = "uvloop", keep_alive_s: int = 60, **knobs: Any) -> Generator[Served]:
    app = App()
    started = threading.Event()
    address: list[tuple[str, int]] = []

    def on_started(host: str, port: int) -> None:
        address.append((host, port))
        started.set()

    config = make_config(app, Settings(**knobs), port=0, log_level="critical")
    config.loop = loop
    config.timeout_keep_alive = keep_alive_s
    server = Server(config, on_started=on_started)
    thread = threading.Thread(target=server.run_to_end)
    thread.start()
    try:
        assert started.wait(60)
        yield Served(server, app, address[0])
    finally:
        if app._loop:
            app.go()
        server.stop()
        thread.join()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def patient(request: pytest.FixtureRequest) -> Generator[Served]:
    """A server with the default limits."""
    with served(request.param, linger_s=0.3) as server:
        yield server


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def hasty(request: pytest.FixtureRequest) -> Generator[Served]:
    """A server whose deadlines are short."""
    with served(request.param, **SHORT) as server:
        yield server


def status_of(wire: bytes) -> int:
    assert wire, "closed without an answer"
    return int(wire.split(b" ", 2)[1])


def get(path: bytes = b"/", *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + lines + b"\r\n"


def close(path: bytes = b"/", *headers: bytes) -> bytes:
    return get(path, *headers, b"Connection: close")


MALFORMED = {
    "both kinds of length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
    b"Content-Length: 4\r\n\r\nabc",
    "a length with a sign": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
    "space before a colon": b"GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
    "no method": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all\r\n\r\n",
    "an unknown method": b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an unknown version": b"GET / HTTP/3.7\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a bad chunk size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunked, not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n",
}
TOO_LARGE = {
    "one header over 32 KiB": (431, get(b"/", b"X-A: " + b"a" * 33_000)),
    "one header of 70 KB": (431, get(b"/", b"X-A: " + b"a" * 70_000)),
    "one header of 5 MB": (431, get(b"/", b"X-A: " + b"a" * 5_000_000)),
    "a header of 40 KB that does not end": (431, get()[:-2] + b"X-A: " + b"a" * 40_000),
    "many headers over 32 KiB": (431, get(b"/", *(b"X-%d: " % n + b"a" * 700 for n in range(50)))),
    "101 headers": (431, get(b"/", *(b"X-%d: a" % n for n in range(100)))),
    "20,000 headers": (431, get(b"/", *(b"X-%d: a" % n for n in range(20_000)))),
    "200 trailers": (
        431,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"".join(b"X-%d: a\r\n" % n for n in range(200))
        + b"\r\n",
    ),
    "a trailer of 40 KB that does not end": (
        431,
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nX-A: " + b"a" * 300_000,
    ),
    "a URL over 8 KiB": (414, get(b"/" + b"a" * 8192)),
    "a URL of 1 MB": (414, get(b"/" + b"a" * 1_000_000)),
    "a URL of 20 KB that does not end": (414, b"GET /" + b"a" * 20_000),
}
JUST_BELOW = {
    "headers of 31 KB": close(b"/", b"X-A: " + b"a" * 31_000),
    "100 headers": get(b"/", *(b"X-%d: a" % n for n in range(98)), b"Connection: close"),
    "a URL of 8 KiB": close(b"/" + b"a" * 8191),
}


class TestRefusals:
    @pytest.mark.parametrize("name", MALFORMED)
    def test_what_is_no_http_gets_400_in_the_shape_of_an_api_error(self, patient, name):
        answer = patient.ask(MALFORMED[name])
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status_of(answer) == 400
        assert json.loads(body).keys() == {"error", "code"}
        assert json.loads(body)["code"] == "INVALID_INPUT"
        assert b"content-type: application/json\r\n" in head
        assert b"connection: close" in head
        assert b"content-length: %d" % len(body) in head

    @pytest.mark.parametrize("name", TOO_LARGE)
    def test_what_is_too_large_gets_its_status(self, patient, name):
        status, request = TOO_LARGE[name]
        with patient.connect() as wire:
            try:
                wire.send(request)
            except (BrokenPipeError, ConnectionResetError):
                assert len(request) > 1_000_000, "only megabytes may meet a closed door"
                return
            answer = wire.to_end()
        assert status_of(answer) == status
        assert json.loads(answer.partition(b"\r\n\r\n")[2]).keys() == {"error", "code"}

    @pytest.mark.parametrize("name", JUST_BELOW)
    def test_what_is_just_below_a_limit_is_served(self, patient, name):
        assert patient.ask(JUST_BELOW[name]).startswith(OK)

    def test_a_refused_request_does_not_reach_the_application(self, patient):
        seen = len(patient.app.seen)
        patient.ask(get(b"/", b"X-A: " + b"a" * 33_000))
        patient.ask(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(patient.app.seen) == seen

    def test_a_big_body_in_the_same_read_does_not_count_as_headers(self, patient):
        body = b"b" * 200_000
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: %s\r\n" % (b"a" * 30_000)
        answer = patient.ask(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(OK)
        assert answer.count(b"b") >= 200_000

    def test_headers_of_pipelined_requests_are_counted_apart(self, patient):
        one = get(b"/", b"X-A: " + b"a" * 20_000)
        answer = patient.ask(one + one + close(b"/", b"X-A: " + b"a" * 20_000))
        assert answer.count(OK) == 3

    def test_the_answer_arrives_although_the_client_is_still_sending(self, patient):
        with patient.connect() as wire:
            wire.send(get(b"/", b"X-A: " + b"a" * 33_000))
            head = wire.until(b"\r\n\r\n")
            wire.send(b"a" * 1000)
            assert status_of(head) == 431
            assert b"PAYLOAD_TOO_LARGE" in wire.to_end()

    def test_an_exception_of_the_application_is_500_in_the_shape_of_an_api_error(self, patient):
        answer = patient.ask(get(b"/boom"))
        assert status_of(answer) == 500
        assert answer.endswith(b'\r\n\r\n{"error":"Internal error","code":"INTERNAL"}')


class TestDeadlines:
    def test_half_a_header_gets_408(self, hasty):
        answer = hasty.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b")
        assert status_of(answer) == 408
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "UNAVAILABLE"

    def test_a_header_sent_drop_by_drop_gets_408(self, hasty):
        with hasty.connect() as wire:
            wire.sock.settimeout(0.05)
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            answer = b""
            while not answer:
                wire.send(b"X-A: b\r\n")
                try:
                    answer = wire.sock.recv(65536)
                except TimeoutError:
                    continue
            assert status_of(answer) == 408

    def test_a_connection_without_a_byte_is_closed_in_silence(self, hasty):
        assert hasty.ask(b"") == b""

    def test_blank_lines_do_not_keep_a_connection(self, hasty):
        assert hasty.ask(b"\r\n\r\n") == b""

    def test_half_a_body_gets_408_and_the_application_hears_of_it(self, hasty):
        answer = hasty.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert status_of(answer) == 408
        assert hasty.app.disconnects.acquire(timeout=60)

    def test_half_a_chunked_body_gets_408(self, hasty):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert status_of(hasty.ask(head + b"3\r\nabc\r\n")) == 408

    def test_half_a_second_header_gets_408_after_a_good_first_request(self, hasty):
        with hasty.connect() as wire:
            wire.send(get())
            assert wire.response()[0] == 200
            wire.send(b"GET / HT")
            assert status_of(wire.to_end()) == 408

    def test_a_body_that_stops_after_its_answer_closes_the_connection(self, hasty):
        with hasty.connect() as wire:
            wire.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            assert wire.response() == (200, b"early")
            assert wire.to_end() == b""

    def test_a_request_that_is_being_served_has_no_deadline(self, hasty):
        with hasty.connect() as wire:
            wire.send(get(b"/stream"))
            assert wire.until(b"first").endswith(b"first")
            wire.sock.settimeout(2.5 * DEADLINE_S)
            with pytest.raises(TimeoutError):
                wire.to_end()  # more than both deadlines: the stream is open, nothing has come

    def test_half_a_request_behind_a_stream_does_not_break_the_stream(self):
        with served(**SHORT) as server, server.connect() as wire:
            wire.send(get(b"/stream"))
            wire.until(b"first\r\n")
            wire.send(b"GET / HTTP/1.1\r\nHost")
            wire.sock.settimeout(2.5 * DEADLINE_S)
            with pytest.raises(TimeoutError):
                wire.until(b"nothing yet")
            wire.sock.settimeout(60)
            server.app.go()
            rest = wire.to_end()
            assert rest.startswith(b"4\r\nlast\r\n0\r\n\r\nHTTP/1.1 408 ")


class TestGoodTraffic:
    def test_a_kept_connection_may_be_idle_for_longer_than_a_deadline(self, hasty):
        with hasty.connect() as wire:
            wire.send(get())
            assert wire.response()[0] == 200
            wire.sock.settimeout(2.5 * DEADLINE_S)
            with pytest.raises(TimeoutError):
                wire.to_end()  # more than a deadline: idle between requests is not slow
            wire.sock.settimeout(60)
            wire.send(get(b"/again"))
            assert b'"/again"' in wire.response()[1]

    def test_a_kept_connection_is_closed_by_the_keep_alive_timeout(self):
        with served(keep_alive_s=1) as server, server.connect() as wire:
            wire.send(get())
            assert wire.response()[0] == 200
            assert wire.to_end() == b""

    def test_pipelined_requests_are_answered_in_order(self, patient):
        answer = patient.ask(get(b"/1") + get(b"/2") + close(b"/3"))
        assert re.findall(rb'"path": "/(\d)"', answer) == [b"1", b"2", b"3"]

    def test_garbage_behind_good_requests_is_refused_after_their_answers(self):
        with served() as server, server.connect() as wire:
            wire.send(get(b"/hold") + get(b"/2") + b"garbage\r\n\r\n")
            assert server.app.arrived.acquire(timeout=60)
            server.app.go()
            answer = wire.to_end()
            assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"200", b"400"]

    def test_garbage_in_a_queued_body_is_refused_after_the_answer_before_it(self):
        with served() as server, server.connect() as wire:
            bad = b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            wire.send(get(b"/hold") + bad)
            assert server.app.arrived.acquire(timeout=60)
            server.app.go()
            answer = wire.to_end()
            assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
            assert [scope["path"] for scope in server.app.seen] == ["/hold"]

    def test_garbage_in_the_body_of_a_response_under_way_cuts_the_connection(self):
        with served() as server, server.connect() as wire:
            head = b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            wire.send(head)
            wire.until(b"first\r\n")
            wire.send(b"zz\r\n")
            assert wire.to_end() == b""

    def test_a_chunked_body_arrives_whole(self, patient):
        head = (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        answer = patient.ask(head + b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert b'"body": "abcde"' in answer

    def test_a_trailer_does_not_become_a_header(self, patient):
        head = (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        answer = patient.ask(head + b"1\r\na\r\n0\r\nX-Api-Key: stolen\r\n\r\n")
        assert answer.startswith(OK)
        assert b"x-api-key" not in answer

    def test_expect_100_is_answered_before_the_body_is_sent(self, patient):
        with patient.connect() as wire:
            wire.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            wire.send(b"abc")
            assert b'"body": "abc"' in wire.response()[1]

    @pytest.mark.parametrize("pause", [False, True])
    def test_a_body_behind_an_ignored_upgrade_arrives_whole(self, patient, pause):
        head = (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 5\r\n\r\n"
        )
        with patient.connect() as wire:
            wire.send(head)
            if pause:
                assert patient.app.arrived.acquire(timeout=60)
            wire.send(b"GET /" + get(b"/after"))
            assert b'"body": "GET /"' in wire.response()[1]
            assert b'"path": "/after"' in wire.response()[1]

    def test_a_request_pipelined_behind_an_ignored_upgrade_is_answered(self, patient):
        upgrade = get(b"/1", b"Connection: Upgrade", b"Upgrade: websocket")
        answer = patient.ask(upgrade + close(b"/2"))
        assert re.findall(rb'"path": "/(\d)"', answer) == [b"1", b"2"]

    def test_every_way_to_cut_a_request_in_two_gives_the_same_answer(self, patient):
        request = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc"
        with patient.connect() as wire:
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = set()
            for cut in range(1, len(request)):
                wire.send(request[:cut])
                wire.send(request[cut:])
                answers.add(wire.response())
        assert len(answers) == 1


class TestResources:
    def test_one_connection_over_the_limit_gets_503(self):
        with served(connections_max=2, linger_s=0.3) as server:
            with server.connect() as one, server.connect() as two:
                for wire in (one, two):
                    wire.send(get())
                    assert wire.response()[0] == 200
                answer = server.ask(b"")
                assert status_of(answer) == 503
                assert b"\r\nretry-after: 1\r\n" in answer
                assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "UNAVAILABLE"
                two.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while status_of(server.ask(close())) == 503:
                pass  # the server has yet to hear that the two have gone

    def test_the_kernel_buffers_little_for_a_reader_that_does_not_read(self, patient):
        with patient.connect() as wire:
            wire.send(get())
            assert wire.response()[0] == 200
            transports = [each.transport for each in patient.server.server_state.connections]
            assert transports
            for transport in transports:
                sock = transport.get_extra_info("socket")
                # Linux doubles what it is told, for its own bookkeeping.
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 65536
