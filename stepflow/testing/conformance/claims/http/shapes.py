"""What answers look like: masked of what differs from run to run, compared whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

    from stepflow.testing.conformance.door import Door

__all__ = ["expect", "expect_problem", "masked", "until_status", "until_text"]

_ANSWERS: Final = {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def masked(text: str) -> str:
    """Return the text with ids, tokens and times made equal."""
    text = re.sub(r"run_[A-Za-z0-9]{22}", "RUN", text)
    text = re.sub(r"pat_[A-Za-z0-9_-]{40,}", "TOKEN", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "TIME", text)


def expect(answer: httpx.Response, status: int, body: str) -> None:
    """Claim that the answer is this one: status, body and the headers of every JSON answer."""
    assert (answer.status_code, masked(answer.text)) == (status, body)
    headers = {name: answer.headers.get(name) for name in _ANSWERS}
    assert headers == _ANSWERS
    assert answer.headers["content-length"] == str(len(answer.content))


def expect_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Claim that the answer is this refusal, in the one shape that all have."""
    found: dict[str, str] = answer.json() if answer.content else {}
    assert (answer.status_code, found.get("code")) == (status, code), answer.text
    assert list(found) == ["error", "code"], answer.text
    assert found["error"]
    headers = {name: answer.headers.get(name) for name in _ANSWERS}
    assert headers == _ANSWERS
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status in {429, 503})
    assert ("allow" in answer.headers) == (status == 405)


async def until_text(door: Door, run_id: str, text: str) -> httpx.Response:
    """Return the answer to a read of the run once the text is in it."""
    while True:
        answer = await door.get(f"/runs/{run_id}")
        if text in answer.text:
            return answer
        assert '"state":"failed"' not in answer.text, answer.text


async def until_status(door: Door, path: str, status: int, *, key: str, node: int) -> None:
    """Return once the node answers a read by that key so."""
    while True:
        answer = await door.get(path, key=key, node=node)
        if answer.status_code == status:
            return
        assert answer.status_code in {200, 401}, answer.text
