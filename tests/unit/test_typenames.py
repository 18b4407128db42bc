"""A type as text: what reads back alike in another process, and what has no text."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from stepflow.engine.postgres.typenames import read_type, type_text, variables_of

T = TypeVar("T")
Cents = NewType("Cents", int)


class Colour(enum.Enum):
    RED = 1


@dataclass
class Payment:
    cents: int


class Model(pydantic.BaseModel):
    cents: int


class Outer:
    class Inner(TypedDict):
        cents: int


class Box(msgspec.Struct, Generic[T]):
    value: T


def _local() -> Any:
    class Local:
        pass

    return Local


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        Payment,
        Model,
        Colour,
        Cents,
        Outer.Inner,
        Box[int],
        list[Payment],
        dict[str, list[Any]],
        tuple[int, ...],
        tuple[()],
        Sequence[int],
        Optional[Payment],  # noqa: UP045  as it is written by many
        int | str | None,
        None,
        Literal["a", 1, True, None],  # noqa: PYI061  as it may be written
        Literal[Colour.RED],
        Annotated[int, msgspec.Meta(gt=1, description="more than one")],
        Annotated[str, "a remark"],
        dt.datetime,
    ],
)
def test_a_type_reads_back_as_it_was(annotation):
    text = type_text(annotation)
    assert text
    assert read_type(text) == annotation


@pytest.mark.parametrize("annotation", [Any, object])
def test_what_takes_anything_has_an_empty_text(annotation):
    assert type_text(annotation) == ""


@pytest.mark.parametrize(
    "annotation",
    [
        _local(),
        list[_local()],
        "Payment",
        Annotated[int, pydantic.Field(gt=1)],
        Annotated[int, msgspec.Meta(extra_json_schema={"a": 1})],
        Annotated[int, ["unhashable"]],
        Callable[[int], int],
        Literal[b"bytes"],
        Literal["\ud800"],
        Literal["long" * 4_000],
    ],
    ids=str,
)
def test_what_has_no_name_has_no_text(annotation):
    assert type_text(annotation) is None


def test_a_name_that_is_another_things_by_now_is_not_written(monkeypatch):
    class Other:
        pass

    Other.__qualname__ = "Payment"
    assert type_text(Other) is None


def _factory() -> Any:
    class Local:
        pass

    amount = Annotated[int, pydantic.Field(gt=1)]

    def body() -> Any:
        return [Local, later, lambda: (amount, GLOBAL_AMOUNT, Payment)]

    def plain() -> Any:
        return Payment

    names = {"Local": Local, "amount": amount, "body": body, "plain": plain}
    if plain is body:
        later = 1
    return names


GLOBAL_AMOUNT = Annotated[int, pydantic.Field(gt=2)]


def test_what_has_no_name_is_named_by_the_variable_that_the_function_has_it_in():
    made = _factory()

    def variable(workflow: str, name: str) -> Any:
        assert workflow == "w"
        return variables_of(made["body"])[name]

    local, amount = made["Local"], made["amount"]
    for annotation in (local, list[local], dict[str, local] | None, amount, GLOBAL_AMOUNT):
        text = type_text(annotation, "w", made["body"])
        assert text
        assert read_type(text, variable) == annotation
        with pytest.raises(LookupError):
            read_type(text)
        # Not where another function waits.
        assert type_text(annotation, "w", made["plain"]) is None
    assert type_text(local, "w", len) is None


@pytest.mark.parametrize(
    "text",
    [
        '"nowhere:Payment"',
        '"builtins:nothing"',
        '"builtins:int.real.numerator"',
        # Things that are no types are not touched.
        '"os:system"',
        '["of","os:system","builtins:int"]',
        '["of","builtins:int","builtins:int"]',
        '["of",1]',
        '["var","w","nothing"]',
        '["union"]',
        '["annotated","builtins:int",{"nothing":1}]',
        '["literal",["builtins:int","RED"]]',
        '["literal",["enum:Enum","RED"]]',
        "[1]",
        "1",
        "no json",
    ],
)
def test_what_is_not_known_here_is_not_read(text):
    with pytest.raises(LookupError):
        read_type(text)
