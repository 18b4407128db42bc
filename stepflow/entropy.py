"""The only source of randomness: ids, jitter and `ctx.random` draw on an injected `Entropy`."""

from __future__ import annotations

from random import Random, SystemRandom  # noqa: TID251  here and nowhere else

__all__ = ["Entropy", "system_entropy"]

Entropy = Random
"""A generator; tests give a seeded one."""


def system_entropy() -> Entropy:
    """Return the machine's own randomness."""
    return SystemRandom()
