"""Random attacks for as long as wanted. Filled in below."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def torture(seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, int]:
    """Not yet."""
    raise NotImplementedError
