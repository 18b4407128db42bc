"""Ids: what they look like and how they are made. Entropy is passed in, never read here."""

from __future__ import annotations

import re
from typing import Final, NewType

__all__ = ["RUN_ID", "RunId", "is_run_id", "run_ids_of"]

RunId = NewType("RunId", str)

RUN_ID: Final = re.compile(r"run_[A-Za-z0-9]{8,64}")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FAIR: Final = 256 - 256 % len(_ALPHABET)
"""Bytes from here on are left out: they would favour the first digits."""
_DIGITS: Final = bytes(ord(_ALPHABET[byte % len(_ALPHABET)]) for byte in range(256))
_UNFAIR: Final = bytes(range(_FAIR, 256))
_ID_DIGITS: Final = 22


def is_run_id(text: str) -> bool:
    """Say whether `text` has the shape of a run id: `run_` and 8 to 64 letters or digits."""
    return RUN_ID.fullmatch(text) is not None


def run_ids_of(entropy: bytes) -> list[RunId]:
    """Return the run ids that random bytes make: `run_` and 22 base62 digits (130 bits) each.

    A digit takes a byte, and eight bytes of 256 are of no use.
    """
    digits = entropy.translate(_DIGITS, _UNFAIR).decode("ascii")
    starts = range(0, len(digits) - _ID_DIGITS + 1, _ID_DIGITS)
    return [RunId("run_" + digits[at : at + _ID_DIGITS]) for at in starts]
