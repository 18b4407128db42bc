"""Every case of the table through the real `stepflow serve`: its action, message and exit code.

The directories are made by a real engine. A refusal leaves every byte where it was; a start keeps
every run that anybody was told of.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.journal.disk import RealDisk
from stepflow.journal.verify import verify
from tests.damage import directories as on
from tests.damage.damage_kit import tree_of
from tests.damage.table import TABLE, Row
from tests.faults.processes import Served, strace

if TYPE_CHECKING:
    from tests.damage.directories import Directories

pytestmark = pytest.mark.timeout(300)

APP = Path(__file__).parent / "app.py"
RUNS = {on.WAITING, on.DONE, on.AFTER, on.LAST}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Directories:
    return on.make(tmp_path_factory.mktemp("directories"))


def copy_of(made: Directories, of: str, place: Path) -> Path:
    source: Path = getattr(made, of)
    data = place / "data"
    shutil.copytree(source, data)
    return data


def served(data: Path, place: Path, **options: Any) -> Served:
    return Served(data, place, app=APP, **options)


def codes_in(said: str) -> set[str]:
    return set(re.findall(r"SFW\d{3}", said))


@pytest.mark.parametrize("row", [row for row in TABLE if row.exit_code], ids=str)
def test_a_refused_start_says_why_and_changes_nothing(
    made: Directories, tmp_path: Path, row: Row
) -> None:
    data = copy_of(made, row.of, tmp_path)
    row.damage(data)
    before = tree_of(data)
    with served(data, tmp_path) as server:
        assert server.ended() == row.exit_code, server.said
        said = server.said
    assert codes_in(said) == set(row.codes), said
    for words in row.says:
        assert words in said, said
    assert "Traceback" not in said
    after = tree_of(data)
    after.pop("LOCK", None)
    before.pop("LOCK", None)
    assert after == before


@pytest.mark.parametrize("row", [row for row in TABLE if not row.exit_code], ids=str)
def test_a_start_says_what_it_did_and_keeps_what_was_acknowledged(
    made: Directories, tmp_path: Path, row: Row
) -> None:
    data = copy_of(made, row.of, tmp_path)
    row.damage(data)
    with served(data, tmp_path) as server:
        server.ready()
        found = {run["id"]: run for run in server.get("/runs?limit=100")["runs"]}
        assert RUNS - set(row.lost) <= set(found), server.said
        for run_id in RUNS & set(found) - {on.WAITING}:
            assert found[run_id]["status"] == "completed" or run_id in row.lost
        waiting = server.get(f"/runs/{on.WAITING}")
        if row.aside == on.WAITING:
            assert waiting["state"] == "quarantined"
            assert waiting["reason"].startswith(row.codes)
        else:
            assert server.post("/notify/go", 7).status_code == 200
            assert server.result(on.WAITING) == [2, 7]
        # The others go on.
        assert server.result(server.trigger("adds", 40)) == 42
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, server.said
        said = server.said
    assert codes_in(said) == set(row.codes), said
    for words in row.says:
        assert words in said, said
    assert "Traceback" not in said
    if row.broken:
        assert any(p.name.startswith(row.broken) for p in (data / "broken").iterdir())
    else:
        assert not (data / "broken").exists()
    assert all(path.stat().st_mode & 0o077 == 0 for path in data.iterdir())
    again = verify(RealDisk(data))
    # What a start does not need is damaged still, and `verify` says so.
    assert again.ok != ("SFW107" in row.codes), again.messages
    assert again.messages[0].startswith("recovered clean")


def test_every_number_of_the_table_is_tried() -> None:
    assert {row.number for row in TABLE} | {18} == set(range(1, 22))


def test_a_directory_in_use_is_refused_with_its_owners_pid(
    made: Directories, tmp_path: Path
) -> None:
    """Case 18."""
    data = copy_of(made, "stopped", tmp_path)
    with served(data, tmp_path) as first:
        first.ready()
        with served(data, tmp_path, env={"STEPFLOW_LOCK_WAIT_S": "0"}) as second:
            assert second.ended() == 75, second.said
            assert "SFW501" in second.said
            assert f"pid {first.pid} since " in second.said, second.said
            assert "run one worker, or give each its own directory" in second.said
        assert first.result(first.trigger("adds", 1)) == 3


@pytest.mark.tool("strace")
@pytest.mark.parametrize("call", ["read", "fsync"])
def test_an_error_of_the_disk_is_never_taken_for_the_end(
    made: Directories, tmp_path: Path, call: str
) -> None:
    """Case 19: the very read, or the sync before it, of the last segment fails."""
    data = copy_of(made, "killed", tmp_path)
    before = tree_of(data)
    last = on.segments(data)[-1]
    words = strace(f"{call}:error=EIO", calls=call)
    wrap = [words[0], "-P", str(last), *words[1:]]
    with served(data, tmp_path, wrap=wrap) as server:
        assert server.ended() == 74, server.said
        assert codes_in(server.said) == {"SFW209"}
        assert "Nothing was changed; check the disk" in server.said
    after = tree_of(data)
    after.pop("LOCK", None)
    assert after == before
    with served(data, tmp_path) as server:
        assert len(server.ready().get("/runs?limit=100")["runs"]) >= len(RUNS)


def test_a_newer_versions_directory_gets_no_key_no_lock_and_no_other_file(
    made: Directories, tmp_path: Path
) -> None:
    data = copy_of(made, "killed", tmp_path)
    told = json.loads((data / "FORMAT").read_text()) | {"min_reader": 2}
    (data / "FORMAT").write_text(json.dumps(told))
    (data / "RESERVE").unlink()
    (data / "wal-next.tmp").write_bytes(b"theirs")
    on.flip(on.snapshots(data)[-1], 300)
    (data / on.segments(data)[-1].name).chmod(0o644)
    before = tree_of(data), data.stat().st_mtime_ns
    for env in ({}, {"STEPFLOW_API_KEYS": ""}):
        with served(data, tmp_path, env=env) as server:
            assert server.ended() == 65, server.said
            assert codes_in(server.said) == {"SFW301"}
    assert (tree_of(data), data.stat().st_mtime_ns) == before
