"""The hot requests, answered by our own server without a task each: the same endpoints, by hand.

A server of applications gives each request a scope, a cycle, an event, a task and two `send`s,
which cost more than what is asked for. Behind our own connection (`guard.py`) a request that

- came whole in one read, as HTTP/1.1, with nothing unusual about its head,
- is a trigger, a notify or a read of a run, its path written plainly,
- brings an API key or a run's public token, which are checked without waiting,

goes to its endpoint at once: the endpoint's own coroutine, driven by hand, and the answer is one
write. Whatever else it is takes the way of every application. So there is one implementation of
every check and answer; what differs is only who calls it (tests/web/test_direct.py holds the two
ways against each other, byte for byte).

An engine says that its coroutines need no task around them by an attribute, `needs_no_task`. Hosts
that mount the application, add middleware, CORS or handlers of their own never come here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Message, Scope

    from stepflow.web.operations import AnswerEndpoint
    from stepflow.web.problems import Header

__all__ = ["Direct", "Found", "Whole"]

# What needs no decoding: for these, a path is what its bytes are.
_URL: Final = rb"/(trigger|runs|notify)/([A-Za-z0-9_.~-]{1,512})(?:\?([A-Za-z0-9_.~=&-]{0,2048}))?"
_PARAMS: Final = {b"trigger": "workflowId", b"runs": "runId", b"notify": "eventId"}
_UNUSUAL: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})


class Found(NamedTuple):
    """Whose a request is, and what its endpoint reads of it."""

    endpoint: AnswerEndpoint
    scope: Scope


class Direct:
    """Finds the endpoint of a request that needs no task."""

    __slots__ = ("_base_path", "_endpoints", "_match")

    def __init__(self, endpoints: Iterable[AnswerEndpoint], base_path: str = "") -> None:
        self._base_path = base_path
        self._endpoints: dict[tuple[bytes, bytes], AnswerEndpoint] = {}
        for endpoint in endpoints:
            method, path = endpoint.operation.method.encode(), endpoint.operation.path.encode()
            self._endpoints[method, path.split(b"/")[1]] = endpoint
        self._match = re.compile(re.escape(base_path.encode()) + _URL).fullmatch

    def below(self, base_path: str) -> Direct:
        """Return the same for paths that begin with `base_path`."""
        return Direct(self._endpoints.values(), base_path)

    def find(
        self,
        method: bytes,
        url: bytes,
        names: list[bytes],
        headers: list[Header],
        client: tuple[str, int] | None,
    ) -> Found | None:
        """Return whose the request is, or None when it must go the way of all."""
        match = self._match(url)
        if match is None:
            return None
        kind, text, query = match.groups(b"")
        endpoint = self._endpoints.get((method, kind))
        if endpoint is None:
            return None
        if not _UNUSUAL.isdisjoint(names) or (
            # A JWT may need a key set that has to be fetched.
            b"authorization" in names and b"x-api-key" not in names
        ):
            return None
        scope = {
            "type": "http",
            "method": method.decode("ascii"),
            "path": (url.partition(b"?")[0] if query else url).decode("ascii"),
            "root_path": self._base_path,
            "query_string": query,
            "headers": headers,
            "client": client,
            "path_params": {_PARAMS[kind]: text.decode("ascii")},
        }
        return Found(endpoint, scope)


class Whole:
    """An ASGI `receive` for a body that is there."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self) -> Message:
        return {"type": "http.request", "body": self._body, "more_body": False}
