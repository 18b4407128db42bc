"""Ids: what they look like and how they are made. Entropy is passed in, never read here."""

from __future__ import annotations

import re
from typing import Final, NewType

__all__ = ["RUN_ID", "RunId", "is_run_id", "run_id_of"]

RunId = NewType("RunId", str)

RUN_ID: Final = re.compile(r"run_[A-Za-z0-9]{8,64}")
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_PAIR: Final = len(_PAIRS)


def is_run_id(text: str) -> bool:
    """Say whether `text` has the shape of a run id: `run_` and 8 to 64 letters or digits."""
    return RUN_ID.fullmatch(text) is not None


def run_id_of(entropy: bytes) -> RunId:
    """Return the run id of 16 random bytes: `run_` and 22 base62 digits (128 bits)."""
    number = int.from_bytes(entropy, "big")
    digits: list[str] = []
    for _ in range(11):
        number, pair = divmod(number, _PAIR)
        digits.append(_PAIRS[pair])
    return RunId("run_" + "".join(digits))
