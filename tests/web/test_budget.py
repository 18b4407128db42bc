"""What large bodies and answers hold at once is bounded, and is always given back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepflow.errors import PayloadTooLargeError, UnavailableError
from stepflow.web.asgi import SHARE, ClientGone, read_body, send_large
from stepflow.web.budget import LARGE_BYTES, Budget, Share
from stepflow.web.problems import Answer

LIMIT = 4 * LARGE_BYTES


def test_a_budget_is_taken_and_given_back_whole() -> None:
    budget = Budget(10 * LARGE_BYTES, "requests")
    first, second = Share(budget), Share(budget)
    first.hold(LARGE_BYTES)  # small: not counted
    first.hold(4 * LARGE_BYTES)
    first.hold(6 * LARGE_BYTES)
    second.hold(4 * LARGE_BYTES)
    with pytest.raises(UnavailableError, match="Too many large requests at once"):
        second.hold(5 * LARGE_BYTES)
    first.release()
    first.release()
    second.hold(10 * LARGE_BYTES)
    second.release()
    Share(budget).hold(10 * LARGE_BYTES)


def body_of(*pieces: bytes, gone: bool = False) -> Any:
    """Return a `receive` that brings the pieces, then the end, or that the client has gone."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages.append(
        {"type": "http.disconnect"} if gone else {"type": "http.request", "more_body": False}
    )

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return receive


@pytest.mark.asyncio
async def test_a_body_takes_its_share_as_it_comes() -> None:
    budget = Budget(3 * LARGE_BYTES, "requests")
    piece = b"x" * LARGE_BYTES
    for pieces, error in (
        ((piece, piece, piece), None),
        ((piece, piece, piece, piece), UnavailableError),
        ((piece, piece, piece, piece, b"x"), UnavailableError),
    ):
        share = Share(budget)
        scope: dict[str, Any] = {"headers": [], SHARE: share}
        if error is None:
            assert len(await read_body(scope, body_of(*pieces), LIMIT)) == 3 * LARGE_BYTES
        else:
            with pytest.raises(error):
                await read_body(scope, body_of(*pieces), LIMIT)
        share.release()
    share = Share(budget)
    scope = {"headers": [], SHARE: share}
    with pytest.raises(ClientGone):
        await read_body(scope, body_of(piece, piece, gone=True), LIMIT)
    share.release()
    with pytest.raises(PayloadTooLargeError):
        await read_body({"headers": []}, body_of(*[piece] * 5), LIMIT)
    Share(budget).hold(3 * LARGE_BYTES)


@pytest.mark.asyncio
async def test_a_large_answer_is_sent_in_slices() -> None:
    body = bytes(range(256)) * 1000
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_large({}, send, Answer(200, [], body), 30)
    assert sent[0]["type"] == "http.response.start"
    assert b"".join(message["body"] for message in sent[1:]) == body
    assert max(len(message["body"]) for message in sent[1:]) == LARGE_BYTES
    assert [message["more_body"] for message in sent[1:]] == [True, True, True, False]


@pytest.mark.asyncio
async def test_whoever_does_not_read_an_answer_is_cut_off() -> None:
    cut: list[bool] = []
    sent: list[str] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) > 2:
            await asyncio.get_running_loop().create_future()

    scope: dict[str, Any] = {"extensions": {"stepflow.abort": {"abort": lambda: cut.append(True)}}}
    await send_large(scope, send, Answer(200, [], b"x" * LIMIT), 0.01)
    assert cut == [True]
    assert len(sent) == 3


@pytest.mark.asyncio
async def test_a_client_that_goes_away_is_nobodys_error() -> None:
    async def send(message: Any) -> None:
        raise OSError("gone")

    await send_large({}, send, Answer(200, [], b"x" * LIMIT), 30)
