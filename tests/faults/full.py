"""A real server's disk is filled and emptied again."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.kills import Lives
from tests.faults.ledger import until
from tests.faults.processes import Load, Served
from tests.served import doomed, end_group

if TYPE_CHECKING:
    import random
    from collections.abc import Generator

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


@contextlib.contextmanager
def small_disk(mount: Path) -> Generator[tuple[list[str], Path]]:
    """Yield the words that run a command where `mount` is four mebibytes, and its way from outside.

    The file system lives in a name space of its own for as long as its keeper.
    """
    mount.mkdir()
    script = 'mount -t tmpfs -o size=4m,mode=700 stepflow-faults "$0" && exec sleep 3600'
    keeper = subprocess.Popen(
        doomed(["unshare", "--mount", "--", "sh", "-c", script, str(mount)]),
        start_new_session=True,
    )
    try:
        mounts = Path(f"/proc/{keeper.pid}/mountinfo")
        until(lambda: str(mount) in mounts.read_text())
        words = ["nsenter", f"--target={keeper.pid}", "--mount", "--"]
        yield words, Path(f"/proc/{keeper.pid}/root{mount}")
    finally:
        end_group(keeper)


def fill_and_empty(folder: Path, times: int, rng: random.Random) -> dict[str, int]:
    """Fill a server's small file system under load, and empty it again; needs root.

    Now and then the server is killed while it is full, and must start on it, to read only.
    """
    with small_disk(folder / "small") as (space, inside), Load(folder, hands=3) as load:
        lives = Lives(folder, load, wrap=space, data=folder / "small" / "data")
        server = lives.begin()
        try:
            server.ready()
            for number in range(times):
                load.more(20, server)
                load.pause()
                filler = inside / f"filler-{number}"
                refusals: list[httpx.Response] = []
                while not refused(server, refusals):
                    fill(filler)
                if rng.random() < 0.5:
                    server.kill()
                    lives.over(server)
                    server = lives.begin()
                    _reads(server)
                assert server.alive, server.said
                filler.unlink()
                _goes_on(server)
                load.resume()
            server.kill()
            lives.over(server)
        finally:
            server.close()
        return lives.judge() | {"cases": times}


def _reads(server: Served) -> None:
    """Full as the disk is, what is on it can be read."""
    until(lambda: server.status("/runs") == 200 or not server.alive, lambda: server.said)
    assert server.alive, server.said


def _goes_on(server: Served) -> None:
    """With room it goes on by itself."""
    until(lambda: taken(server), lambda: server.said)
    server.tell()


def fill(filler: Path) -> None:
    """Leave no room."""
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
