"""Put something in the place of an attribute, and put the attribute back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["attribute", "definer", "replaced"]


def attribute(owner: Any, name: str) -> Any:
    """Return what stands there itself: a property or function, not what it gives."""
    attributes = cast("dict[str, Any]", vars(owner))
    return attributes[name]


def definer(cls: type, name: str) -> type:
    """Return the class that defines the name, `cls` or a base of it."""
    return next(owner for owner in cls.__mro__ if name in vars(owner))


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Generator[None]:
    """Replace `owner.name` inside the block: of a module, or of the class that defines it."""
    real = attribute(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, real)
