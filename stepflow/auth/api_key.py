"""API keys: what they look like, and how one is checked without keeping it.

Two kinds of text are keys::

    any 16 to 256 visible characters          from STEPFLOW_API_KEYS, all scopes
    sf_<id>_<secret>_<checksum>               made here: 8, 43 and 6 base62 digits
        secret    256 random bits
        checksum  CRC-32 of what is before it: a typing error is known without a look-up

Only the SHA-256 of a key is kept. The secret is 256 random bits, so no slow hash is needed. A given
key is compared with all kept ones, in constant time, without an early end.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stepflow.auth.principal import ALL_SCOPES, Principal, Scope
from stepflow.auth.secret_file import read_own_secret, write_secret
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["ApiKey", "KeyRing", "digest_of", "is_made_key", "keys_from_env", "make_key"]
__all__ += ["create_default_key", "load_default_key", "plain_key"]

KEY_CHARS_MIN: Final = 16
KEY_CHARS_MAX: Final = 256
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_MADE: Final = re.compile(r"sf_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")
_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as it is kept: never the key itself."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[Scope] = ALL_SCOPES
    expires_ms: int | None = None
    key_id: str | None = None

    @property
    def principal(self) -> Principal:
        """Who calls with this key."""
        return Principal(
            self.name, "key", self.scopes, expires_ms=self.expires_ms, key_id=self.key_id
        )


class KeyRing:
    """The keys that are good now."""

    __slots__ = ("_pairs",)

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._pairs = tuple((key.digest, key.principal) for key in keys)

    def __len__(self) -> int:
        return len(self._pairs)

    def find(self, text: str, now_ms: int) -> Principal | None:
        """Return whose key `text` is; None when it is nobody's or has expired."""
        if len(text) > KEY_CHARS_MAX:
            return None
        digest = digest_of(text)
        found: Principal | None = None
        for kept, principal in self._pairs:
            if hmac.compare_digest(kept, digest):
                found = principal
        if found is not None and found.expires_ms is not None and now_ms >= found.expires_ms:
            return None
        return found

    def named(self, name: str, key_id: str | None, now_ms: int) -> Principal | None:
        """Return the principal of a key that is still in the ring: by its id, where it has one."""
        for _, principal in self._pairs:
            if principal.key_id == key_id and (key_id is not None or principal.name == name):
                over = principal.expires_ms is not None and now_ms >= principal.expires_ms
                return None if over else principal
        return None

    def holds(self, key_id: str) -> bool:
        """Say whether the key with that id is still in the ring."""
        return any(principal.key_id == key_id for _, principal in self._pairs)


def digest_of(text: str) -> bytes:
    """Return the SHA-256 under which a key is kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


# ---------------------------------------------------------------- keys from the environment


def keys_from_env(environ: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """Return the keys of `STEPFLOW_API_KEYS`, comma-separated.

    Raises `ConfigurationError`, which names the place of a bad key and never the key.
    """
    text = environ.get("STEPFLOW_API_KEYS", "").strip()
    if not text:
        return ()
    parts = text.split(",")
    return tuple(
        plain_key(part.strip(), f"STEPFLOW_API_KEYS, key {place}")
        for place, part in enumerate(parts, 1)
    )


def plain_key(text: str, origin: str = "the API key") -> ApiKey:
    """Return `text` as a key with all scopes, named after the start of its digest.

    Raises `ConfigurationError`, which names `origin` and never the key.
    """
    problem = _problem(text)
    if problem:
        raise ConfigurationError(
            f"{origin} {problem}; a key has {KEY_CHARS_MIN} to {KEY_CHARS_MAX} "
            "visible characters, for instance: openssl rand -hex 32"
        )
    digest = digest_of(text)
    return ApiKey(f"key-{digest.hex()[:8]}", digest)


def _problem(text: str) -> str | None:
    if not text:
        return "is empty"
    if not _VISIBLE.fullmatch(text):
        return "has a character that is not visible ASCII"
    if not KEY_CHARS_MIN <= len(text) <= KEY_CHARS_MAX:
        return f"has {len(text)} characters"
    return None


# ---------------------------------------------------------------- keys that are made


def make_key(entropy: Callable[[int], bytes] = os.urandom) -> tuple[str, str]:
    """Return a new key and its id. The key is shown once; keep only `digest_of` it."""
    key_id = _base62(int.from_bytes(entropy(8), "big") % 62**8, 8)
    start = f"sf_{key_id}_{_base62(int.from_bytes(entropy(32), 'big'), 43)}"
    return f"{start}_{_checksum(start)}", key_id


def is_made_key(text: str) -> bool:
    """Say whether `text` is a key made here, typed without an error."""
    if not _MADE.fullmatch(text):
        return False
    start, _, checksum = text.rpartition("_")
    return _checksum(start) == checksum


def _checksum(start: str) -> str:
    return _base62(zlib.crc32(start.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits: list[str] = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


# ---------------------------------------------------------------- the first start's own key


def load_default_key(path: Path) -> str | None:
    """Return the key that `create_default_key` kept there, or None.

    Raises `ConfigurationError` when others may read the file or it holds no key, and
    `DiskFailedError`.
    """
    content = read_own_secret(path, bytes_max=1024)
    if content is None:
        return None
    text = content.decode("ascii", "replace").strip()
    if not is_made_key(text):
        raise ConfigurationError(
            f"{path} holds no key; delete it and the next start makes a new one"
        )
    return text


def create_default_key(path: Path, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Make a key, keep it in that file (0600, synced) and return it."""
    text, _ = make_key(entropy)
    write_secret(path, text.encode() + b"\n")
    return text
