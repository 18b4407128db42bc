"""`stepflow keys …`: API keys in a data directory or a database. Servers follow within a second."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, cast, get_args

import click
import msgspec

from stepflow.auth.chain import KEYS_FILE
from stepflow.auth.keys_file import KeyRow, KeysFile, KeyStore
from stepflow.auth.keys_table import KeysTable
from stepflow.auth.principal import Scope
from stepflow.cli.connection import default_data_dir
from stepflow.cli.errors import NOT_FOUND, USAGE, Failure, failing
from stepflow.clock import SystemClock, rfc3339
from stepflow.engine.choosing import database_keys
from stepflow.errors import AuthoringError
from stepflow.model.durations import parse_duration_ms

__all__ = ["keys"]

_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_NO_ADMIN: Final = tuple(scope for scope in _SCOPES if scope != "admin")

data_option = click.option(
    "--data", metavar="DIR", help="The data directory. [default: $STEPFLOW_DATA_DIR, stepflow-data]"
)
database_option = click.option(
    "--database",
    metavar="URL",
    help="A PostgreSQL database in its place. [default: $STEPFLOW_DATABASE_URL, without --data]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Make, list and revoke API keys of a data directory, or of a database."""


@keys.command("create")
@click.argument("name")
@data_option
@database_option
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    help="What it may do; may be repeated. [default: all but admin]",
)
@click.option("--expires-in", metavar="DURATION", help="How long it is good: 12h, 90d.")
@json_option
def create(
    name: str,
    data: str | None,
    database: str | None,
    scopes: tuple[str, ...],
    expires_in: str | None,
    as_json: bool,
) -> None:
    """Make a key called NAME and print it, this once: only its hash is kept."""
    now_ms = SystemClock().wall_ms()
    expires_ms = None if expires_in is None else now_ms + _duration_ms(expires_in)
    chosen = cast("tuple[Scope, ...]", scopes or _NO_ADMIN)
    with failing():
        text, row = _keys(data, database).create(name, chosen, now_ms, expires_ms)
    if as_json:
        click.echo(msgspec.json.encode({"key": text, **_shown(row)}))
    else:
        click.echo(text)


@keys.command("list")
@data_option
@database_option
@json_option
def list_keys(data: str | None, database: str | None, as_json: bool) -> None:
    """List the keys by id, name and scopes; never the keys themselves."""
    with failing():
        rows = _keys(data, database).rows()
    if as_json:
        click.echo(msgspec.json.encode({"keys": [_shown(row) for row in rows]}))
        return
    now_ms = SystemClock().wall_ms()
    for row in rows:
        scopes = ",".join(scope for scope in _SCOPES if scope in row.scopes)
        click.echo(f"{row.id}  {row.name}  {scopes}  {_state(row, now_ms)}")
    if not rows:
        click.echo("no keys; make one: stepflow keys create NAME", err=True)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@data_option
@database_option
@json_option
def revoke(key_id: str, data: str | None, database: str | None, as_json: bool) -> None:
    """End the key with that ID; a running server refuses it within a second."""
    with failing():
        row = _keys(data, database).revoke(key_id, SystemClock().wall_ms())
    if row is None:
        raise Failure(f"there is no key {key_id}", NOT_FOUND, "see them: stepflow keys list")
    if as_json:
        click.echo(msgspec.json.encode(_shown(row)))
    else:
        click.echo(f"revoked {row.id}  {row.name}")


def _keys(data: str | None, database: str | None) -> KeyStore:
    url = database or (None if data else os.environ.get("STEPFLOW_DATABASE_URL"))
    if url:
        return KeysTable(database_keys(url))
    directory = Path(data or default_data_dir())
    if not directory.is_dir():
        raise Failure(
            f"there is no data directory {directory}",
            USAGE,
            "name it with --data; the first `stepflow serve` makes it",
        )
    return KeysFile(directory / KEYS_FILE)


def _duration_ms(text: str) -> int:
    try:
        return parse_duration_ms(text)
    except (AuthoringError, ValueError) as error:
        raise Failure(f"--expires-in: {error}", USAGE) from None


def _state(row: KeyRow, now_ms: int) -> str:
    if row.revoked_ms is not None:
        return f"revoked {rfc3339(row.revoked_ms)}"
    if row.expires_ms is None:
        return "good"
    return f"{'expired' if now_ms >= row.expires_ms else 'good until'} {rfc3339(row.expires_ms)}"


def _shown(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": sorted(row.scopes),
        "createdAt": rfc3339(row.created_ms),
        "expiresAt": None if row.expires_ms is None else rfc3339(row.expires_ms),
        "revokedAt": None if row.revoked_ms is None else rfc3339(row.revoked_ms),
    }
