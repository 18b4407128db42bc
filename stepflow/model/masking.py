"""Secrets out of JSON, types kept: what a program decodes it still decodes afterwards. PURE.

A member is a secret by its **name**: letters and digits alone count, in any case, so `api_key`,
`apiKey` and `X-API-Key` are one. What it holds is replaced leaf by leaf:

======== =========================================================================
a string `***`, or a UUID of zeros where it was a UUID
a number 0
the rest `true`, `false` and `null` say little and stay
======== =========================================================================

Numbers under a name that ends in `tokens` stay: they count what a language model has read. Texts
under other names lose what looks like a secret: our keys and tokens, JWTs, and what follows such a
name, as in `password=…` or `Authorization: Bearer …`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from stepflow.log import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Masking"]

_PARTS: Final = (
    *("accesskey", "apikey", "authorization", "cookie", "credential", "passphrase", "passwd"),
    *("password", "privatekey", "secret", "token"),
)
_WHOLE: Final = frozenset({"auth", "otp", "pin", "pwd", "ssn", "cvv", "cvc"})
_COUNTS: Final = "tokens"
_IN_TEXT: Final = re.compile(
    r"(?i)(?P<name>[\w-]*(?:passphrase|passw(?:or)?d|secret|token|api[_-]?key|authorization)[\w-]*"
    r"[\"']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)(?:\"[^\"]*\"|'[^']*'|[^\s,;&}\])\"']+)"
)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_STARS: Final = "***"


def _normal(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


class Masking:
    """Masks values, and counts how many. `names`: further ones that are secret as a whole."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._whole = _WHOLE | {normal for name in names if (normal := _normal(name))}
        self._known: dict[str, bool] = {}
        self.count = 0

    def is_secret(self, name: str) -> bool:
        """Say whether what has this name is a secret."""
        known = self._known.get(name)
        if known is None:
            normal = _normal(name)
            known = normal in self._whole or any(part in normal for part in _PARTS)
            self._known[name] = known
        return known

    def value(self, value: Any, name: str = "") -> Any:
        """Return the JSON value without its secrets; `name` is the member it stands under."""
        if self.is_secret(name):
            return self._masked(value, counts=_normal(name).endswith(_COUNTS))
        kind: Any = value.__class__
        if kind is dict:
            return {key: self.value(item, key) for key, item in value.items()}
        if kind is list:
            return [self.value(item) for item in value]
        if kind is str:
            clean = _IN_TEXT.sub(r"\g<name>***", redacted(value))
            self.count += clean != value
            return clean
        return value

    def _masked(self, value: Any, *, counts: bool) -> Any:
        # Decoded JSON has these types alone, exactly.
        kind: Any = value.__class__
        if kind is dict:
            return {key: self._masked(item, counts=counts) for key, item in value.items()}
        if kind is list:
            return [self._masked(item, counts=counts) for item in value]
        if value is None or kind is bool:
            return value
        masked: Any = _STARS
        if kind is int or kind is float:
            masked = value if counts else kind(0)
        elif _UUID.fullmatch(value):
            masked = _NIL
        self.count += masked != value
        return masked
