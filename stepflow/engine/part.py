"""What the parts of the local engine share: its supervisor, and runs whose start is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from stepflow.clock import rfc3339
from stepflow.errors import (
    InvalidInputError,
    PayloadTooLargeError,
    RunNotFoundError,
    UnavailableError,
    WorkflowNotFoundError,
)
from stepflow.model.codec import encode, parse_json
from stepflow.model.views import QueueView, RunView, run_view

if TYPE_CHECKING:
    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.config import Settings
    from stepflow.engine.protocol import EngineState
    from stepflow.engine.shown import Shown
    from stepflow.journal.suspects import Suspects
    from stepflow.runtime.actor import RunActor
    from stepflow.runtime.admission import Place
    from stepflow.runtime.supervisor import Supervisor

__all__ = ["RECORD_BYTES", "EnginePart", "check_reason", "queue_view"]

RECORD_BYTES: Final = 4096
"""Without room for so much nothing new is decided: the engine is read-only."""
_REASON_MAX: Final = 1000
"""Characters of a reason: it is kept with its run."""


def check_reason(reason: str) -> None:
    """Raise `InvalidInputError` for a reason that is too long to keep."""
    if len(reason) > _REASON_MAX:
        message = f"reason: {len(reason)} characters; at most {_REASON_MAX} are kept"
        raise InvalidInputError(message)


def queue_view(place: Place) -> QueueView:
    """Return a place in the queue as the API shows it."""
    view = QueueView(position=place.position, ahead=place.ahead, limit=place.limit)
    if place.key:
        view.key = Raw(place.key.encode())
    if place.free_at_ms:
        view.free_at = rfc3339(place.free_at_ms)
    if place.holders:
        view.held_by = place.holders
    return view


class EnginePart:
    """One room of the engine: `LocalEngine` is made of these."""

    registry: Registry
    settings: Settings
    _state: EngineState
    _sup: Supervisor | None
    _suspects: Suspects | None
    _shown: Shown

    @property
    def state(self) -> EngineState:
        if self._state == "ready" and self._sup is not None:
            if self._sup.journal.stalled:
                return "stalled"
            if not self._sup.journal.has_room(RECORD_BYTES):
                return "read-only"
        return self._state

    @property
    def sup(self) -> Supervisor:
        """The supervisor of the running engine, or `UnavailableError`."""
        if self._state == "failed":
            message = "The disk has failed and the engine has stopped"
            raise UnavailableError(message, retry_after_s=5)
        if self._sup is None:
            if self._state == "starting":
                message = "Stepflow is starting"
                raise UnavailableError(message, retry_after_s=1)
            message = "Stepflow is not running: its lifespan was not entered; see docs/embedding.md"
            raise UnavailableError(message, retry_after_s=1)
        return self._sup

    def _writable(self) -> Supervisor:
        if self._state == "ready" and self._sup is not None:
            return self._sup
        sup = self.sup
        if self._state != "ready":
            message = "Stepflow is stopping"
            raise UnavailableError(message, retry_after_s=1)
        return sup

    async def _durable_run(self, run_id: str) -> RunActor:
        """Return the run once its start is durable; its absence once that is."""
        sup = self._sup if self._state == "ready" and self._sup is not None else self.sup
        actor = sup.runs.get(run_id)
        if actor is None:
            await sup.journal.durable(sup.journal.last_lsn)
            raise RunNotFoundError
        if actor.start_lsn > sup.journal.durable_lsn:
            await sup.journal.durable(actor.start_lsn)
        return actor

    async def _view(self, actor: RunActor, *, steps: bool = True) -> RunView:
        place = None
        if actor.status == "pending":
            place = await self.sup.admission.place_in_slices(actor.id)
        # Rendered first, sent when everything it shows is durable.
        if steps:
            view = self._shown.view(actor)
        else:
            view = run_view(actor.peek(), actor.condition, steps=False, reason=actor.reason)
        if place is not None and view.status == "pending":
            view = msgspec.structs.replace(view, queue=queue_view(place))
        lsn, journal = actor.lsn, self.sup.journal
        if lsn > journal.durable_lsn:
            await journal.durable(lsn)
        return view

    def _workflow(self, workflow_id: str) -> Workflow:
        workflow = self.registry.get(workflow_id)
        if workflow is None:
            raise WorkflowNotFoundError
        return workflow

    def _checked_input(
        self, workflow: Workflow, body: bytes
    ) -> tuple[Any, bytes, tuple[str, ...], tuple[Any, ...]]:
        """Return the input as JSON's own types and as bytes, its events, the body's arguments."""
        if len(body) > self.settings.input_bytes_max:
            message = f"The input has {len(body)} bytes, at most {self.settings.input_bytes_max}"
            raise PayloadTooLargeError(message)
        value = parse_json(body, depth_max=self.settings.json_depth_max)
        data = encode(value, "input")
        args = workflow.signature.arguments(data)
        events = workflow.event_ids(data)
        return value, data, events, args
