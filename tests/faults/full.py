"""A real server's disk is filled and emptied again."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.ledger import Ledger, check, until
from tests.faults.processes import Load, Served

if TYPE_CHECKING:
    import httpx

_BLOB: Final = 8_000


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


def fill_and_empty(folder: Path, times: int) -> dict[str, int]:
    """Fill a server's file system of a mebibyte, and empty it again, under load. Needs root."""
    mount = folder / "small"
    mount.mkdir()
    script = 'mount -t tmpfs -o size=1m,mode=700 stepflow-faults "$0" && exec "$@"'
    space = ["unshare", "--mount", "--", "sh", "-c", script, str(mount)]
    with (
        Load(folder, hands=3) as load,
        Served(mount / "data", folder, wrap=space, url_file=load.url_file) as server,
    ):
        server.ready()
        # The mount is seen through the process alone.
        inside = Path(f"/proc/{server.pid}/root{mount}")
        for number in range(times):
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
        shutil.copytree(inside / "data", folder / "copy")
    _judge(folder, ledger)
    return {"cases": times, "acknowledged": ledger.acknowledged, "lost": 0}


def _fill(filler: Path) -> None:
    """Leave no room."""
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def _judge(folder: Path, ledger: Ledger) -> None:
    with Served(folder / "copy", folder) as server:
        faults = check(ledger, server.ready().url)
    assert not faults, faults[:10]
