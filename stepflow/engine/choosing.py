"""Makes the engine of a database, where somebody asks for one: what it needs is an extra."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from stepflow.engine.protocol import Engine
    from stepflow.model.shared_table import SharedTable

__all__ = ["database_engine", "database_keys"]


def database_engine(url: str, *, role: str) -> Engine:
    """Return the engine on that database; one of the role `api` answers calls and runs nothing.

    Raises `ConfigurationError` where `stepflow[postgres]` is not installed.
    """
    try:
        from stepflow.engine.postgres import PostgresEngine  # noqa: PLC0415  an extra brings it
    except ImportError as error:
        raise _missing(error) from error
    text = os.environ.get("STEPFLOW_CLAIM_TIMEOUT_S") or "30"
    if not (text.isdecimal() and int(text)):
        raise ConfigurationError(f"STEPFLOW_CLAIM_TIMEOUT_S={text!r} is no number of seconds")
    engine = PostgresEngine(url, worker=role != "api", claim_timeout_s=int(text))
    engine.role = role
    return engine


def database_keys(url: str) -> SharedTable:
    """Return the API keys that are kept in that database.

    Raises `ConfigurationError` where `stepflow[postgres]` is not installed.
    """
    try:
        from stepflow.engine.postgres.shared import PostgresTable  # noqa: PLC0415  as above
    except ImportError as error:
        raise _missing(error) from error
    return PostgresTable(url, "api_keys")


def _missing(error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"a database needs more than is installed ({error.name} is missing): "
        "pip install 'stepflow[postgres]'"
    )
