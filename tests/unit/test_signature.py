"""What a function says about itself: input, result, name, kind; and declared events."""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine  # noqa: TC003  read at run time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from stepflow.authoring.signature import (
    check_event_template,
    event_ids,
    function_name,
    inspect_workflow,
    is_async,
    result_converter,
)
from stepflow.errors import AuthoringError, InvalidInputError

if TYPE_CHECKING:
    from stepflow import Context
    from stepflow.model.run import RunState


@dataclass
class Order:
    id: str


async def checkout(ctx: Context, order: Order) -> dict[str, Order]:
    return {order.id: order}


async def tick(ctx: Context) -> None: ...


async def default(ctx: Context, count: int = 3) -> int:
    return count


async def untyped(ctx, value):
    return value


def charge(order_id: str) -> Order:
    return Order(order_id)


async def charge_async(order_id: str) -> Order:
    return Order(order_id)


def later(order_id: str) -> Awaitable[Order]:
    return charge_async(order_id)


def later_still(order_id: str) -> Coroutine[Any, Any, list[Order]]:
    raise NotImplementedError


def untyped_step(x):
    return x


def hidden_result() -> RunState:
    raise NotImplementedError


def socket_result() -> Callable[[], int]:
    raise NotImplementedError


class Shop:
    def charge(self, order_id: str) -> Order:
        return Order(order_id)

    async def refund(self, order_id: str) -> int:
        return 1

    @staticmethod
    def total() -> int:
        return 1

    @classmethod
    async def make(cls) -> int:
        return 1


class Sync:
    def __call__(self, x: int) -> Order:
        return Order(str(x))


class Async:
    async def __call__(self, x: int) -> Order:
        return Order(str(x))


def wrapped(fn: Any) -> Any:
    @functools.wraps(fn)
    async def inner(*args: Any) -> Any:
        return await fn(*args)

    return inner


# ---------------------------------------------------------------- workflows


def test_input_and_output_are_read_although_the_context_is_for_checking_only():
    signature = inspect_workflow(checkout)
    assert signature.takes_input
    assert signature.input.decode(b'{"id":"o-1"}') == Order("o-1")
    assert signature.output.decode(b'{"a":{"id":"o-1"}}') == {"a": Order("o-1")}
    assert signature.arguments(b'{"id":"o-1"}') == (Order("o-1"),)


def test_a_workflow_may_have_no_input():
    signature = inspect_workflow(tick)
    assert not signature.takes_input
    assert signature.arguments(b'{"any":"thing"}') == ()
    with pytest.raises(InvalidInputError):
        signature.output.decode(b"1")


def test_a_null_input_leaves_the_default():
    signature = inspect_workflow(default)
    assert signature.arguments(b"null") == ()
    assert signature.arguments(b"5") == (5,)
    with pytest.raises(InvalidInputError, match="expected int, got str"):
        signature.arguments(b'"5"')


def test_without_annotations_everything_is_plain_json():
    signature = inspect_workflow(untyped)
    assert signature.arguments(b'{"a":[1]}') == ({"a": [1]},)
    assert signature.arguments(b"null") == (None,)


def test_a_wrong_input_is_refused_naming_the_field():
    with pytest.raises(InvalidInputError, match=r"^id: expected str, got int$"):
        inspect_workflow(checkout).arguments(b'{"id":1}')


def test_types_written_inside_a_function_are_found():
    @dataclass
    class Local:
        number: int

    async def local(ctx: Context, value: list[Local]) -> Local:
        return value[0]

    signature = inspect_workflow(local)
    assert signature.arguments(b'[{"number":1}]') == ([Local(1)],)
    assert signature.output.decode(b'{"number":1}') == Local(1)


def test_types_a_workflow_closes_over_are_found_later_too():
    def make() -> Any:
        @dataclass
        class Local:
            number: int

        async def local(ctx: Context, value: Local) -> int:
            assert Local
            return value.number

        return local

    fn = make()
    assert inspect_workflow(fn).arguments(b'{"number":1}')[0].number == 1


def test_a_wrapped_workflow_keeps_its_types():
    signature = inspect_workflow(wrapped(checkout))
    assert signature.arguments(b'{"id":"x"}') == (Order("x"),)


def test_a_bound_method_can_be_a_workflow():
    class Service:
        async def run(self, ctx: Context, order: Order) -> int:
            return 1

    assert inspect_workflow(Service().run).arguments(b'{"id":"x"}') == (Order("x"),)


async def two(ctx, a, b): ...
async def keyword_only(ctx, *, a): ...
async def no_context(): ...
async def starred(ctx, *args): ...
async def extra_defaults(ctx, order: int, *, debug: bool = False): ...
async def unknown_type(ctx, order: Nowhere): ...  # noqa: F821
async def checking_only(ctx, order: RunState): ...
async def no_json(ctx, order: Callable[[], int]): ...


@pytest.mark.parametrize("fn", [two, keyword_only, no_context, starred])
def test_another_shape_is_refused_and_the_right_one_shown(fn):
    with pytest.raises(AuthoringError, match=r"a workflow takes \(ctx\) or \(ctx, input\)"):
        inspect_workflow(fn)


def test_further_parameters_with_defaults_are_the_authors_business():
    assert inspect_workflow(extra_defaults).arguments(b"1") == (1,)


def test_a_plain_function_is_no_workflow():
    with pytest.raises(AuthoringError, match="workflow charge is not async: write `async def`"):
        inspect_workflow(charge)


@pytest.mark.parametrize("fn", [unknown_type, checking_only])
def test_an_input_type_that_cannot_be_found_is_refused(fn):
    words = rf"workflow {fn.__name__}, input 'order': .* outside TYPE_CHECKING"
    with pytest.raises(AuthoringError, match=words):
        inspect_workflow(fn)


def test_an_input_type_that_json_cannot_hold_is_refused():
    with pytest.raises(AuthoringError, match=r"workflow no_json, input 'order': .* annotate with"):
        inspect_workflow(no_json)


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("fn", "data", "value"),
    [
        (charge, b'{"id":"x"}', Order("x")),
        (charge_async, b'{"id":"x"}', Order("x")),
        (later, b'{"id":"x"}', Order("x")),
        (later_still, b'[{"id":"x"}]', [Order("x")]),
        (functools.partial(charge, "x"), b'{"id":"x"}', Order("x")),
        (functools.partial(functools.partial(Shop().charge), "x"), b'{"id":"x"}', Order("x")),
        (Shop().charge, b'{"id":"x"}', Order("x")),
        (Shop.total, b"1", 1),
        (Shop.make, b"1", 1),
        (Sync(), b'{"id":"x"}', Order("x")),
        (Async(), b'{"id":"x"}', Order("x")),
        (Order, b'{"id":"x"}', Order("x")),
        (wrapped(charge_async), b'{"id":"x"}', Order("x")),
        (untyped_step, b'{"id":"x"}', {"id": "x"}),
        (lambda: 1, b'{"id":"x"}', {"id": "x"}),
        (len, b"1", 1),
        (MagicMock(), b'{"id":"x"}', {"id": "x"}),
        (AsyncMock(), b'{"id":"x"}', {"id": "x"}),
    ],
)
def test_a_result_is_decoded_by_what_the_function_returns(fn, data, value):
    assert result_converter(fn).decode(data) == value


@pytest.mark.parametrize("fn", [hidden_result, socket_result])
def test_a_result_type_that_cannot_be_used_leaves_plain_json_and_says_why(fn):
    converter = result_converter(fn)
    assert converter.decode(b"[1]") == [1]
    assert converter.fallback


def test_a_functions_converter_is_made_once_and_dies_with_it():
    def make() -> Any:
        def local() -> int:
            return 1

        return local

    fn = make()
    assert result_converter(fn) is result_converter(fn)
    assert result_converter(Shop().charge) is result_converter(Shop().charge)
    dead = weakref.ref(fn)
    del fn
    gc.collect()
    assert dead() is None


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (charge, "charge"),
        (Shop().charge, "Shop.charge"),
        (Shop.make, "Shop.make"),
        (functools.partial(functools.partial(charge), "x"), "charge"),
        (functools.partial(lambda x: x, 1), ""),
        (lambda: 1, ""),
        (Sync(), "Sync"),
        (Order, "Order"),
        (len, "len"),
        (wrapped(charge_async), "charge_async"),
        (MagicMock(), "MagicMock"),
    ],
)
def test_a_step_is_known_by_its_functions_name(fn, name):
    assert function_name(fn) == name


@pytest.mark.parametrize(
    "fn",
    [
        charge_async,
        functools.partial(charge_async, "x"),
        Shop().refund,
        Shop.make,
        Async(),
        functools.partial(Async(), 1),
        wrapped(charge),
        AsyncMock(),
    ],
)
def test_what_gives_a_coroutine_is_async(fn):
    assert is_async(fn)


@pytest.mark.parametrize(
    "fn", [charge, functools.partial(charge, "x"), Shop().charge, Sync(), Order, Async, len, later]
)
def test_what_gives_no_coroutine_by_itself_is_not_async(fn):
    assert not is_async(fn)


# ---------------------------------------------------------------- events


@pytest.mark.parametrize("template", ["paid", "paid-{id}", "{a.b.c}", "{a}/{b}", "π-{é}"])
def test_a_template_has_fields_in_braces(template):
    check_event_template(template)


@pytest.mark.parametrize(
    "template", ["", "{", "}", "{}", "a{b", "a}b", "{{a}}", "{a..b}", "{.a}", 3]
)
def test_a_wrong_template_is_refused_at_registration(template):
    with pytest.raises(AuthoringError, match="events: "):
        check_event_template(template)


def test_each_run_declares_concrete_ids_once():
    value = {"id": "o-1", "a": {"b": 7}, "ok": True, "x": 1.5}
    templates = ["paid-{id}", "{a.b}/{id}", "all", "paid-{id}", "{ok}{x}"]
    assert event_ids(templates, value) == ("paid-o-1", "7/o-1", "all", "True1.5")
    assert event_ids([], None) == ()
    assert event_ids(["all"], None) == ("all",)


def test_an_id_reads_as_in_the_workflows_own_f_string():
    for value in ("a", 1, 1.0, True, -0.5):
        assert event_ids(["e-{v}"], {"v": value}) == (f"e-{value}",)


def test_braces_in_a_value_are_no_field():
    assert event_ids(["{a}"], {"a": "{b}"}) == ("{b}",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "id: missing; the event 'paid-{id}' needs it"),
        (None, "id: missing"),
        ([1], "id: missing"),
        ({"id": None}, "id: expected text or a number for the event 'paid-{id}', got null"),
        ({"id": [1]}, "got list"),
        ({"id": {}}, "got dict"),
    ],
)
def test_an_input_without_the_field_is_refused(value, words):
    with pytest.raises(InvalidInputError) as caught:
        event_ids(["paid-{id}"], value)
    assert words in caught.value.message


def test_a_missing_nested_field_is_named_in_full():
    with pytest.raises(InvalidInputError, match=r"^a\.b\.c: missing"):
        event_ids(["{a.b.c}"], {"a": {"b": 1}})


@pytest.mark.parametrize("value", ["", "x" * 257, "é" * 129])
def test_an_id_has_1_to_256_bytes(value):
    with pytest.raises(InvalidInputError, match="1 to 256 are allowed"):
        event_ids(["{id}"], {"id": value})
    assert event_ids(["{id}"], {"id": "é" * 128}) == ("é" * 128,)
