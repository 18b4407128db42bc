"""Every limit of the guard, met exactly and passed by one, whole and cut in two."""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.auth.callers import is_loopback_address, network_of
from stepflow.config import Settings
from stepflow.web import guard
from tests.attacks.wire import Reply, Wire, on_a_socket, to_end

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_MAX = Settings().header_bytes_max
URL_MAX = Settings().url_bytes_max
COUNT_MAX = Settings().headers_max


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with on_a_socket() as served:
        yield served


def head_of(size: int, count: int = 3, url: bytes = b"/health") -> bytes:
    """Return a request's head of exactly `size` bytes with `count` headers."""
    start = b"GET " + url + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    start += b"".join(b"X-%04d: a\r\n" % number for number in range(count - 3))
    fill = size - len(start) - len(b"X-Fill: \r\n\r\n")
    head = start + b"X-Fill: " + b"a" * fill + b"\r\n\r\n"
    assert len(head) == size
    return head


def cuts_of(data: bytes) -> list[tuple[bytes, ...]]:
    """Return the request whole, without its last byte, and cut in the middle of a line."""
    return [(data,), (data[:-1], data[-1:]), (data[:-2], data[-2:]), (data[:5000], data[5000:])]


def test_a_head_of_exactly_the_limit_is_served_however_it_is_cut(wire: Wire) -> None:
    for parts in cuts_of(head_of(HEAD_MAX)):
        assert [reply.status for reply in wire.send(*parts)] == [200]


def test_a_head_of_one_byte_more_is_431_however_it_is_cut(wire: Wire) -> None:
    for parts in cuts_of(head_of(HEAD_MAX + 1)):
        assert [reply.status for reply in wire.send(*parts)] == [431]


def test_exactly_the_number_of_headers_is_served_and_one_more_is_431(wire: Wire) -> None:
    for count, status in ((COUNT_MAX, 200), (COUNT_MAX + 1, 431)):
        for parts in cuts_of(head_of(8000, count)):
            assert [reply.status for reply in wire.send(*parts)] == [status]


def test_a_url_of_exactly_the_limit_is_served_and_one_byte_more_is_414(wire: Wire) -> None:
    for size, status in ((URL_MAX, 200), (URL_MAX + 1, 414)):
        url = b"/health?" + b"a" * (size - len(b"/health?"))
        for parts in cuts_of(head_of(URL_MAX + 500, url=url)):
            assert [reply.status for reply in wire.send(*parts)] == [status]


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_413(wire: Wire) -> None:
    limit = wire.flow.settings.input_bytes_max
    for size, status in ((limit, 200), (limit + 1, 413)):
        body = b'"' + b"a" * (size - 2) + b'"'
        assert wire.ask("POST", "/trigger/echo", body=body).status == status
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
        start = (
            b"POST /trigger/echo HTTP/1.1\r\nHost: a\r\nX-API-Key: wire-key-0123456789abcdef\r\n"
        )
        start += b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert [reply.status for reply in wire.send(start, chunked)] == [status]


def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(wire: Wire) -> None:
    start = b"POST /trigger/echo HTTP/1.1\r\nHost: a\r\nX-API-Key: wire-key-0123456789abcdef\r\n"
    with wire.connected() as sock:
        sock.sendall(start + b"Content-Length: 999999999999\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_no_answer_says_what_serves_it(wire: Wire) -> None:
    for reply in (
        wire.ask("GET", "/health"),
        wire.ask("GET", "/nothing"),
        *wire.send(b"x\r\n\r\n"),
    ):
        assert not {"server", "x-powered-by", "via"} & reply.headers.keys()


def test_exactly_the_number_of_connections_is_served_and_the_next_is_503() -> None:
    with on_a_socket(connections_max=3) as wire:
        open_ones = [socket.create_connection(wire.address, timeout=60) for _ in range(3)]
        try:
            for sock in open_ones:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            (reply,) = wire.send(b"")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert json.loads(reply.body)["code"] == "UNAVAILABLE"
        finally:
            for sock in open_ones:
                reset(sock)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class TestOneAddress:
    """Loopback is not counted; so here the guard is told that it has no loopback."""

    @pytest.fixture
    def counted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
        def never(client: str) -> bool:
            del client
            return False

        monkeypatch.setattr(guard, "is_loopback_address", never)
        with on_a_socket(connections_per_address_max=3) as wire:
            yield wire

    def test_exactly_so_many_connections_of_one_address_are_served(self, counted: Wire) -> None:
        open_ones = [socket.create_connection(counted.address, timeout=60) for _ in range(3)]
        try:
            for sock in open_ones:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            (reply,) = counted.send(b"")
            assert (reply.status, reply.headers["retry-after"]) == (429, "1")
            assert json.loads(reply.body)["code"] == "RATE_LIMITED"
            other = socket.create_connection(counted.address, 60, ("127.0.0.2", 0))
            with other:
                other.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert to_end(other).startswith(b"HTTP/1.1 200 ")
        finally:
            for sock in open_ones:
                reset(sock)
        while self.health(counted).status == 429:
            pass  # the server has yet to hear that they have gone
        assert self.health(counted).status == 200

    def health(self, wire: Wire) -> Reply:
        (reply,) = wire.send(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return reply

    def test_nothing_is_kept_of_an_address_that_has_gone(self, counted: Wire) -> None:
        for number in range(2, 30):
            source = (f"127.0.0.{number}", 0)
            with socket.create_connection(counted.address, 60, source) as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert to_end(sock).startswith(b"HTTP/1.1 200 ")
        protocol: Any = counted.server.config.http_protocol_class
        while protocol.callers:
            pass  # a connection's end is heard of in the loop's next pass

    def test_a_proxy_on_this_machine_speaks_for_all_its_callers(self) -> None:
        with on_a_socket(connections_per_address_max=1) as wire, wire.connected(), wire.connected():
            assert self.health(wire).status == 200


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("not an address", False),
    ],
)
def test_loopback_is_known_in_every_way_of_writing_it(address: str, expected: bool) -> None:  # noqa: FBT001
    assert is_loopback_address(address) is expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("no:address", "no:address", True),
    ],
)
def test_an_ipv6_network_is_one_caller(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    assert (network_of(one) == network_of(other)) is same
