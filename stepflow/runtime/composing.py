"""What a body does with other runs: children, and events to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepflow.authoring.options import check_event_id
from stepflow.errors import WorkflowNotFoundError
from stepflow.model.codec import Converter, args_hash, encode
from stepflow.model.run import FN_CHILD, FN_NOTIFY
from stepflow.runtime.asking import Asking
from stepflow.runtime.calls import ChildAsk, NotifyAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Composing"]


class Composing(Asking):
    """The part of `Context` that reaches other runs."""

    def notify(self, event_id: str, payload: object = None) -> Coroutine[Any, Any, int]:
        check_event_id(event_id)
        data = encode(payload, "payload")
        ask = self._ask(NotifyAsk, "notify", "notify", FN_NOTIFY, args_hash((event_id, payload)))
        ask.event = event_id
        ask.payload = data
        return self._one(ask)

    def call(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        return self._child(workflow, input, name, awaited=True)

    def start(
        self,
        workflow: str | Callable[..., Any],
        input: object = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, str]:
        return self._child(workflow, input, name, awaited=False)

    def _child(
        self, workflow: str | Callable[..., Any], value: object, name: str | None, *, awaited: bool
    ) -> Coroutine[Any, Any, Any]:
        if isinstance(workflow, str) and self._was_called(workflow):
            return self._known_child(workflow, value, name, awaited=awaited)
        child = self._actor.sup.registry.find(workflow)
        body = child.signature.input.encode(value, "input")
        # Refused here, where the body hears of it, and before anything is recorded.
        child.signature.arguments(body)
        child.event_ids(body)
        fn = f"{FN_CHILD}:{child.id}"
        ask = self._ask(ChildAsk, "child", name or child.id, fn, args_hash((value,)))
        ask.workflow = child.id
        ask.body = body
        ask.awaited = awaited
        ask.converter = child.signature.output if awaited else Converter.of(str)
        return self._one(ask)

    def _was_called(self, workflow: str) -> bool:
        """Whether children of a workflow that is not registered any more are recorded as ended."""
        if self._actor.sup.workflow(workflow) is not None:
            return False
        fn = f"{FN_CHILD}:{workflow}"
        calls = self._actor.state.calls.values()
        return any(call.fn == fn and call.status != "pending" for call in calls)

    def _known_child(
        self, workflow: str, value: object, name: str | None, *, awaited: bool
    ) -> Coroutine[Any, Any, Any]:
        """Ask for a child whose workflow has gone: only what is recorded of it can be had."""
        fn = f"{FN_CHILD}:{workflow}"
        ask = self._ask(ChildAsk, "child", name or workflow, fn, args_hash((value,)))
        known = self._actor.state.calls.get(ask.key)
        if known is None or known.status == "pending":
            message = f"Workflow {workflow!r} is not registered"
            raise WorkflowNotFoundError(message)
        ask.workflow = workflow
        ask.body = b"null"
        ask.awaited = awaited
        ask.converter = Converter.of(Any)
        return self._one(ask)
