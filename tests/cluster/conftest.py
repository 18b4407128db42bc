"""A PostgreSQL of the tests' own: from the system's package, on loopback, gone with the session."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import psycopg
import pytest

from benchmarks.peers.postgres import postgres, programs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server; give the URL of its first database."""
    if programs() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    directory: Path = tmp_path_factory.mktemp("pg")
    with postgres(directory) as url:
        yield url


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
