"""One attack: what is sent, and what may come back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attacks.door import Door, Request
    from tests.attacks.wire import Reply

__all__ = ["REFUSED", "Attack", "Table", "mistakes", "trouble"]

REFUSED: Final = (401, 403, 404)
_SHOWN: Final = 300


@dataclass(frozen=True)
class Attack:
    """`expected` are the statuses that may come; `hidden` what no answer to it may show."""

    name: str
    request: Request
    expected: tuple[int, ...] = (401,)
    hidden: tuple[str, ...] = field(default=(), repr=False)


if TYPE_CHECKING:
    Table = Callable[[Door], Iterator[Attack]]
else:
    Table = object


def mistakes(door: Door, attacks: Iterator[Attack]) -> tuple[int, list[str]]:
    """Try each; return how many there were, and what went wrong."""
    count, wrong = 0, list[str]()
    for count, attack in enumerate(attacks, 1):  # noqa: B007  the last one is the answer
        problem = trouble(door, attack, door.ask(attack.request))
        if problem:
            wrong.append(f"{attack.name}: {problem}")
    return count, wrong


def trouble(door: Door, attack: Attack, reply: Reply) -> str | None:
    """Return what is wrong with the answer to an attack; None when it is what it should be."""
    if reply.status not in attack.expected:
        return f"{reply.status}, not {attack.expected}: {reply.body[:_SHOWN]!r}"
    if not 200 <= reply.status < 300 and (problem := _not_an_error(reply)):
        return problem
    if reply.headers.get("x-content-type-options") != "nosniff" and reply.status != 204:
        return "no nosniff"
    text = reply.body.decode("utf-8", "replace") + "\n".join(reply.headers.values())
    for name, secret in door.secrets.items():
        if secret in text:
            return f"the answer shows the {name}"
    return next((f"the answer shows {part!r}" for part in attack.hidden if part in text), None)


def _not_an_error(reply: Reply) -> str | None:
    """Return how a refusal differs from the one shape that refusals have."""
    try:
        answer = json.loads(reply.body)
    except ValueError:
        return f"the body is not JSON: {reply.body[:_SHOWN]!r}"
    if list(answer) != ["error", "code"]:
        return f"not the shape of an error: {answer}"
    if reply.headers.get("content-type") != "application/json":
        return f"content-type {reply.headers.get('content-type')}"
    if reply.status == 401 and reply.headers.get("www-authenticate") != "Bearer":
        return "401 without WWW-Authenticate"
    if reply.status == 401 and answer != {"error": "Unauthorized", "code": "UNAUTHORIZED"}:
        return f"401 says more than that: {answer}"
    return None
