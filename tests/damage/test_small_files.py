"""The small files beside the journal, damaged: a clear word, the next move, and no run is lost."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from stepflow import Stepflow
from stepflow.auth.keys_file import KeysFile
from stepflow.auth.principal import ALL_SCOPES, Principal
from stepflow.auth.sessions import Sessions
from stepflow.cli.access import prepare_access
from stepflow.clock import SystemClock
from stepflow.engine.protocol import RunFilter
from stepflow.errors import ConfigurationError, DiskFailedError, OperatorError
from tests.damage import directories as on
from tests.damage.app import SETTINGS, register
from tests.damage.test_table import APP
from tests.faults.processes import Served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.damage.directories import Directories

pytestmark = pytest.mark.timeout(300)

FILES = ("keys.json", "token.key", "api.key", "LOCK", "suspects.json", "marker", "RESERVE")
FILES += ("sessions.json",)
HINTS = frozenset({"sessions.json", "LOCK", "suspects.json", "marker", "RESERVE"})
"""What no start depends on."""
NOW_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Directories:
    found = on.make(tmp_path_factory.mktemp("directories"))
    for data in (found.killed, found.stopped):
        asyncio.run(start(data))
        KeysFile(data / "keys.json").create("ci", ALL_SCOPES, NOW_MS)
        (data / "suspects.json").write_bytes(b'{"format":1,"crc":0,"runs":{}}')
        (data / "suspects.json").chmod(0o600)
        sessions = Sessions(data / "sessions.json", SystemClock(), SETTINGS)
        asyncio.run(sessions.begin(Principal("ops", "key", ALL_SCOPES)))
    return found


async def start(data: Path) -> set[str]:
    """Start as `serve` does, with a key of the directory; return the runs that are there."""
    prepare_access(str(data), {}, no_auth=False)
    flow = register(Stepflow(data, settings=SETTINGS))
    async with flow:
        page = await flow.engine.list_runs(RunFilter(), limit=1000, cursor=None)
        assert (await flow.trigger("adds", 1)).id
        return {run.id for run in page.runs}


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00garbage" * 40)


def half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def null(path: Path) -> None:
    path.write_bytes(b"null")


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def huge(path: Path) -> None:
    path.write_bytes(b"9" * 6_000_000)


WAYS = (empty, garbage, half, zeros, deep, null, gone, a_folder, huge)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_damaged_small_file_is_named_or_made_anew_and_no_run_is_lost(
    made: Directories, tmp_path: Path, name: str, way: Callable[[Path], None]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.killed, data)
    if not (data / name).exists():
        (data / name).write_bytes(b"x" * 100)
        (data / name).chmod(0o600)
    way(data / name)
    runs = {on.WAITING, on.DONE, on.AFTER, on.LAST}
    try:
        assert runs <= asyncio.run(start(data))
    except OperatorError as error:
        assert isinstance(error, ConfigurationError | DiskFailedError)
        assert name in str(error), error
        assert name not in HINTS or way is a_folder
        # The next move: take it away; then all is there.
        path = data / name
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        assert runs <= asyncio.run(start(data))


@pytest.mark.parametrize(
    "name", ["keys.json", "token.key", "api.key", "suspects.json", "LOCK", "sessions.json"]
)
def test_no_flipped_bit_of_a_small_file_ends_in_a_traceback_or_loses_a_run(
    made: Directories, tmp_path: Path, name: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.stopped, data)
    path = data / name
    original = path.read_bytes()
    for at in range(0, len(original), max(1, len(original) // 12)):
        image = bytearray(original)
        image[at] ^= 1 << at % 8
        path.write_bytes(image)
        try:
            assert on.LAST in asyncio.run(start(data))
        except ConfigurationError as error:
            assert name in str(error)
        path.write_bytes(original)


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("keys.json", b"{", 64, "is damaged; put back a copy, or move it aside and make new keys"),
        ("token.key", b"short\n", 64, "is not a key of at least 64 hex digits; make one: openssl"),
        (
            "api.key",
            b"nonsense\n",
            64,
            "holds no key; delete it and the next start makes a new one",
        ),
        ("FORMAT", b"", 65, "SFW211"),
    ],
)
def test_serve_names_the_damaged_file_and_the_next_move(
    made: Directories, tmp_path: Path, name: str, content: bytes, code: int, says: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.killed, data)
    (data / name).write_bytes(content)
    (data / name).chmod(0o600)
    with Served(data, tmp_path, app=APP, env={"STEPFLOW_API_KEYS": ""}) as server:
        assert server.ended() == code, server.said
        assert says in server.said
        assert name in server.said
        assert "Traceback" not in server.said


def test_serve_takes_a_lock_file_full_of_nonsense(made: Directories, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.killed, data)
    garbage(data / "LOCK")
    with Served(data, tmp_path, app=APP) as server:
        server.ready()
        (data / "LOCK").write_bytes(b'{"pid": [], "started": 5}')
        with Served(data, tmp_path, app=APP, env={"STEPFLOW_LOCK_WAIT_S": "0"}) as second:
            assert second.ended() == 75
            assert "SFW501" in second.said
            assert "Traceback" not in second.said
