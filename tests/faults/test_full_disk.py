"""No room on the real disk: the server is read-only until there is some, and then goes on."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.full import fill, fill_and_empty, refused, small_disk, taken
from tests.faults.kills import Lives
from tests.faults.ledger import until
from tests.faults.processes import Load, Served, strace

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.timeout(400)


@pytest.mark.tool("prlimit")
def test_a_limit_on_files_is_read_only_until_it_is_lifted(tmp_path: Path) -> None:
    refusals: list[httpx.Response] = []
    with Load(tmp_path) as load:
        lives = Lives(tmp_path, load, env={"STEPFLOW_SEGMENT_BYTES_MAX": str(1 << 20)})
        with lives.begin(["prlimit", "--fsize=200000:unlimited"]) as server:
            load.more(50, server.ready())
            load.pause()
            until(lambda: refused(server, refusals), lambda: server.said)
            assert refusals[0].json()["code"] in {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
            # What is durable can be read, and the process lives.
            assert server.get("/runs")["runs"]
            assert server.status("/health") == 200
            command = ["prlimit", f"--pid={server.pid}", "--fsize=unlimited"]
            subprocess.run(command, check=True, timeout=60)
            until(lambda: taken(server), lambda: server.said)
            load.resume()
            load.more(50, server)
            server.kill()
            lives.over(server)
        lives.judge()


@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.tool("nsenter")
@pytest.mark.usefixtures("disks")
def test_a_small_file_system_fills_and_is_emptied_three_times(tmp_path: Path) -> None:
    told = fill_and_empty(tmp_path, 3, random.Random(1))
    assert told["acknowledged"] > 60


@pytest.mark.root
@pytest.mark.tool("unshare")
@pytest.mark.tool("nsenter")
@pytest.mark.usefixtures("disks")
def test_a_start_on_a_full_disk_shows_what_is_on_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as (space, inside):
        data = tmp_path / "small" / "data"
        with Served(data, tmp_path, wrap=space) as server:
            run = server.ready().trigger("tiny", 1)
            assert server.result(run) == 4
            nap = server.trigger("nap", 0.5)
            server.kill()
        # What it kept for such a day is gone too.
        (inside / "data" / "RESERVE").unlink()
        (inside / "data" / "wal-next.tmp").unlink(missing_ok=True)
        fill(inside / "filler")
        with Served(data, tmp_path, wrap=space) as server:
            until(lambda: "recovered" in server.said, lambda: server.said)
            assert run in {row["id"] for row in server.get("/runs")["runs"]}
            assert server.result(run) == 4
            assert server.status("/runs/run_AAAAAAAAAAAAAAAAAAAAAA") == 404
            refusal = server.post("/trigger/tiny", 1)
            assert refusal.json()["code"] == "UNAVAILABLE", refusal.text
            assert server.get(f"/runs/{nap}")["status"] == "running"
            (inside / "filler").unlink()
            assert server.result(nap) == 2


@pytest.mark.tool("strace")
@pytest.mark.parametrize("call", ["pwrite64", "rename"])
def test_a_second_start_without_room_comes_up_all_the_same(call: str, tmp_path: Path) -> None:
    with Served(tmp_path / "data", tmp_path) as server:
        run = server.ready().trigger("tiny", 1)
        assert server.result(run) == 4
        server.kill()
    # The first thing that a start writes is whose the directory is.
    fault = f"{call}:error=ENOSPC:when=1"
    with Served(tmp_path / "data", tmp_path, wrap=strace(fault)) as server:
        assert server.ready().result(run) == 4
