"""JSON at the border of a run: bodies in, values and errors as bytes, and back."""

from __future__ import annotations

import base64
import enum
import json
import math
import pathlib
import socket
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import orjson
import pydantic
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.errors import (
    AuthoringError,
    EncodingError,
    InvalidInputError,
    StepFailedError,
    StepInterruptedError,
)
from stepflow.model.codec import (
    PLAIN,
    Converter,
    RemoteCause,
    args_hash,
    decode_step_error,
    encode,
    encode_error,
    parse_json,
    public_error,
)
from stepflow.model.failures import with_compensation, without_compensation

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Kind(enum.StrEnum):
    A = "a"
    B = "b"


@dataclass
class Item:
    qty: int
    tags: set[str] = field(default_factory=set)
    _hidden: bytes = b""


@dataclass(frozen=True, slots=True)
class Order:
    items: list[Item]
    due: datetime | None = None


@dataclass
class Box(Generic[T]):
    inside: T


class Point(NamedTuple):
    x: int
    y: float


class Shape(TypedDict, total=False):
    name: str
    size: Decimal


class Money(msgspec.Struct, frozen=True):
    amount: Decimal
    currency: str = "EUR"


class Cat(msgspec.Struct, tag=True, rename="camel"):
    mice_caught: int


class Mouse(msgspec.Struct, tag=True, omit_defaults=True):
    name: str | msgspec.UnsetType = msgspec.UNSET


class Dog(msgspec.Struct, tag=True, array_like=True):
    bones: int


class Person(pydantic.BaseModel):
    name: str
    born: date | None = None
    friends: list[Person] = []


class Reading(pydantic.BaseModel):
    value: float | None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    order_id: str = pydantic.Field(alias="orderId")

    @pydantic.computed_field
    @property
    def short(self) -> str:
        return self.order_id[:2]


@pydantic.dataclasses.dataclass
class Checked:
    count: Annotated[int, pydantic.Field(gt=0)]
    raw: bytes = b""


# ---------------------------------------------------------------- what comes in


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", None),
        (b"null", None),
        (b' [1, 2.5, true, "\xc3\xa9"] ', [1, 2.5, True, "é"]),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"[18446744073709551615,-9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b'"18446744073709551616"', "18446744073709551616"),
        (b'"\\"18446744073709551616"', '"18446744073709551616'),
        (b'["\\\\","18446744073709551616"]', ["\\", "18446744073709551616"]),
        (b'{"18446744073709551616":1}', {"18446744073709551616": 1}),
        (b"0.12345678901234567890123", 0.12345678901234567890123),
        (b"12345678901234567890123e3", 12345678901234567890123e3),
        (b"1E2", 100.0),
        (b"[]", []),
    ],
)
def test_a_body_is_read_exactly(body, value):
    assert parse_json(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b" ", b"{", b"[1,]", b"{'a':1}", b"NaN", b"Infinity", b"-Infinity", b"1e400", b"01", b"+1",
        b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b"\xef\xbb\xbf1", b"\0", b'"\n"',
        b"1 2", b"/**/1", b"nul", b"[" * 100_000, b'{"a":' * 5000,
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(body):
    with pytest.raises(InvalidInputError):
        parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"18446744073709551616",
        b"-9223372036854775809",
        b"[0, 99999999999999999999]",
        b'{"\\"":123456789012345678901234567890}',
        b'["\\\\",18446744073709551616]',
        b'{"id":"1","n":-18446744073709551615}',
        b"1" * 300,
    ],
)
def test_an_integer_beyond_64_bits_is_refused_and_not_rounded(body):
    with pytest.raises(InvalidInputError, match="beyond 64 bits; send it as a string"):
        parse_json(body)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[[],"]]",', "]")])
@pytest.mark.parametrize("depth", [2, 63, 64])
def test_nesting_is_counted_level_by_level(opened, closed, depth):
    value = parse_json(
        (opened * (depth - 1) + "[]" + closed * (depth - 1)).encode(), depth_max=depth
    )
    assert isinstance(value, list | dict)
    with pytest.raises(InvalidInputError, match=f"nested deeper than {depth} levels"):
        parse_json((opened * depth + "[]" + closed * depth).encode(), depth_max=depth)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from('"[]{}\\'), inner),
)  # fmt: skip


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


@given(_JSON, st.booleans(), st.booleans())
def test_any_body_is_read_as_it_is_and_its_depth_is_exact(value, ascii_only, indented):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1 if indented else None)
    body = text.encode()
    depth = _depth(value)
    assert parse_json(body, depth_max=max(depth, 1)) == value
    if depth > 1:
        with pytest.raises(InvalidInputError, match="nested deeper"):
            parse_json(body, depth_max=depth - 1)


@given(st.binary())
def test_no_body_breaks_the_reader(body):
    try:
        parse_json(body)
    except InvalidInputError as error:
        assert error.message


@given(st.integers(), st.text())
def test_integers_of_any_size_are_exact_or_refused(number, text):
    body = json.dumps([text, number, {text: number}]).encode()
    if -(2**63) <= number < 2**64:
        assert parse_json(body) == [text, number, {text: number}]
    else:
        with pytest.raises(InvalidInputError):
            parse_json(body)


# ---------------------------------------------------------------- values as bytes


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, True, None, "é"]}, '{"a":[1,2.5,true,null,"é"]}'.encode()),
        ((1, (2,)), b"[1,[2]]"),
        (datetime(2024, 1, 15, 10, 30, tzinfo=UTC), b'"2024-01-15T10:30:00Z"'),
        (datetime(2024, 1, 15, 10, 30), b'"2024-01-15T10:30:00"'),  # noqa: DTZ001
        (date(2024, 1, 15), b'"2024-01-15"'),
        (time(10, 30), b'"10:30:00"'),
        (time(10, 30, tzinfo=UTC), b'"10:30:00Z"'),
        (time(0, 0, 0, 10_000), b'"00:00:00.010000"'),
        (datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
         b'"2024-01-01T00:00:00+05:30"'),
        (timedelta(days=1, seconds=2.5), b'"P1DT2.5S"'),
        (Decimal("1.50"), b'"1.50"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (b"\xff\0", b'"/wA="'),
        (bytearray(b"\xff"), b'"/w=="'),
        (memoryview(b"\xff"), b'"/w=="'),
        ({3, 1, 2}, b"[1,2,3]"),
        (frozenset({"b", "a"}), b'["a","b"]'),
        (Color.RED, b'"red"'),
        (Level.HIGH, b"2"),
        (Kind.A, b'"a"'),
        ({Kind.A: 1}, b'{"a":1}'),
        (Item(1, {"x"}, b"h"), b'{"qty":1,"tags":["x"],"_hidden":"aA=="}'),
        (Order([]), b'{"items":[],"due":null}'),
        (Point(1, 2.0), b"[1,2.0]"),
        (Money(Decimal(1)), b'{"amount":"1","currency":"EUR"}'),
        (Cat(3), b'{"type":"Cat","miceCaught":3}'),
        (Dog(3), b'["Dog",3]'),
        (Person(name="Ada", born=date(1815, 12, 10)),
         b'{"name":"Ada","born":"1815-12-10","friends":[]}'),
        (Aliased(orderId="abc"), b'{"orderId":"abc"}'),
        (pathlib.PurePosixPath("/x/y"), b'"/x/y"'),
        (OrderedDict(a=1), b'{"a":1}'),
        (defaultdict(int, a=1), b'{"a":1}'),
        (Counter("a"), b'{"a":1}'),
        ([2**64 - 1, -(2**63)], b"[18446744073709551615,-9223372036854775808]"),
        ("", b'""'),
    ],
)  # fmt: skip
def test_each_kind_of_value_has_one_form(value, encoded):
    assert encode(value) == encoded


class Opaque:
    __slots__ = ()


@dataclass
class Holder:
    items: list[Any]
    other: Any = None


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (Opaque(), "result", "an Opaque is not JSON; return plain data"),
        ({"items": [1, 2, 3, {"conn": Opaque()}]}, "result.items[3].conn", "an Opaque is not JSON"),
        (Holder([Item(1), Opaque()]), "result.items[1]", "an Opaque"),
        ([(1, {"a b": lambda: 1})], "result[0][1]['a b']", "a function is not JSON"),
        ({"x": float("nan")}, "result.x", "nan is not a number that JSON has"),
        ({"x": [None, float("inf")]}, "result.x[1]", "inf is not"),
        (Holder([], -math.inf), "result.other", "-inf is not"),
        (Money(Decimal("NaN")), "result.amount", "NaN is not a number"),
        ([2**64], "result[0]", "an integer beyond 64 bits"),
        (-(2**63) - 1, "result", "an integer beyond 64 bits"),
        ({"x": "\ud800"}, "result.x", "lone surrogate"),
        ({"\ud800": 1}, "result", "lone surrogate"),
        ({"x": {1: "a"}}, "result.x", "the key 1 is of type int"),
        ({None: 1}, "result", "the key None is of type NoneType"),
        ({"x": {Opaque()}}, "result.x", "an element of the set is not JSON"),
        ({"x": 1j}, "result.x", "a complex is not JSON"),
        (int, "result", "a type is not JSON"),
        (ValueError("x"), "result", "a ValueError is not JSON"),
        (iter([1]), "result", "a list_iterator is not JSON"),
        (pydantic.SecretStr("s"), "result", "a SecretStr is not JSON"),
        ({"m": Reading(value=float("nan"))}, "result.m.value", "nan"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_json_is_refused_by_its_path(value, path, words):
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert caught.value.path == path
    assert words in caught.value.why
    assert str(caught.value) == f"{path}: {caught.value.why}"
    assert isinstance(caught.value, AuthoringError)


def test_a_socket_is_named_by_its_path():
    with socket.socket() as conn, pytest.raises(EncodingError, match=r"^input\.a: a socket is not"):
        encode({"a": conn}, "input")


def test_a_value_that_is_part_of_itself_is_refused():
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(EncodingError, match="part of itself"):
        encode(loop)


def test_a_null_beside_finite_numbers_is_no_suspicion():
    assert encode({"a": None, "b": [1.5, "null", {"c": {1, None}}]}) == (
        b'{"a":null,"b":[1.5,"null",{"c":[1,null]}]}'
    )


class Angry:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@dataclass
class Broken:
    value: int = field(init=False)


@pytest.mark.parametrize("kind", [Angry, Broken])
def test_a_value_whose_own_code_fails_is_refused_too(kind):
    with pytest.raises(EncodingError, match=r"^result\[0\]: "):
        encode([kind()])


def test_bytes_that_are_kept_are_no_larger_than_their_text():
    kept = encode({"id": "x", "amount": 3.5})
    assert type(kept) is bytes
    assert sys.getsizeof(kept) == sys.getsizeof(bytes(len(kept)))


def test_an_offset_with_seconds_keeps_its_instant():
    at = datetime(1900, 1, 1, 12, tzinfo=timezone(timedelta(minutes=19, seconds=32)))
    assert encode(at) == b'"1900-01-01T11:40:28Z"'
    assert Converter(datetime).decode(encode(at)) == at


@given(st.sets(st.text() | st.integers(-(2**63), 2**63) | st.booleans() | st.dates() | st.none()))
def test_equal_sets_are_equal_bytes(elements):
    again: set[Any] = set()
    for element in reversed(list(elements)):
        again.add(element)
    assert encode(elements) == encode(again) == encode(frozenset(elements))


# ---------------------------------------------------------------- there and back by annotation

_INT64 = st.integers(-(2**63), 2**64 - 1)
_ZONES = st.none() | st.just(UTC) | st.integers(-1439, 1439).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)  # fmt: skip
_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)

_HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, _INT64),
    (float, _FLOATS),
    (str, _TEXT),
    (bool, st.booleans()),
    (datetime, st.datetimes(timezones=_ZONES)),
    (date, st.dates()),
    (time, st.times(timezones=st.none() | st.just(UTC))),
    (timedelta, st.timedeltas()),
    (Decimal, _DECIMALS),
    (UUID, st.uuids()),
    (bytes, st.binary()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Kind, st.sampled_from(Kind)),
    (Money, st.builds(Money, _DECIMALS, _TEXT)),
    (Point, st.builds(Point, _INT64, _FLOATS)),
    (pathlib.PurePosixPath, _TEXT.map(pathlib.PurePosixPath)),
    (Literal["x", 1], st.sampled_from(["x", 1])),
]
_ITEMS = st.builds(Item, _INT64, st.sets(_TEXT), st.binary())
_OTHER: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()),
    (bytearray, st.binary().map(bytearray)),
    (Item, _ITEMS),
    (Order, st.builds(Order, st.lists(_ITEMS, max_size=3), st.none() | st.datetimes())),
    (Shape, st.fixed_dictionaries({}, optional={"name": _TEXT, "size": _DECIMALS})),
    (Cat | Mouse, st.builds(Cat, _INT64) | st.builds(Mouse)),
    (Dog, st.builds(Dog, _INT64)),
    (Reading, st.builds(Reading, value=st.none() | _FLOATS)),
    (Box[Decimal], st.builds(Box, _DECIMALS)),
    (Person, st.builds(Person, name=_TEXT, born=st.none() | st.dates(), friends=st.just([]))),
    (Aliased, st.builds(Aliased, orderId=_TEXT)),
]
_PYDANTIC_ONLY: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Reading | int, st.builds(Reading, value=_FLOATS) | _INT64),
    (Checked, st.builds(Checked, count=st.integers(1, 100), raw=st.just(b"x"))),
    (list[Checked], st.lists(st.builds(Checked, count=st.integers(1, 100)), max_size=3)),
    (tuple[Checked, bytes], st.tuples(st.builds(Checked, count=st.just(1)), st.binary())),
    (dict[str, Annotated[int, pydantic.Field(gt=0)]], st.dictionaries(_TEXT, st.integers(1, 9))),
]
_KEYS = [
    pair for pair in _HASHABLE if pair[0] in {int, str, UUID, date, datetime, Decimal, Color, Kind}
]


@st.composite
def typed_values(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """Draw an annotation and a strategy of its values."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(_HASHABLE + _OTHER))
    annotation, values = draw(typed_values(depth - 1))
    shape = draw(st.sampled_from(["list", "tuple", "pair", "set", "dict", "optional"]))
    if shape == "list":
        return list[annotation], st.lists(values, max_size=3)
    if shape == "tuple":
        return tuple[annotation, ...], st.lists(values, max_size=3).map(tuple)
    if shape == "pair":
        other, others = draw(typed_values(depth - 1))
        return tuple[annotation, other], st.tuples(values, others)
    if shape == "set":
        element, elements = draw(st.sampled_from(_HASHABLE))
        return set[element], st.sets(elements, max_size=3)
    if shape == "dict":
        key, keys = draw(st.sampled_from(_KEYS))
        return dict[key, annotation], st.dictionaries(keys, values, max_size=3)
    return (
        annotation | None if annotation else None,
        st.none() | values if annotation else st.none(),
    )


@given(st.data())
def test_a_value_comes_back_as_it_was_by_its_annotation(data):
    annotation, values = data.draw(typed_values())
    value = data.draw(values)
    converter = Converter[Any](annotation)
    copy = converter.decode(converter.encode(value))
    assert copy == value
    assert type(copy) is type(value)
    assert converter.encode(copy) == converter.encode(value)


@given(st.data())
def test_what_only_pydantic_knows_comes_back_too(data):
    annotation, values = data.draw(st.sampled_from(_PYDANTIC_ONLY))
    value = data.draw(values)
    converter = Converter[Any](annotation)
    assert converter.decode(converter.encode(value)) == value


@given(_JSON)
def test_plain_json_comes_back_as_it_was(value):
    assert PLAIN.decode(PLAIN.encode(value)) == value


def test_what_comes_back_is_a_copy():
    order = Order([Item(1)])
    copy = Converter(Order).decode(encode(order))
    assert copy.items[0] is not order.items[0]


def test_without_an_annotation_plain_json_comes_back():
    assert PLAIN.decode(encode({"at": (1, {2}), "by": b"x"})) == {"at": [1, [2]], "by": "eA=="}


def test_keys_that_are_no_text_need_the_annotation():
    converter = Converter(dict[int, list[str]])
    assert converter.free_keys
    assert converter.decode(converter.encode({1: ["a"]})) == {1: ["a"]}
    with pytest.raises(EncodingError, match=r"annotate the value with dict\[int, …\]"):
        PLAIN.encode({1: ["a"]})
    assert not Converter(dict[str, int]).free_keys


def test_two_keys_that_are_the_same_in_json_are_refused():
    with pytest.raises(EncodingError, match="two keys of the dict are both '1'"):
        encode({1: "a", "1": "b"}, free_keys=True)


@pytest.mark.parametrize("key", [True, None, (1, 2), 2**64, math.nan])
def test_a_key_that_json_has_no_text_for_is_refused(key):
    with pytest.raises(EncodingError):
        encode({key: 1}, free_keys=True)


@pytest.mark.parametrize(
    ("annotation", "data", "message"),
    [
        (Order, b'{"items":[{"qty":"1"}]}', "items[0].qty: expected int, got str"),
        (Order, b"{}", "items: a required field is missing"),
        (Order, b'{"items":[{}]}', "items[0].qty: a required field is missing"),
        (Order, b"[]", "expected object, got array"),
        (int, b'"1"', "expected int, got str"),
        (int, b"1.0", "expected int, got float"),
        (bool, b"1", "expected bool, got int"),
        (str, b"1", "expected str, got int"),
        (int | None, b'"x"', "expected int | null, got str"),
        (None, b"1", "expected null, got int"),
        (dict[int, str], b'{"x":"a"}', "a key: expected int, got str"),
        (dict[str, list[int]], b'{"a":["x"]}', "[...][0]: expected int, got str"),
        (Color, b'"green"', "invalid enum value 'green'"),
        (UUID, b'"x"', "invalid UUID"),
        (list[pathlib.Path], b"[1]", "[0]: expected str, got int"),
        (list[Person], b'[{"name":"x"},{"name":1}]', "[1].name: Input should be a valid string"),
        (dict[str, Person], b'{"a":{}}', "[...].name: Field required"),
        (Person, b'{"friends":[{"name":1}]}', "name: Field required (and 1 more)"),
        (Person, b'{"name":"x","friends":[{"name":1}]}',
         "friends[0].name: Input should be a valid string"),
        (list[Annotated[int, pydantic.Field(gt=3)]], b"[4,1]",
         "[1]: Input should be greater than 3"),
        (Annotated[int, pydantic.Field(gt=3)], b'"5"', "Input should be a valid integer"),
        (Checked, b'{"count":0}', "count: Input should be greater than 0"),
        (int | Person, b'"x"', None),
        (Annotated[int, msgspec.Meta(gt=3)], b"1", "expected int >= 4"),
        (list[int], b"[1,", "Input data was truncated"),
    ],
)  # fmt: skip
def test_data_of_another_type_is_refused_naming_the_field(annotation, data, message):
    with pytest.raises(InvalidInputError) as caught:
        Converter[Any](annotation).decode(data)
    if message is not None:
        assert caught.value.message == message


def test_the_field_is_named_from_where_the_value_stands():
    converter = Converter(Order)
    with pytest.raises(
        InvalidInputError, match=r"^result\.items\[0\]\.qty: expected int, got str$"
    ):
        converter.decode(b'{"items":[{"qty":"1"}]}', "result")
    with pytest.raises(InvalidInputError, match=r"^result: expected object, got array$"):
        converter.decode(b"[]", "result")
    with pytest.raises(InvalidInputError, match=r"^result\[1\]\.name: Input should"):
        Converter(list[Person]).decode(b'[{"name":"x"},{"name":1}]', "result")
    with pytest.raises(InvalidInputError, match=r"^result\.name: Field required$"):
        Converter(Person).decode(b"{}", "result")


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("number is negative")
        if self.number == 0:
            raise KeyError("number is zero")


def test_what_a_class_checks_itself_is_an_invalid_input():
    with pytest.raises(InvalidInputError, match=r"^\[0\]: number is negative$"):
        Converter(list[Positive]).decode(b'[{"number":-1}]')
    with pytest.raises(InvalidInputError, match="number is zero"):
        Converter(Positive).decode(b'{"number":0}')


def test_unknown_fields_are_let_by_so_that_clients_can_be_newer():
    assert Converter(Item).decode(b'{"qty":1,"more":2}') == Item(1)


def test_deep_data_is_refused_and_not_fatal():
    class Node(msgspec.Struct):
        next: Any = None

    data = b'{"next":' * 100_000 + b"null" + b"}" * 100_000
    with pytest.raises(InvalidInputError):
        Converter(Node).decode(data)


@pytest.mark.parametrize(
    "annotation",
    [
        socket.socket, list[socket.socket], dict[str, Opaque], complex, type[int], "Order",
        Item | Order, int | pathlib.Path, Box[Opaque],
    ],
)  # fmt: skip
def test_an_annotation_that_json_cannot_hold_is_refused_or_left_plain(annotation):
    with pytest.raises(AuthoringError, match=r"cannot be read from JSON: .*; annotate with"):
        Converter(annotation)
    lenient = Converter[Any](annotation, lenient=True)
    assert "cannot be read from JSON" in (lenient.fallback or "")
    assert lenient.decode(b'{"a":[1]}') == {"a": [1]}
    assert lenient.schema() == {}


def test_plain_annotations_are_no_fallback():
    assert [Converter(kind).fallback for kind in (Any, object, int)] == [None, None, None]


def test_a_converter_is_built_once():
    assert Converter.of(list[Item]) is Converter.of(list[Item])
    assert Converter.of(Annotated[int, {"not": "hashable"}]).decode(b"1") == 1


def test_schemas_are_json_schema_with_references_that_lead_somewhere():
    assert Converter(int).schema() == {"type": "integer"}
    assert PLAIN.schema() == {}
    assert Converter(list[pathlib.Path]).schema() == {"type": "array", "items": {"type": "string"}}
    assert Converter(Person).schema()["$defs"]["Person"]["required"] == ["name"]
    for annotation in (Order, list[Order], list[Person], Box[Person], Checked):
        schema = Converter[Any](annotation).schema()
        for target in _references(schema):
            assert target.removeprefix("#/$defs/") in schema["$defs"]


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [target for part in schema for target in _references(part)]
    if not isinstance(schema, dict):
        return []
    here = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return here + [target for part in schema.values() for target in _references(part)]


def test_pydantic_is_not_imported_for_those_who_do_not_use_it():
    code = (
        "import sys, dataclasses\n"
        "from stepflow.model.codec import Converter, encode\n"
        "Converter(list[int]).decode(encode([1]))\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- the hash of arguments


def test_the_hash_is_16_hex_digits_of_the_arguments():
    assert len(args_hash(())) == len(args_hash((1, "a"))) == 16
    assert args_hash(("o-1", 3)) == args_hash(("o-1", 3))
    different = [
        (),
        (1,),
        ("1",),
        (1, 2),
        ([1, 2],),
        (12,),
        (None,),
        ({"a": 1},),
        ({1: 2},),
        (b"",),
    ]
    assert len({args_hash(args) for args in different}) == len(different)


def test_an_argument_that_is_not_json_counts_by_its_type():
    assert args_hash((Opaque(), 1)) == args_hash((Opaque(), 1))
    assert args_hash((Opaque(), 1)) != args_hash((Opaque(), 2))
    assert args_hash((Opaque(),)) != args_hash((object(),))
    assert args_hash((lambda: 1,)) == args_hash((lambda: 2,))


def test_the_hash_never_fails():
    for value in (Angry(), Broken(), math.nan, 2**70, {1: {2: {3}}}, "\ud800", {Opaque(): 1}):
        assert args_hash((value,)) == args_hash((value,))


def test_the_hash_is_equal_in_every_process():
    code = (
        "from stepflow.model.codec import args_hash\n"
        "print(args_hash(({'a', 'b', 'c', 1, None}, {'k': {1: object()}}, object(), 1.5)))\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(seen) == 1


@given(st.lists(_JSON, max_size=4))
def test_equal_arguments_have_equal_hashes(args):
    again = json.loads(json.dumps(args))
    assert args_hash(tuple(args)) == args_hash(tuple(again))


# ---------------------------------------------------------------- errors


def _raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise exc from cause
    except BaseException as caught:  # noqa: BLE001
        return caught


class CardDeclined(Exception):
    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


def test_an_error_is_its_type_message_data_causes_and_traceback():
    error = _raised(CardDeclined("no funds", {"left": Decimal("0.5")}), KeyError("c-1"))
    told = orjson.loads(encode_error(error, step="charge", attempts=4))
    assert "CardDeclined: no funds" in told.pop("traceback")
    assert told == {
        "type": "CardDeclined",
        "message": "no funds",
        "step": "charge",
        "attempts": 4,
        "data": {"left": "0.5"},
        "causes": [{"type": "KeyError", "message": "'c-1'"}],
    }


def test_callers_see_type_message_step_and_attempts():
    error = _raised(CardDeclined("no funds", {"left": 1}), KeyError("c-1"))
    public = public_error(encode_error(error, step="charge", attempts=4))
    expected = b'{"type":"CardDeclined","message":"no funds","step":"charge","attempts":4}'
    assert public == expected
    assert public_error(public) == public
    assert orjson.loads(public_error(b"{}")) == {"type": "Exception", "message": ""}


def test_the_error_of_an_interrupted_step_names_it():
    told = orjson.loads(public_error(encode_error(StepInterruptedError("pay"))))
    assert (told["type"], told["step"]) == ("StepInterruptedError", "pay")


def test_what_was_not_undone_is_told_to_callers_bounded_and_clean():
    error = encode_error(CardDeclined("no funds", {"left": 1}))
    assert without_compensation(error) == error
    rows = [("hold", f"hold#{n}", "T" * 999, "\0" + "é" * 999) for n in range(103)]
    few = orjson.loads(public_error(with_compensation(error, [("hold", "hold#1", "Gone", "no")])))
    gone = {"type": "Gone", "message": "no"}
    assert few["compensation"] == [{"name": "hold", "key": "hold#1", "error": gone}]
    assert "compensationMore" not in few
    told = with_compensation(error, rows)
    public = orjson.loads(public_error(told))
    assert (len(public["compensation"]), public["compensationMore"]) == (100, 3)
    first = public["compensation"][0]
    assert (first["name"], first["key"]) == ("hold", "hold#0")
    assert len(first["error"]["type"]) == 256
    assert first["error"]["message"].startswith("\ufffdé")
    assert len(first["error"]["message"].encode()) <= 512
    assert orjson.loads(without_compensation(told)) == orjson.loads(error)


def test_a_failed_step_comes_back_with_a_stand_in_for_its_cause():
    error = _raised(CardDeclined("no", {"left": 1}), _raised(KeyError("c"), OSError("disk")))
    data = encode_error(error, step="charge", attempts=4)
    failed = decode_step_error("charge", data)
    assert isinstance(failed, StepFailedError)
    assert (failed.name, failed.error_type, failed.message) == ("charge", "CardDeclined", "no")
    assert (failed.attempts, failed.data) == (4, {"left": 1})
    chain: list[str] = []
    cause = failed.__cause__
    while cause is not None:
        assert isinstance(cause, RemoteCause)
        chain.append(str(cause))
        cause = cause.__cause__
    assert chain == ["CardDeclined: no", "KeyError: 'c'", "OSError: disk"]


def test_a_failed_step_that_nobody_caught_is_told_as_the_steps_own_error():
    data = encode_error(CardDeclined("no", {"left": 1}), step="charge", attempts=4)
    data_public = public_error(data)
    failed = _raised(decode_step_error("charge", data))
    of_run = encode_error(failed)
    assert public_error(of_run) == data_public
    assert orjson.loads(of_run)["data"] == {"left": 1}
    assert "causes" not in orjson.loads(of_run)


def test_one_failure_alone_in_a_group_is_told_as_itself():
    data = encode_error(CardDeclined("no"), step="charge", attempts=4)
    group = ExceptionGroup("unhandled errors in a TaskGroup", [decode_step_error("charge", data)])
    told = orjson.loads(encode_error(_raised(group)))
    assert (told["type"], told["step"], told["attempts"]) == ("CardDeclined", "charge", 4)
    assert "unhandled errors in a TaskGroup" in told["traceback"]


def test_several_failures_in_a_group_are_all_named():
    group = ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError("b")])])
    told = orjson.loads(encode_error(group))
    assert told["type"] == "ExceptionGroup"
    assert told["message"] == "g (2 sub-exceptions): ValueError: a; KeyError: 'b'"
    assert [cause["type"] for cause in told["causes"]] == ["ValueError", "KeyError"]


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")

    @property
    def data(self) -> Any:
        raise KeyboardInterrupt


class NotText(Exception):
    def __str__(self) -> str:
        return 3  # type: ignore[return-value]  # noqa: PLE0307


@pytest.mark.parametrize(
    "exc",
    [
        Hostile(),
        NotText(),
        CardDeclined("x", data=object()),
        CardDeclined("x", data=float("nan")),
        StepFailedError(1, None, None, "many"),  # type: ignore[arg-type]
        ExceptionGroup("g", [Hostile(), NotText()]),
        KeyboardInterrupt(),
    ],
)
def test_no_exception_breaks_the_encoder(exc):
    data = encode_error(_raised(exc), step="s", attempts=1)
    assert decode_step_error("s", data).error_type
    assert orjson.loads(public_error(data))["step"] == "s"


def test_text_that_is_not_utf_8_is_replaced():
    told = orjson.loads(encode_error(ValueError("a\ud800b\0c"), step="s\udfff"))
    assert (told["message"], told["step"]) == ("a\ufffdb\ufffdc", "s\ufffd")


@given(st.text(st.characters()))
def test_any_message_is_kept_or_cut_at_4_kib(text):
    told = orjson.loads(encode_error(ValueError(text * 50)))
    assert len(told["message"].encode()) <= 4096
    assert "\0" not in told["message"]


def test_a_long_message_and_traceback_are_cut():
    data = encode_error(_raised(ValueError("é" * 100_000)), traceback_bytes_max=1000)
    told = orjson.loads(data)
    assert len(told["message"].encode()) <= 4096
    assert told["message"].endswith("é…")
    assert len(told["traceback"].encode()) <= 1000
    assert "… cut …" in told["traceback"]
    assert told["traceback"].startswith("Traceback")


def test_a_chain_of_causes_is_cut_at_five_and_a_ring_ends():
    error: BaseException = ValueError("0")
    for number in range(1, 10):
        error = _raised(ValueError(str(number)), error)
    told = orjson.loads(encode_error(error))
    assert [cause["message"] for cause in told["causes"]] == ["8", "7", "6", "5", "4"]
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert len(orjson.loads(encode_error(one))["causes"]) == 1


def test_data_over_64_kib_is_left_out():
    assert "data" not in orjson.loads(encode_error(CardDeclined("x", "y" * 70_000)))


def test_the_context_counts_as_a_cause_unless_it_is_suppressed():
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise ValueError("b")  # noqa: B904
    except ValueError as error:
        assert orjson.loads(encode_error(error))["causes"][0]["type"] == "KeyError"
        error.__suppress_context__ = True
        assert "causes" not in orjson.loads(encode_error(error))


def test_bytes_of_the_wire_are_standard_base64():
    data = bytes(range(256))
    assert orjson.loads(encode(data)) == base64.b64encode(data).decode()
