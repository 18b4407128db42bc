"""HTTP to the nodes of a deployment: each call goes to the next one, since any must do.

No client of ours stands between: what is claimed is what is on the wire. A 501 `NOT_SUPPORTED` is
raised as `NotSupportedError`, so that a claim ends where the engine refuses it.
"""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import httpx

from stepflow.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

__all__ = ["Door"]


class Door:
    """The nodes under these URLs, each of which is a whole API. Used as a context manager."""

    def __init__(self, urls: Sequence[str], api_key: str) -> None:
        self.urls = tuple(urls)
        self.api_key = api_key
        self._open = AsyncExitStack()
        self._clients = [
            httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) for url in self.urls
        ]
        self._turns = itertools.cycle(range(len(self.urls)))

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._open.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    @property
    def nodes(self) -> range:
        """The numbers of the nodes."""
        return range(len(self.urls))

    async def ask(
        self,
        method: str,
        path: str,
        *,
        node: int | None = None,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
        **body: Any,
    ) -> httpx.Response:
        """Send a request and return the whole answer; `key=None` sends no credentials.

        `node` is whom to ask; the next one in turn unless given.
        """
        number = next(self._turns) if node is None else node
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("X-API-Key", key or self.api_key)
        answer = await self._clients[number].request(method, path, headers=sent, **body)
        if answer.status_code == NotSupportedError.status:
            problem = answer.json()
            assert problem.keys() == {"error", "code"}, problem
            assert problem["code"] == NotSupportedError.code, problem
            raise NotSupportedError(problem["error"])
        return answer

    async def get(self, path: str, **more: Any) -> httpx.Response:
        """Read."""
        return await self.ask("GET", path, **more)

    async def post(self, path: str, value: Any = None, **more: Any) -> httpx.Response:
        """Send a value as JSON."""
        return await self.ask("POST", path, json=value, **more)

    async def json(self, path: str, **more: Any) -> Any:
        """Return what a GET that succeeds gives."""
        answer = await self.get(path, **more)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def trigger(self, workflow: str, value: Any = None) -> tuple[str, str]:
        """Start a run; return its id and its token."""
        answer = await self.post(f"/trigger/{workflow}", value)
        assert answer.status_code == 200, answer.text
        return answer.json()["runId"], answer.json()["publicAccessToken"]

    async def ended(self, run_id: str) -> Any:
        """Return the run once it has ended; its stream says when."""
        await self.whole(run_id)
        return await self.json(f"/runs/{run_id}")

    async def whole(self, run_id: str, **more: Any) -> str:
        """Return the run's stream to its end."""
        answer = await self.get(f"/runs/{run_id}/stream", **more)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def lines(
        self,
        path: str,
        *,
        node: int | None = None,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[str]:
        """Yield the lines of a stream as they come; close it by `aclosing`."""
        number = next(self._turns) if node is None else node
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("X-API-Key", key or self.api_key)
        async with self._clients[number].stream("GET", path, headers=sent) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                yield line
