"""Objects that are made a few times for each step: in C, by their fields.

A `Plain` is a msgspec `Struct` that is never encoded, so that its annotations are never evaluated
and may name what is imported for the type checkers alone. Two are equal when they are one.
"""

from __future__ import annotations

import msgspec

__all__ = ["Fixed", "Plain"]


class Plain(msgspec.Struct, eq=False):
    """Made by its fields, in their order or by name."""


class Fixed(msgspec.Struct, eq=False, frozen=True):
    """The same, and never changed."""
