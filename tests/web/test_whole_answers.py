"""An answer that is whole is one write; a stream's head does not wait for its first event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepflow.config import Settings
from stepflow.web.guard import WHOLE, guarded

pytestmark = pytest.mark.asyncio


class Written:
    """A transport that remembers each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, **_: Any) -> None:
        return


async def answered(app: Any, request: bytes) -> list[bytes]:
    """Return what was written for the request, write by write."""
    import uvicorn
    from uvicorn.server import ServerState

    config = uvicorn.Config(app, http=guarded(Settings()), lifespan="off", log_level="critical")
    config.load()
    protocol = guarded(Settings())(config=config, server_state=ServerState(), app_state={})
    transport: Any = Written()
    protocol.connection_made(transport)
    protocol.data_received(request)
    for _ in range(20):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    writes: list[bytes] = transport.writes
    return writes


def app_of(*, whole: bool, pause: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"2")]
        start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": headers}
        if whole:
            start[WHOLE] = True
        await send(start)
        if pause:
            await asyncio.get_running_loop().create_future()
        await send({"type": "http.response.body", "body": b"{}"})

    return app


GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def test_head_and_body_of_a_whole_answer_are_one_write() -> None:
    (write,) = await answered(app_of(whole=True), GET)
    assert write.startswith(b"HTTP/1.1 200 OK\r\n")
    assert write.endswith(b"content-length: 2\r\n\r\n{}")


async def test_any_other_head_is_written_when_it_is_sent() -> None:
    head, body = await answered(app_of(whole=False), GET)
    assert head.endswith(b"\r\n\r\n")
    assert body == b"{}"
    assert len(await answered(app_of(whole=False, pause=True), GET)) == 1


async def test_the_answer_to_head_is_its_head() -> None:
    writes = await answered(app_of(whole=True), GET.replace(b"GET", b"HEAD", 1))
    assert b"".join(writes).endswith(b"content-length: 2\r\n\r\n")


async def test_two_requests_of_one_read_get_two_whole_answers_in_order() -> None:
    writes = await answered(app_of(whole=True), GET * 2)
    assert len(writes) == 2
    assert all(each.endswith(b"\r\n\r\n{}") for each in writes)
