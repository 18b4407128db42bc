"""Workflows by id, alias and function."""

from __future__ import annotations

from typing import Any

import pytest

from stepflow import Context, Stepflow
from stepflow.config import MEMORY
from stepflow.errors import AuthoringError, InvalidInputError, WorkflowNotFoundError


def flow_with() -> tuple[Stepflow, Any]:
    flow = Stepflow(MEMORY)

    @flow.workflow(aliases=["old-name"], events=["paid-{id}", "{a.b}"], description="Says so.")
    async def takes_order(ctx: Context, order: dict[str, Any]) -> None:
        """Do it."""

    return flow, takes_order


def test_a_workflow_is_found_by_id_by_alias_and_by_its_function() -> None:
    flow, function = flow_with()
    found = flow.registry.find("takes-order")
    assert found.id == "takes-order"
    assert flow.registry.find("old-name") is found
    assert flow.registry.find(function) is found
    assert flow.registry.get("old-name") is found
    assert flow.registry.all() == [found]


def test_what_is_not_registered_is_named() -> None:
    flow, _ = flow_with()

    async def stranger(ctx: Context) -> None: ...

    assert flow.registry.get("nobody") is None
    for ask in ("nobody", stranger):
        with pytest.raises(WorkflowNotFoundError, match=r"nobody|stranger"):
            flow.registry.find(ask)


@pytest.mark.parametrize("taken", ["takes-order", "old-name"])
def test_an_id_or_alias_is_given_once(taken: str) -> None:
    flow, _ = flow_with()
    for options in ({"id": taken}, {"id": "fresh", "aliases": [taken]}):
        with pytest.raises(AuthoringError, match=taken):

            @flow.workflow(**options)  # type: ignore[arg-type]
            async def other(ctx: Context) -> None: ...

    assert flow.registry.get("fresh") is None
    assert [workflow.id for workflow in flow.registry.all()] == ["takes-order"]


def test_the_decorator_without_parentheses_is_refused_and_not_ignored() -> None:
    async def checkout(ctx: Context) -> None: ...

    bare: Any = Stepflow(MEMORY).workflow
    with pytest.raises(AuthoringError, match=r"@flow\.workflow\(\)"):
        bare(checkout)


def test_event_ids_are_filled_in_from_the_input() -> None:
    flow, _ = flow_with()
    workflow = flow.registry.find("takes-order")
    assert workflow.event_ids(b'{"id":7,"a":{"b":"x"}}') == ("paid-7", "x")
    with pytest.raises(InvalidInputError, match=r"a\.b|a"):
        workflow.event_ids(b'{"id":7}')


def test_the_view_has_what_a_caller_needs() -> None:
    flow, _ = flow_with()
    view = flow.registry.find("takes-order").view()
    assert (view.id, view.description) == ("takes-order", "Says so.")
    assert view.events == ("paid-{id}", "{a.b}")
    assert view.input_schema["type"] == "object"
