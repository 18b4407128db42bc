"""`RunHandle`: one run, as the one who triggered it holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from stepflow.errors import RunCancelledError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from stepflow.flow import Stepflow
    from stepflow.model.views import RunEvent, RunView

__all__ = ["RunHandle"]


class RunHandle:
    """A run that was triggered. `.id` names it."""

    __slots__ = ("_flow", "id")

    def __init__(self, flow: Stepflow, run_id: str) -> None:
        self._flow = flow
        self.id = run_id

    def __repr__(self) -> str:
        return f"RunHandle({self.id!r})"

    @property
    def public_access_token(self) -> str:
        """A token that reads this run and its stream, and nothing else."""
        return self._flow.engine.public_token(self.id)[0]

    async def result(self) -> Any:
        """Return the run's result once it has ended.

        By the workflow's return annotation, where it is registered here. Raises `RunFailedError` or
        `RunCancelledError`, as the run ended.
        """
        return _result(self._flow, await self._flow.engine.wait(self.id))

    async def get(self) -> RunView:
        """Return the run as it is."""
        return await self._flow.get_run(self.id)

    def stream(self, after: int = 0) -> AsyncIterator[RunEvent]:
        """Yield the run's events after id `after`: history, then live, until the run ends."""
        return self._flow.stream(self.id, after)

    async def cancel(self, reason: str = "", *, force: bool = False) -> RunView:
        """Cancel the run; by `force` without waiting for its cleanup."""
        return await self._flow.cancel(self.id, reason, force=force)

    async def pause(self, reason: str = "") -> RunView:
        """Hold the run before its next effect."""
        return await self._flow.pause(self.id, reason)

    async def resume(self, reason: str = "") -> RunView:
        """Let the run go on that is paused or was set aside."""
        return await self._flow.resume(self.id, reason)

    async def retry(self, reason: str = "") -> RunView:
        """Let the run go on from where it failed or was cancelled."""
        return await self._flow.retry(self.id, reason)

    async def fork(
        self,
        from_step: str,
        *,
        input: object = UNSET,
        results: Mapping[str, object] | None = None,
        reason: str = "",
    ) -> RunHandle:
        """Start a run with what this one had recorded before `from_step` was first asked for."""
        return await self._flow.fork(
            self.id, from_step, input=input, results=results, reason=reason
        )


class _Error(msgspec.Struct):
    type: str = "Exception"
    message: str = ""
    step: str | None = None
    attempts: int | None = None


def _result(flow: Stepflow, view: RunView) -> Any:
    if view.status == "completed":
        data = bytes(view.result) if view.result is not UNSET else b"null"
        workflow = flow.registry.get(view.workflow_id)
        if workflow is None:
            return msgspec.json.decode(data)
        return workflow.signature.output.decode(data)
    error = _Error()
    if view.error is not UNSET:
        error = msgspec.json.decode(bytes(view.error), type=_Error)
    if view.status == "cancelled":
        raise RunCancelledError(view.id, error.message)
    raise RunFailedError(view.id, error.type, error.message, error.step, error.attempts)
