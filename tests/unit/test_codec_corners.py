"""JSON at the border of a run, where a type is rare: each is refused by name or keeps its value."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from threading import Thread
from typing import Annotated, Any, Literal

import attrs
import msgspec
import orjson
import pydantic
import pytest

from stepflow.errors import AuthoringError, EncodingError, InvalidInputError, StepFailedError
from stepflow.model.codec import Converter, RemoteCause, encode, encode_error
from stepflow.model.failures import is_error


@attrs.define
class Parcel:
    weight: int
    marks: set[str]


class Ratio(enum.Enum):
    HALF = 0.5


class Lenient(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=False)
    count: int


class Unwritable(pydantic.BaseModel):
    @pydantic.model_serializer
    def refuse(self) -> dict[str, Any]:
        raise TypeError("it has a lock in it")


@dataclass
class Tree:
    left: Tree | None = None
    right: Tree | None = None


class Closed(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[str]:
        raise TypeError("the connection is closed")


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Parcel(3, {"fragile"}), b'{"weight":3,"marks":["fragile"]}'),
        (Ratio.HALF, b"0.5"),
        (pydantic.HttpUrl("https://example.com/a"), b'"https://example.com/a"'),
        (pydantic.NameEmail("Ada", "ada@example.com"), b'"Ada <ada@example.com>"'),
        (msgspec.Raw(b"1"), None),
    ],
)
def test_a_rare_type_is_written_as_plain_data_or_refused(value: object, json: bytes | None) -> None:
    if json is None:
        with pytest.raises(EncodingError):
            encode(value)
    else:
        assert encode(value) == json


def test_keys_that_are_numbers_are_written_where_the_annotation_has_them() -> None:
    converter: Converter[Any] = Converter(dict[float, int])
    assert converter.encode({1.5: 2}) == b'{"1.5":2}'
    assert converter.decode(b'{"1.5":2}') == {1.5: 2}


def test_what_a_serializer_of_the_author_said_is_in_the_refusal() -> None:
    with pytest.raises(EncodingError, match=r"Unwritable: .*it has a lock in it"):
        encode(Unwritable())


def test_what_a_mapping_of_the_author_said_is_in_the_refusal() -> None:
    with pytest.raises(EncodingError, match="Closed: the connection is closed"):
        encode(Closed())


def test_a_type_may_hold_itself() -> None:
    converter: Converter[Tree] = Converter(Tree)
    assert converter.decode(b'{"left":{"left":null},"right":null}') == Tree(Tree())


def test_whatever_json_holds_is_an_object() -> None:
    converter: Converter[Any] = Converter(dict[str, object] | None)
    assert converter.decode(b'{"a":[1]}') == {"a": [1]}


def test_literals_and_enumerations_are_read_and_written_where_keys_are_numbers() -> None:
    converter: Converter[Any] = Converter(dict[float, Literal[1, "a"]])
    assert converter.decode(b'{"1.5":"a"}') == {1.5: "a"}
    assert encode({1.5: Ratio.HALF}, free_keys=True) == b'{"1.5":0.5}'


def test_a_rule_on_a_type_that_json_does_not_hold_is_refused() -> None:
    with pytest.raises(AuthoringError, match="cannot be read from JSON"):
        Converter(Annotated[Thread, pydantic.Field(description="busy")])


def test_a_path_is_read_from_text_alone() -> None:
    converter: Converter[Any] = Converter(PurePath)
    assert converter.decode(b'"a/b"') == PurePath("a/b")
    with pytest.raises(InvalidInputError, match="expected str, got int"):
        converter.decode(b"5")


def test_a_model_with_rules_of_its_own_keeps_them() -> None:
    assert Converter(Lenient).decode(b'{"count":"5"}') == Lenient(count=5)


def test_a_converter_names_its_annotation() -> None:
    converter: Converter[Any] = Converter(list[int])
    assert repr(converter) == "Converter(list[int])"


# ---------------------------------------------------------------- errors as data


def test_an_error_of_a_step_keeps_the_step_and_its_attempts() -> None:
    told = orjson.loads(encode_error(StepFailedError("charge", "ValueError", "no card", 3)))
    assert (told["step"], told["attempts"]) == ("charge", 3)
    assert (told["type"], told["message"]) == ("ValueError", "no card")


def test_an_error_whose_text_cannot_be_made_is_told_without_it() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    told = orjson.loads(encode_error(Broken()))
    assert told["type"] == "Broken"
    assert told["message"] == "its text could not be made: __str__ failed"


def test_an_error_whose_traceback_cannot_be_made_is_told_without_it() -> None:
    class Secretive(Exception):
        @property
        def __notes__(self) -> list[str]:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride]
            raise RuntimeError

    assert orjson.loads(encode_error(Secretive("no"))) == {"type": "Secretive", "message": "no"}


def test_a_cause_that_was_recorded_is_told_as_it_was() -> None:
    error = ValueError("no")
    error.__cause__ = RemoteCause("Timeout", "the card network is away")
    told = orjson.loads(encode_error(error))
    assert told["causes"] == [{"type": "Timeout", "message": "the card network is away"}]


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b'{"type":"ValueError","message":"no"}', True),
        (b'{"type":"A","message":"b","causes":[{"type":"C","message":"d"}]}', True),
        (b'{"type":"A","message":"b","causes":["c"]}', False),
        (b'{"type":"A","message":"b","causes":5}', False),
        (b'{"type":5,"message":"no"}', False),
        (b'{"type":"A","message":"b","attempts":"2"}', False),
        (b"[]", False),
        (b"no JSON", False),
    ],
)
def test_bytes_are_an_error_only_in_the_form_in_which_we_write_one(
    data: bytes, verdict: object
) -> None:
    assert is_error(data) is verdict
