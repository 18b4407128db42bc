"""A PostgreSQL of the tests' own: from the system's package, on loopback, gone with the session."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from tools.postgres import Postgres, programs

if TYPE_CHECKING:
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> str:
    """Return the URL of the session's server."""
    if programs() is None:
        pytest.skip("no PostgreSQL on this machine: make system-deps")
    running: Postgres = request.getfixturevalue("postgres")
    return running.url


@pytest.fixture(scope="module")
def database(server: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of a fresh database, the module's own."""
    name = request.module.__name__.rpartition(".")[2]
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'create database "{name}"')
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return where a data directory may be made."""
    return tmp_path / "data"


@pytest.fixture
def url(server: str) -> str:
    """Return the URL of a fresh database, the test's own."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f'create database "{name}"')
    return f"{server.rpartition('/')[0]}/{name}"
