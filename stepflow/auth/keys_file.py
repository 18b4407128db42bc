"""`keys.json`: the keys that `stepflow keys` makes, and how a running server follows it.

::

    {"format": 1,
     "checksum": "<SHA-256, hex, of the compact JSON of keys, members sorted>",
     "keys": [{"id", "name", "sha256", "scopes", "createdAt", "expiresAt", "revokedAt",
               "createdBy"?, "revokedBy"?}]}

`createdBy` and `revokedBy` are principals; a key that the command line made or revoked has none.

Times are milliseconds since 1970. The file is private (0600) and replaced whole. Writers take turns
by a lock on `keys.lock` beside it, which is never replaced. A server looks at the file's identity
when a key is asked for, at most every half second, so a revocation is in force within a second.
A damaged file is refused at a start; in a running server it lets no made key in until it is mended.
While a stream is open that such a key opened, the file is looked at unasked, by one timer for all
streams, so that it ends within a second too, however busy it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stepflow.auth.api_key import ApiKey, KeyRing, digest_of, make_key
from stepflow.auth.principal import Scope, known_scopes
from stepflow.auth.secret_file import read_secret, write_secret
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stepflow.clock import Clock, TimerHandle
    from stepflow.config import Settings

__all__ = ["KeyFollower", "KeyRow", "KeyStore", "KeysFile", "row_of_json", "row_to_json"]

FORMAT: Final = 1
_BYTES_MAX: Final = 4 * 1024 * 1024
_NAME_CHARS_MAX: Final = 64

logger = logging.getLogger("stepflow.auth")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key in the file."""

    id: str
    name: str
    sha256: str = field(repr=False)
    scopes: frozenset[Scope]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    created_by: str = ""
    revoked_by: str = ""

    def live(self, now_ms: int) -> bool:
        """Say whether it is neither revoked nor over."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


class KeyStore(ABC):
    """Reads and changes the keys that were made. Every change is durable when it returns."""

    __slots__ = ("_keys_max",)

    def __init__(self, keys_max: int = 1000) -> None:
        self._keys_max = keys_max

    @property
    @abstractmethod
    def place(self) -> str:
        """Where they are, as messages say it."""

    @abstractmethod
    def rows(self) -> list[KeyRow]:
        """Return all rows, the revoked too. Raises `ConfigurationError` for what is damaged."""

    @abstractmethod
    def identity(self) -> object:
        """Return what is another one when the rows have changed."""

    def known(self) -> list[KeyRow]:
        """Return the rows without waiting for anybody."""
        return self.rows()

    @abstractmethod
    def _changing(self) -> AbstractContextManager[list[KeyRow]]:
        """Give the rows, to be changed in place: they are written at the end."""

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        now_ms: int,
        expires_ms: int | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        *,
        by: str = "",
    ) -> tuple[str, KeyRow]:
        """Add a key; return it, to be shown once, and its row. A name may be used again.

        `by` is the principal who asked for it. Raises `ConfigurationError` for a bad name and when
        there are too many keys.
        """
        if not 0 < len(name) <= _NAME_CHARS_MAX or not name.isprintable():
            raise ConfigurationError(
                f"a key's name has 1 to {_NAME_CHARS_MAX} printable characters"
            )
        text, key_id = make_key(entropy)
        digest = digest_of(text).hex()
        row = KeyRow(key_id, name, digest, frozenset(scopes), now_ms, expires_ms, created_by=by)
        with self._changing() as rows:
            if len(rows) >= self._keys_max:
                raise ConfigurationError(
                    f"{self.place} holds {len(rows)} keys, the most allowed; remove some"
                )
            rows.append(row)
        return text, row

    def revoke(self, key_id: str, now_ms: int, by: str = "") -> KeyRow | None:
        """End a key now; None when there is no such id. A second time changes nothing."""
        with self._changing() as rows:
            for place, row in enumerate(rows):
                if row.id == key_id:
                    if row.revoked_ms is None:
                        rows[place] = replace(row, revoked_ms=now_ms, revoked_by=by)
                    return rows[place]
        return None

    def remove_dead(self, now_ms: int) -> int:
        """Forget revoked and expired keys; return how many."""
        with self._changing() as rows:
            live = [row for row in rows if row.live(now_ms)]
            dead = len(rows) - len(live)
            rows[:] = live
        return dead


class KeysFile(KeyStore):
    """One `keys.json`."""

    __slots__ = ("path",)

    def __init__(self, path: Path, keys_max: int = 1000) -> None:
        super().__init__(keys_max)
        self.path = path

    @property
    def place(self) -> str:
        return str(self.path)

    def rows(self) -> list[KeyRow]:
        content = read_secret(self.path, _BYTES_MAX)
        return [] if content is None else _decode(content, self.path)

    def identity(self) -> tuple[int, int, int, int] | None:
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size

    @contextlib.contextmanager
    def _changing(self) -> Generator[list[KeyRow]]:
        with self._turn():
            rows = self.rows()
            before = list(rows)
            yield rows
            if rows != before:
                self._write(rows)

    def _write(self, rows: list[KeyRow]) -> None:
        write_secret(self.path, _encode(rows))

    @contextlib.contextmanager
    def _turn(self) -> Generator[None]:
        # The lock file is a sibling, because `keys.json` itself is another file after each change.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


# ---------------------------------------------------------------- following a file that changes


class KeyFollower:
    """The ring of keys that another process may change."""

    __slots__ = (
        "_checked_s",
        "_clock",
        "_every_s",
        "_file",
        "_ring",
        "_seen",
        "_timer",
        "_watches",
    )

    def __init__(self, file: KeyStore, clock: Clock, settings: Settings) -> None:
        """Read the keys. Raises `ConfigurationError` when it is damaged."""
        self._file = file
        self._clock = clock
        self._every_s = settings.keys_check_s
        self._checked_s = clock.monotonic_s()
        self._seen = file.identity()
        self._ring = _ring(file.known())
        self._watches: dict[object, tuple[str, Callable[[], None]]] = {}
        self._timer: TimerHandle | None = None

    @property
    def file(self) -> KeyStore:
        """What is followed."""
        return self._file

    def look(self) -> None:
        """Look at the file now: whoever has changed it wants to see it in force."""
        self._checked_s = self._clock.monotonic_s()
        self._look()

    def ring(self) -> KeyRing:
        """Return the keys that are good now."""
        now_s = self._clock.monotonic_s()
        if now_s - self._checked_s >= self._every_s:
            self._checked_s = now_s
            self._look()
        return self._ring

    def watch(self, key_id: str, revoked: Callable[[], None]) -> Callable[[], None]:
        """Call `revoked` when that key is no longer good, and again until what this returns is."""
        token = object()
        self._watches[token] = key_id, revoked
        if self._timer is None:
            self._timer = self._clock.call_later(self._every_s, self._tick)

        def stop() -> None:
            self._watches.pop(token, None)
            if not self._watches and self._timer is not None:
                self._timer.cancel()
                self._timer = None

        return stop

    def _tick(self) -> None:
        self._timer = self._clock.call_later(self._every_s, self._tick)
        self._checked_s = self._clock.monotonic_s()
        self._look()
        for key_id, revoked in tuple(self._watches.values()):
            if not self._ring.holds(key_id):
                revoked()

    def _look(self) -> None:
        try:
            identity = self._file.identity()
            if identity != self._seen:
                self._ring = self._ring_of_file()
                self._seen = identity
        except OSError as error:
            # Too many open files, say. The keys are what they were; the next look tries again.
            logger.error("keeping the API keys known so far: %s", error)  # noqa: TRY400

    def _ring_of_file(self) -> KeyRing:
        try:
            return _ring(self._file.known())
        except ConfigurationError as error:
            # Whoever edited it may have meant to take a key away: let none in.
            logger.error("no made API key is accepted: %s", error)  # noqa: TRY400
            return KeyRing()


def _ring(rows: list[KeyRow]) -> KeyRing:
    return KeyRing(
        ApiKey(row.name, bytes.fromhex(row.sha256), row.scopes, row.expires_ms, row.id)
        for row in rows
        if row.revoked_ms is None
    )


# ---------------------------------------------------------------- the format


def _encode(rows: list[KeyRow]) -> bytes:
    keys = [row_to_json(row) for row in rows]
    document = {"format": FORMAT, "checksum": _checksum(keys), "keys": keys}
    return json.dumps(document, indent=1).encode() + b"\n"


def _decode(content: bytes, path: Path) -> list[KeyRow]:
    try:
        document = json.loads(content)
        found = document["format"]
        if found == FORMAT:
            keys = document["keys"]
            if hmac.compare_digest(str(document["checksum"]), _checksum(keys)):
                return [row_of_json(key) for key in keys]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = FORMAT
    if found != FORMAT:
        raise ConfigurationError(
            f"{path} has format {found}, this version reads {FORMAT}; use a newer stepflow"
        )
    raise ConfigurationError(
        f"{path} is damaged; put back a copy, or move it aside and make new keys "
        "with `stepflow keys create`"
    )


def _checksum(keys: Any) -> str:
    text = json.dumps(keys, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def row_to_json(row: KeyRow) -> dict[str, Any]:
    """Return the row as it is kept."""
    return {
        "id": row.id,
        "name": row.name,
        "sha256": row.sha256,
        "scopes": sorted(row.scopes),
        "createdAt": row.created_ms,
        "expiresAt": row.expires_ms,
        "revokedAt": row.revoked_ms,
        **({"createdBy": row.created_by} if row.created_by else {}),
        **({"revokedBy": row.revoked_by} if row.revoked_by else {}),
    }


def row_of_json(row: Any) -> KeyRow:
    """Return a row that was kept. Raises `ValueError`, `KeyError` or `TypeError` for none."""
    bytes.fromhex(row["sha256"])
    return KeyRow(
        row["id"],
        row["name"],
        row["sha256"],
        known_scopes(row["scopes"]),
        row["createdAt"],
        row["expiresAt"],
        row["revokedAt"],
        row.get("createdBy", ""),
        row.get("revokedBy", ""),
    )
