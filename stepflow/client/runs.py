"""A run as the one who triggered it over HTTP holds it: what `RunHandle` is to an embedded flow.

Two classes of delegations, because one of them awaits. They compare by their id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping

    from stepflow.client.aio import Client
    from stepflow.client.sync import SyncClient
    from stepflow.client.wire import TriggeredRun
    from stepflow.model.views import RunEvent, RunView

__all__ = ["ClientRun", "SyncClientRun"]


@dataclass(frozen=True, slots=True)
class ClientRun:
    """A run that a `Client` triggered, with a token with which a browser may watch it."""

    id: str
    public_access_token: str = field(compare=False, repr=False)
    _client: Client = field(compare=False, repr=False)

    @classmethod
    def of(cls, run: TriggeredRun, client: Client) -> ClientRun:
        """Return the run of that answer."""
        return cls(run.id, run.public_access_token, client)

    async def result(self) -> Any:
        """Return the run's result once it has ended, as JSON's own types.

        Raises `RunFailedError` or `RunCancelledError`, as the run ended.
        """
        return await self._client.result(self.id)

    async def get(self) -> RunView:
        """Return the run as it is."""
        return await self._client.get_run(self.id)

    def stream(self, after: int = 0) -> AsyncGenerator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._client.stream(self.id, after)

    async def cancel(self, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel the run; by `force` without waiting for its cleanup."""
        return await self._client.cancel(self.id, reason, force=force)

    async def pause(self, reason: str = "") -> RunView:
        """Hold the run before its next effect."""
        return await self._client.pause(self.id, reason)

    async def resume(self, reason: str = "") -> RunView:
        """Let the run go on that is paused or was set aside."""
        return await self._client.resume(self.id, reason)

    async def retry(self, reason: str = "") -> RunView:
        """Let the run go on from where it failed or was cancelled."""
        return await self._client.retry(self.id, reason)

    async def fork(
        self,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> ClientRun:
        """Start a run with what this one had recorded before `from_step` was first asked for."""
        return await self._client.fork(
            self.id, from_step, input=input, results=results, reason=reason
        )


@dataclass(frozen=True, slots=True)
class SyncClientRun:
    """A run that a `SyncClient` triggered, with a token with which a browser may watch it."""

    id: str
    public_access_token: str = field(compare=False, repr=False)
    _client: SyncClient = field(compare=False, repr=False)

    @classmethod
    def of(cls, run: TriggeredRun, client: SyncClient) -> SyncClientRun:
        """Return the run of that answer."""
        return cls(run.id, run.public_access_token, client)

    def result(self) -> Any:
        """Return the run's result once it has ended, as JSON's own types.

        Raises `RunFailedError` or `RunCancelledError`, as the run ended.
        """
        return self._client.result(self.id)

    def get(self) -> RunView:
        """Return the run as it is."""
        return self._client.get_run(self.id)

    def stream(self, after: int = 0) -> Generator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._client.stream(self.id, after)

    def cancel(self, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel the run; by `force` without waiting for its cleanup."""
        return self._client.cancel(self.id, reason, force=force)

    def pause(self, reason: str = "") -> RunView:
        """Hold the run before its next effect."""
        return self._client.pause(self.id, reason)

    def resume(self, reason: str = "") -> RunView:
        """Let the run go on that is paused or was set aside."""
        return self._client.resume(self.id, reason)

    def retry(self, reason: str = "") -> RunView:
        """Let the run go on from where it failed or was cancelled."""
        return self._client.retry(self.id, reason)

    def fork(
        self,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> SyncClientRun:
        """Start a run with what this one had recorded before `from_step` was first asked for."""
        return self._client.fork(self.id, from_step, input=input, results=results, reason=reason)
