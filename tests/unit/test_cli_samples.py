"""The input in the printed command is one that the workflow takes."""

# ruff: noqa: TC003  annotations are read at run time

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict
from uuid import UUID

import orjson
import pytest

from stepflow import Context, Stepflow
from stepflow.cli.samples import sample


class Colour(Enum):
    RED = "red"


@dataclass
class Address:
    city: str


@dataclass
class Order:
    id: str
    email: str
    lines: list[int]
    address: Address
    when: datetime
    day: date
    colour: Colour
    kind: Literal["small", "large"]
    note: str | None
    price: Decimal
    ticket: UUID
    pair: tuple[int, str]
    extras: dict[str, int]
    urgent: bool
    ratio: float
    patience: timedelta
    left_out: str = "default"
    also: list[str] = field(default_factory=list)


class Node(TypedDict):
    children: list[Node]


@pytest.mark.parametrize(
    "kind", [Order, Address, str, int, list[Address], dict[str, Any], Node, Any, Colour]
)
def test_a_sample_is_taken_by_the_workflow(kind) -> None:
    flow = Stepflow()

    async def shop(ctx: Context, value) -> None: ...

    shop.__annotations__["value"] = kind
    flow.workflow()(shop)
    workflow = flow.registry.all()[0]
    found = sample(workflow.view().input_schema)
    if found is not None:
        workflow.signature.input.decode(orjson.dumps(found))


def test_a_sample_looks_like_what_people_write() -> None:
    schema = {
        "type": "object",
        "properties": {"userId": {"type": "string"}, "email": {"type": "string"}},
        "required": ["userId", "email"],
    }
    assert sample(schema) == {"userId": "user-1", "email": "ada@example.com"}


def test_nothing_is_asked_for_by_a_workflow_without_input() -> None:
    assert sample({}) is None
