"""Objects that are made a few times for each step: in C, by their fields.

A `Plain` is a msgspec `Struct` that is never encoded, so that its annotations are never evaluated
and may name what is imported for the type checkers alone. Two are equal when they are one.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct, field

__all__ = ["FRESH_DICT", "FRESH_LIST", "FRESH_SET", "Fixed", "Plain"]

# The bare types, which say nothing of what is inside: `dict[str, int]` as a factory costs more,
# every time, than all the rest of the object.
_DICT: Final[Any] = dict
_LIST: Final[Any] = list
_SET: Final[Any] = set

FRESH_DICT: Final[Any] = field(default_factory=_DICT)
"""A field's default: a dict of its own for each object."""
FRESH_LIST: Final[Any] = field(default_factory=_LIST)
FRESH_SET: Final[Any] = field(default_factory=_SET)


class Plain(Struct, eq=False):
    """Made by its fields, in their order or by name."""


class Fixed(Struct, eq=False, frozen=True):
    """The same, and never changed."""
