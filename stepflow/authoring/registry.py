"""Which workflows there are. A registry belongs to one `Stepflow`; there is no global one."""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from stepflow.authoring.signature import WorkflowSignature, event_ids, inspect_workflow
from stepflow.errors import AuthoringError, InvalidInputError, WorkflowNotFoundError
from stepflow.model.views import WorkflowView

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepflow.authoring.options import WorkflowOptions
    from stepflow.authoring.schedule import Planned

__all__ = ["Registry", "Workflow", "flows_of", "remember_flow"]

_FLOWS = "__stepflow_flows__"


def remember_flow(function: Callable[..., Any], flow: object) -> None:
    """Note on the function which flow has it, so that the test kit need not be told."""
    # What takes no attributes (a bound method, a C function) is told.
    with suppress(AttributeError):
        vars(function).setdefault(_FLOWS, []).append(weakref.ref(flow))


def flows_of(function: Callable[..., Any]) -> list[object]:
    """Return the flows, still alive, that have the function as a workflow."""
    references: list[weakref.ref[object]] = getattr(function, _FLOWS, [])
    flows = (reference() for reference in references)
    return [flow for flow in flows if flow is not None]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A registered async function and its id."""

    id: str
    function: Callable[..., Any]
    signature: WorkflowSignature
    options: WorkflowOptions

    def event_ids(self, data: bytes) -> tuple[str, ...]:
        """Return the concrete event ids that a run with the JSON input `data` declares.

        Raises `InvalidInputError` where a field that an id needs is missing.
        """
        if not self.options.events:
            return ()
        return event_ids(self.options.events, orjson.loads(data))

    def view(self) -> WorkflowView:
        """Return what `GET /workflows` says of it."""
        options = self.options
        return WorkflowView(
            id=self.id,
            description=options.description or None,
            input_schema=self.signature.input.schema(),
            output_schema=self.signature.output.schema(),
            events=tuple(options.events),
            schedule=options.schedules[0].times.spec if options.schedules else None,
        )


class Registry:
    """Workflows by id, alias and function."""

    __slots__ = ("_by_function", "_by_id", "_ids", "schedules")

    def __init__(self) -> None:
        self._by_id: dict[str, Workflow] = {}
        self._by_function: dict[Callable[..., Any], Workflow] = {}
        self._ids: list[str] = []
        self.schedules: dict[str, Planned] = {}
        """All schedules of all workflows, by id."""

    def add(self, function: Callable[..., Any], options: WorkflowOptions) -> Workflow:
        """Register a workflow. Raises `AuthoringError` for a bad function or a taken id."""
        workflow_id = options.id
        self._check_shared(options)
        for name in (workflow_id, *options.aliases):
            if name in self._by_id:
                message = f"workflow id {name!r} is registered twice; give one of them id=…"
                raise AuthoringError(message)
        workflow = Workflow(workflow_id, function, inspect_workflow(function), options)
        planned = [self._planned(workflow, each) for each in options.schedules]
        for name in (workflow_id, *options.aliases):
            self._by_id[name] = workflow
        self._by_function[function] = workflow
        self._ids.append(workflow_id)
        self.schedules.update((each.id, each) for each in planned)
        return workflow

    def _planned(self, workflow: Workflow, planned: Planned) -> Planned:
        """Return the schedule with its input as JSON, which the workflow must take."""
        if planned.id in self.schedules:
            message = f"schedule id {planned.id!r} is there twice; give one of them id=…"
            raise AuthoringError(message)
        signature = workflow.signature
        try:
            body = signature.input.encode(planned.schedule.input, "input")
            signature.arguments(body)
            workflow.event_ids(body)
        except (AuthoringError, InvalidInputError) as error:
            message = f"schedule {planned.id!r}: workflow {workflow.id!r} does not take its input:"
            raise AuthoringError(f"{message} {error}; give Schedule(…, input=…)") from None
        return replace(planned, body=body)

    def _check_shared(self, options: WorkflowOptions) -> None:
        """Refuse a limit that another workflow has under the same name, and differently."""
        for workflow in self.all():
            for theirs in workflow.options.limits:
                for ours in options.limits:
                    same = (ours.kind, ours.id) == (theirs.kind, theirs.id)
                    if same and (ours.count, ours.per_ms) != (theirs.count, theirs.per_ms):
                        message = (
                            f"workflows {workflow.id!r} and {options.id!r} share the limit "
                            f"{ours.id!r} and give different numbers"
                        )
                        raise AuthoringError(message)

    def get(self, workflow_id: str) -> Workflow | None:
        """Return the workflow of that id or alias, if there is one."""
        return self._by_id.get(workflow_id)

    def lookup(self, workflow: str | Callable[..., Any]) -> Workflow | None:
        """Return the workflow of that id, alias or function, if there is one."""
        if isinstance(workflow, str):
            return self._by_id.get(workflow)
        return self._by_function.get(workflow)

    def find(self, workflow: str | Callable[..., Any]) -> Workflow:
        """Return the workflow of that id or function, or raise `WorkflowNotFoundError`."""
        found = self.lookup(workflow)
        if found is None:
            name = workflow if isinstance(workflow, str) else getattr(workflow, "__name__", "?")
            message = f"Workflow {name!r} is not registered"
            raise WorkflowNotFoundError(message)
        return found

    def all(self) -> list[Workflow]:
        """Return all workflows, in order of registration."""
        return [self._by_id[name] for name in self._ids]
