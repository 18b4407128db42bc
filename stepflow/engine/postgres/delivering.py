"""Delivers an event: who takes it is decided in the database, what their types say to it here.

A wait's row has its type as text. Whoever delivers first asks without any: where all waits take
anything, that is all. Else the database names the types, he looks at the payload with each, outside
of any lock, and asks again; what began to wait meanwhile with yet another type is named again. So
the types decide in the same transaction as everything else, over the waits that there are then.

A type that cannot be read here (its code is not in this process) takes anything: the worker that
has the run looks at the payload once more, logs what it refuses, and the wait goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from stepflow.engine.postgres.typenames import read_type, type_text, variables_of
from stepflow.errors import AuthoringError, UnavailableError
from stepflow.model.converter import Converter
from stepflow.runtime.calls import refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stepflow.authoring.registry import Registry
    from stepflow.errors import InvalidInputError

    Learned = Callable[[str, str], Converter[Any] | None]
    Asking = Callable[[list[str], list[str]], Awaitable["Row"]]

__all__ = ["Row", "Types", "deliver"]

Row: TypeAlias = "tuple[Any, ...]"
"""How many runs it reached, the type of one that was passed over, types to look at first."""

_log: Final = logging.getLogger("stepflow.postgres")
_ROUNDS_MAX: Final = 100
_OWN: Final = "own:"
"""Before the workflow and the wait's name, in place of a type that has no text."""
_READ_MAX: Final = 10_000
_decode: Final = msgspec.json.Decoder(tuple[str, str]).decode
_encode: Final = msgspec.json.Encoder().encode


class Types:
    """The types of waits, as this process knows them.

    `learned` gives what a workflow's wait of that name was seen to take here, if it was.
    """

    def __init__(self, registry: Registry, learned: Learned | None = None) -> None:
        self._registry = registry
        self._learned = learned
        self._read: dict[str, Converter[Any]] = {}
        self._strange: set[str] = set()

    def text_of(self, workflow: str, name: str, converter: Converter[Any] | None) -> str | None:
        """Return what to write of a wait; None where nobody knows yet what it takes."""
        converter = converter or self._known(workflow, name)
        if converter is None:
            return None
        known = self._registry.get(workflow)
        function = None if known is None else known.function
        text = type_text(converter.annotation, workflow, function)
        return _OWN + _encode((workflow, name)).decode() if text is None else text

    def _known(self, workflow: str, name: str) -> Converter[Any] | None:
        return None if self._learned is None else self._learned(workflow, name)

    def _variable(self, workflow: str, name: str) -> Any:
        known = self._registry.get(workflow)
        if known is None:
            raise LookupError(workflow)
        return variables_of(known.function)[name]

    def refusal(self, text: str, payload: bytes) -> InvalidInputError | None:
        """Return why a wait of that type refuses the payload, if it does."""
        converter = self._converter(text)
        return None if converter is None else refusal_of(converter, payload)

    def _converter(self, text: str) -> Converter[Any] | None:
        if text.startswith(_OWN):
            return self._known(*_decode(text.removeprefix(_OWN).encode()))
        converter = self._read.get(text)
        if converter is None:
            try:
                converter = Converter.of(read_type(text, self._variable))
            except (LookupError, AuthoringError):
                self._say_strange(text)
                return None
            if len(self._read) < _READ_MAX:
                self._read[text] = converter
        return converter

    def _say_strange(self, text: str) -> None:
        if text not in self._strange and len(self._strange) < _READ_MAX:
            self._strange.add(text)
            _log.warning(
                "a run waits for an event of type %s, which is not in this process: here nothing "
                "is refused because of it, the worker that has the run looks at each payload",
                text,
            )


async def deliver(
    types: Types, payload: bytes, ask: Asking
) -> tuple[int, InvalidInputError | None]:
    """Ask until no type is unknown; return how many runs it reached, and why one refused it.

    Raises `UnavailableError` when new types begin to wait faster than they are looked at.
    """
    taking: list[str] = []
    refusing: dict[str, InvalidInputError] = {}
    for _ in range(_ROUNDS_MAX):
        reached, refused, unknown = await ask(taking, list(refusing))
        if not unknown:
            return reached, refusing[refused] if refused else None
        for text in unknown:
            refusal = types.refusal(text, payload)
            if refusal is None:
                taking.append(text)
            else:
                refusing[text] = refusal
    raise UnavailableError("Too many begin to wait for the event at this moment", retry_after_s=1)
