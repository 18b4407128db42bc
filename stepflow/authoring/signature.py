"""What a function says about itself: its input, its result, its name, whether it is async.

Annotations are read one by one and only where they are needed, so that `Context` may be imported
under `TYPE_CHECKING`. Text is evaluated where the function was written: its module, what it closes
over, and, while it is being decorated, the body of the function around it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any, Final, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from stepflow.errors import AuthoringError, InvalidInputError
from stepflow.model.codec import PLAIN, Converter

__all__ = [
    "WorkflowSignature",
    "check_event_template",
    "event_ids",
    "function_name",
    "inspect_workflow",
    "is_async",
    "result_converter",
    "step_function",
]

_EVENT_ID_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class WorkflowSignature:
    """What a workflow takes and gives. `input_optional`: a `null` input leaves the default."""

    input: Converter[Any]
    output: Converter[Any]
    takes_input: bool
    input_optional: bool = False

    def arguments(self, data: bytes) -> tuple[Any, ...]:
        """Return what follows `ctx` in a call with the encoded input; `InvalidInputError`."""
        if not self.takes_input or (self.input_optional and data == b"null"):
            return ()
        return (self.input.decode(data),)


def inspect_workflow(fn: Callable[..., Any]) -> WorkflowSignature:
    """Return the signature of `async def f(ctx, input) -> output` or `async def f(ctx)`.

    Raises `AuthoringError` for any other shape and for an input that JSON cannot hold.
    """
    name = getattr(fn, "__qualname__", repr(fn))
    if not is_async(fn):
        raise AuthoringError(f"workflow {name} is not async: write `async def`")
    parameters = _parameters(fn, name)
    output = result_converter(fn)
    if len(parameters) == 1:
        return WorkflowSignature(PLAIN, output, takes_input=False)
    parameter = parameters[1]
    try:
        annotation = _evaluated(parameter.annotation, _target(fn))
        converter = Converter[Any].of(annotation)
    except AuthoringError as error:
        raise AuthoringError(f"workflow {name}, input {parameter.name!r}: {error}") from None
    optional = parameter.default is not inspect.Parameter.empty
    return WorkflowSignature(converter, output, takes_input=True, input_optional=optional)


def function_name(fn: Callable[..., Any]) -> str:
    """Return the name that proves a step's identity: `__qualname__`, without the module.

    A partial is its inner function, an object its class; a lambda is `""`, which proves nothing.
    """
    fn = _inner(fn)
    name = getattr(fn, "__qualname__", None)
    if not isinstance(name, str):
        name = type(fn).__qualname__
    return "" if name.endswith("<lambda>") else name


def is_async(fn: Callable[..., Any]) -> bool:
    """Say whether calling `fn` gives a coroutine: `async def`, a partial or object of such."""
    fn = _inner(fn)
    if inspect.iscoroutinefunction(fn):
        return True
    return not isinstance(fn, FunctionType | type) and inspect.iscoroutinefunction(_call_method(fn))


@dataclass(frozen=True, slots=True)
class StepFunction:
    """What a step needs to know of its function."""

    name: str
    converter: Converter[Any]
    is_async: bool


_STEP_FUNCTIONS: Final[WeakKeyDictionary[Any, StepFunction]] = WeakKeyDictionary()


def step_function(fn: Callable[..., Any]) -> StepFunction:
    """Return name, result and kind of a step's function; looked at once for a plain function."""
    try:
        return _STEP_FUNCTIONS[fn]
    except (KeyError, TypeError):  # a callable of another kind may take no weak reference
        found = StepFunction(function_name(fn), result_converter(fn), is_async(fn))
        if isinstance(fn, FunctionType):
            _STEP_FUNCTIONS[fn] = found
        return found


# ---------------------------------------------------------------- the result of a function

_CONVERTERS: Final[WeakKeyDictionary[Any, Converter[Any]]] = WeakKeyDictionary()
_AWAITABLES: Final = (Awaitable, Coroutine)


def result_converter(fn: Callable[..., Any]) -> Converter[Any]:
    """Return the converter of what `fn` returns, or of what it gives when it is awaited.

    Without an annotation, or with one that JSON cannot hold, it is that of plain JSON types.
    """
    target = _target(fn)
    try:
        found = _CONVERTERS.get(target)
    except TypeError:  # some callables of C extensions take no weak reference
        return _result_converter(target)
    if found is None:
        found = _CONVERTERS[target] = _result_converter(target)
    return found


def _result_converter(target: Any) -> Converter[Any]:
    if isinstance(target, type):
        return Converter[Any].of(target, lenient=True)
    annotation = _annotations(target).get("return", inspect.Parameter.empty)
    try:
        annotation = _evaluated(annotation, target)
    except AuthoringError as error:
        converter = Converter[Any](Any)
        converter.fallback = str(error)
        return converter
    while get_origin(annotation) in _AWAITABLES:
        annotation = get_args(annotation)[-1]
    return Converter[Any].of(annotation, lenient=True)


def _target(fn: Any) -> Any:
    """Return what carries the annotations of `fn`: a function or a class."""
    fn = _inner(fn)
    if isinstance(fn, FunctionType | type):
        return fn
    if inspect.ismethod(fn):
        return fn.__func__
    return fn if inspect.isroutine(fn) else _call_method(fn)


def _inner(fn: Any) -> Any:
    while isinstance(fn, partial):
        fn = fn.func
    return fn


def _call_method(fn: object) -> Any:
    return getattr(type(fn), "__call__", fn)  # noqa: B004  the method itself is wanted


def _annotations(target: Any) -> dict[str, Any]:
    found = getattr(target, "__annotations__", None)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _parameters(fn: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    """Return `ctx` and, if there is one, the input."""
    found = list(inspect.signature(fn).parameters.values())
    needed = [p for p in found if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    positional = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional or len(needed) > 2 or any(p not in positional[:2] for p in needed):
        raise AuthoringError(
            f"workflow {name} takes ({', '.join(map(str, found))}); "
            "a workflow takes (ctx) or (ctx, input): put several values into a dataclass"
        )
    return positional[:2]


# ---------------------------------------------------------------- annotations that are text


def _evaluated(annotation: Any, target: Any) -> Any:
    if not isinstance(annotation, str) and not get_args(annotation):
        return annotation

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    module = getattr(inspect.unwrap(target), "__globals__", {})
    try:
        return get_type_hints(holder, module, _locals(target), include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise AuthoringError(
            f"the annotation {annotation!r} cannot be evaluated ({error}); "
            "import its names at module level, outside TYPE_CHECKING"
        ) from None


def _locals(target: Any) -> dict[str, Any]:
    """Return the names around a function that was written inside another."""
    names: dict[str, Any] = {p.__name__: p for p in getattr(target, "__type_params__", ())}
    if "<locals>" not in getattr(target, "__qualname__", ""):
        return names
    outer = target.__qualname__.rpartition(".<locals>.")[0]
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_qualname == outer and frame.f_globals is target.__globals__:
            names |= frame.f_locals
            break
        frame = frame.f_back
    return names | _closure(target)


def _closure(target: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    cells = getattr(target, "__closure__", None) or ()
    for name, cell in zip(target.__code__.co_freevars, cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return names


# ---------------------------------------------------------------- declared events

_FIELD: Final = re.compile(r"\{([^{}]*)\}")


def check_event_template(template: object) -> None:
    """Raise `AuthoringError` unless `template` is text such as `"paid-{id}"` or `"{a.b}"`."""
    if not isinstance(template, str) or not template:
        raise AuthoringError(f"events: {template!r} is not an event id")
    rest = _FIELD.sub("", template)
    paths = _FIELD.findall(template)
    if "{" in rest or "}" in rest or not all(part for path in paths for part in path.split(".")):
        raise AuthoringError(
            f"events: {template!r}: a field of the input is written {{name}} or {{outer.inner}}"
        )


def event_ids(templates: Sequence[str], value: object) -> tuple[str, ...]:
    """Fill the fields of the input's JSON `value` into `templates`; each id once, in order.

    Values read as in an f-string. Raises `InvalidInputError` naming a field that is missing or is
    not text, a number or a boolean.
    """
    return tuple(dict.fromkeys(_filled(template, value) for template in templates))


def _filled(template: str, value: object) -> str:
    event_id = _FIELD.sub(lambda match: _field(match[1], value, template), template)
    if not 0 < len(event_id.encode()) <= _EVENT_ID_BYTES_MAX:
        raise InvalidInputError(
            f"the event id made from {template!r} has {len(event_id.encode())} bytes; "
            f"1 to {_EVENT_ID_BYTES_MAX} are allowed"
        )
    return event_id


def _field(path: str, value: object, template: str) -> str:
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            raise InvalidInputError(f"{path}: missing; the event {template!r} needs it")
        value = cast("dict[str, object]", value)[part]
    if not isinstance(value, str | int | float):
        kind = "null" if value is None else type(value).__name__
        raise InvalidInputError(
            f"{path}: expected text or a number for the event {template!r}, got {kind}"
        )
    return str(value)
