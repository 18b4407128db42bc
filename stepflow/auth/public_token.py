r"""Public access tokens `pat_…`: signed, read-only, for one run, some runs or a tag.

A token is `pat_` and the base64url text, without padding, of these bytes::

    offset  size  what
    0       1     version, 1
    1       1     kind: 1 one run, 2 several runs, 3 a tag
    2       4     key id: the first bytes of SHA-256("stepflow-pat-key-id\0" + key)
    6       6     when it ends, milliseconds since 1970, big-endian
    12      n     UTF-8: the run id; run ids joined by ","; or the tag
    12+n    32    HMAC-SHA256(key, "stepflow-pat-v1\0" + all bytes before)

The whole MAC is kept, and only the canonical base64 text of a token is that token, so that a change
of any bit of the text is refused. Tokens are stateless: they survive a restart because the key does
(`token.key` in the data directory, or `STEPFLOW_TOKEN_KEY`), and end when the key is replaced.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Final

from stepflow.auth.principal import READ_ONLY, Principal
from stepflow.auth.secret_file import read_own_secret, write_secret
from stepflow.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = ["TokenSigner", "load_or_create_token_key", "token_keys_from_env"]

PREFIX: Final = "pat_"
KEY_BYTES: Final = 32
_VERSION: Final = 1
_ONE_RUN, _RUNS, _TAG = 1, 2, 3
_DOMAIN: Final = b"stepflow-pat-v1\0"
_HEAD_BYTES: Final = 12
_MAC_BYTES: Final = 32
_TEXT_MAX: Final = 8192
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


class TokenSigner:
    """Makes and checks public access tokens. The first key signs, every key verifies."""

    __slots__ = ("_key", "_keys", "_runs_max", "_starts")

    def __init__(self, key: bytes, *older: bytes, runs_max: int = 100) -> None:
        self._key = key
        self._keys = {_key_id(each): each for each in (*older, key)}
        self._runs_max = runs_max
        self._starts = {
            kind: bytes([_VERSION, kind]) + _key_id(key) for kind in (_ONE_RUN, _RUNS, _TAG)
        }

    def sign_run(self, run_id: str, expires_ms: int) -> str:
        """Return a token that reads that one run and its stream."""
        return self._sign(_ONE_RUN, expires_ms, run_id)

    def sign_runs(self, run_ids: Iterable[str], expires_ms: int) -> str:
        """Return a token for those runs. Raises `InvalidInputError` for none or too many."""
        ids = list(dict.fromkeys(run_ids))
        if not 0 < len(ids) <= self._runs_max:
            raise InvalidInputError(
                f"a token names 1 to {self._runs_max} runs, not {len(ids)}; a tag has no limit"
            )
        return self._sign(_RUNS, expires_ms, ",".join(ids))

    def sign_tag(self, tag: str, expires_ms: int) -> str:
        """Return a token for every run that bears `tag`."""
        return self._sign(_TAG, expires_ms, tag)

    def verify(self, token: str, now_ms: int) -> Principal | None:
        """Return who the token stands for; None when it is forged, damaged, foreign or over."""
        raw = _bytes_of(token)
        if raw is None or raw[0] != _VERSION:
            return None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        key = self._keys.get(body[2:6])
        if key is None or not hmac.compare_digest(_mac(key, body), mac):
            return None
        expires_ms = int.from_bytes(body[6:_HEAD_BYTES], "big")
        if now_ms >= expires_ms:
            return None
        return _principal(body[1], body[_HEAD_BYTES:].decode(), expires_ms)

    def _sign(self, kind: int, expires_ms: int, subject: str) -> str:
        body = self._starts[kind] + expires_ms.to_bytes(6, "big") + subject.encode()
        return PREFIX + _text_of(body + _mac(self._key, body)).decode("ascii")


def _principal(kind: int, subject: str, expires_ms: int) -> Principal:
    if kind == _TAG:
        return Principal("token", "token", READ_ONLY, None, subject, expires_ms)
    run_ids = frozenset(subject.split(",") if kind == _RUNS else (subject,))
    one_run = kind == _ONE_RUN
    return Principal("token", "token", READ_ONLY, run_ids, None, expires_ms, one_run=one_run)


def _text_of(raw: bytes) -> bytes:
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL)


def _bytes_of(token: str) -> bytes | None:
    """Return the bytes of a token's canonical text, long enough to hold head and MAC."""
    if len(token) > _TEXT_MAX or not token.startswith(PREFIX) or not token.isascii():
        return None
    text = token[len(PREFIX) :].encode("ascii")
    try:
        raw = a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None
    # The decoder forgives stray characters and spare bits: only one text may stand for the bytes.
    if len(raw) <= _HEAD_BYTES + _MAC_BYTES or _text_of(raw) != text:
        return None
    return raw


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _DOMAIN + body, "sha256")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"stepflow-pat-key-id\0" + key).digest()[:4]


# ---------------------------------------------------------------- where keys come from


def load_or_create_token_key(path: Path, entropy: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return the key that the file holds as hex; make file and key (0600, synced) when absent.

    Raises `ConfigurationError` for a file that others may read or that is not a key, and
    `DiskFailedError`.
    """
    content = read_own_secret(path, bytes_max=1024)
    if content is None:
        key = entropy(KEY_BYTES)
        write_secret(path, key.hex().encode() + b"\n")
        return key
    return _key_of(content.decode("ascii", "replace").strip(), str(path))


def token_keys_from_env(environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """Return the keys of `STEPFLOW_TOKEN_KEY`: the first signs, others verify (comma-separated)."""
    text = environ.get("STEPFLOW_TOKEN_KEY", "").strip()
    if not text:
        return ()
    return tuple(_key_of(part.strip(), "STEPFLOW_TOKEN_KEY") for part in text.split(","))


def _key_of(text: str, origin: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise ConfigurationError(
            f"{origin} is not a key of at least 64 hex digits; make one: openssl rand -hex 32"
        )
    return key
