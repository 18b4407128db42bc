"""No room on the real disk: the server is read-only until there is some, and then goes on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.kills import Lives
from tests.faults.ledger import Ledger, check, until
from tests.faults.processes import Load, Served

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.timeout(400)

_BLOB = 8_000


def refused(server: Served, seen: list[httpx.Response]) -> bool:
    """Fill the disk with runs until one is refused; keep that answer."""
    answer = server.post("/trigger/big", _BLOB)
    assert answer.status_code in {200, 503}, answer.text
    if answer.status_code == 503:
        seen.append(answer)
    return bool(seen)


def taken(server: Served) -> bool:
    """Say whether a run can be started."""
    return server.post("/trigger/tiny", 1).status_code == 200


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
    mount = tmp_path / "small"
    mount.mkdir()
    script = 'mount -t tmpfs -o size=1m,mode=700 stepflow-faults "$0" && exec "$@"'
    space = ["unshare", "--mount", "--", "sh", "-c", script, str(mount)]
    with (
        Load(tmp_path, hands=3) as load,
        Served(mount / "data", tmp_path, wrap=space, url_file=load.url_file) as server,
    ):
        server.ready()
        # The mount is seen through the process alone.
        inside = Path(f"/proc/{server.pid}/root{mount}")
        for number in range(3):
            load.more(20, server)
            load.pause()
            filler = inside / f"filler-{number}"
            refusals: list[httpx.Response] = []
            while not refused(server, refusals):
                _fill(filler)
            assert server.alive, server.said
            filler.unlink()
            until(lambda: taken(server), lambda: server.said)
            load.resume()
        ledger = load.stop()
        # Stopped, not killed: the file system would go with it.
        server.signal(signal.SIGSTOP)
        shutil.copytree(inside / "data", tmp_path / "copy")
    _judge(tmp_path, ledger)


def _fill(filler: Path) -> None:
    """Leave no room."""
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def _judge(folder: Path, ledger: Ledger) -> None:
    with Served(folder / "copy", folder) as server:
        faults = check(ledger, server.ready().url)
    assert not faults, faults[:10]
