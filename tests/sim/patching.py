"""Put something in the place of an attribute, and put the attribute back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["replaced"]


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Generator[None]:
    """Replace `owner.name` inside the block: of a module, or of the class that defines it."""
    real: Any = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)
