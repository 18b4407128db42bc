"""API keys in a table that several processes share: an engine keeps it, this room reads it.

A row is the JSON of `keys_file.row_to_json`, so only the SHA-256 of a key is there, too.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from stepflow.auth.keys_file import KeyRow, KeyStore, row_of_json, row_to_json
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from stepflow.model.shared_table import SharedTable

__all__ = ["KeysTable"]


class KeysTable(KeyStore):
    """The keys of one table."""

    __slots__ = ("_table",)

    def __init__(self, table: SharedTable, keys_max: int = 1000) -> None:
        super().__init__(keys_max)
        self._table = table

    @property
    def place(self) -> str:
        return "the database"

    def rows(self) -> list[KeyRow]:
        return _decode(self._table.read())

    def known(self) -> list[KeyRow]:
        return _decode(self._table.known())

    def identity(self) -> int:
        return self._table.version

    @contextlib.contextmanager
    def _changing(self) -> Generator[list[KeyRow]]:
        with self._table.turn() as texts:
            rows = _decode(texts)
            yield rows
            texts.clear()
            texts.update((row.id, json.dumps(row_to_json(row)).encode()) for row in rows)


def _decode(texts: Mapping[str, bytes]) -> list[KeyRow]:
    """Return the rows, oldest first. Raises `ConfigurationError` for one that is damaged."""
    rows: list[KeyRow] = []
    for key_id, text in texts.items():
        try:
            rows.append(row_of_json(json.loads(text)))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the key {key_id} in the database is damaged; delete its row and make a new one"
            ) from error
    return sorted(rows, key=lambda row: (row.created_ms, row.id))
