"""No room on the real disk: the server is read-only until there is some, and then goes on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.full import fill_and_empty, refused, taken
from tests.faults.kills import Lives
from tests.faults.ledger import until
from tests.faults.processes import Load

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
@pytest.mark.usefixtures("disks")
def test_a_small_file_system_fills_and_is_emptied_three_times(tmp_path: Path) -> None:
    told = fill_and_empty(tmp_path, 3)
    assert told["acknowledged"] > 60
