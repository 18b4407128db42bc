"""Whole file systems that lose their power under a real server: `python -m tests.faults.power …`.

Run by `cut_power` in a mount and pid name space of its own, so that all mounts, loop devices,
images and processes vanish with it. The ways to cut:

- `clone`: an ext4 image lies on an XFS that can share blocks, and is cloned while the server works
  on: the clone is what a disk without power would hold. The load never stops.
- `shutdown`: the file system itself is told to stop without writing its log. The server sees an
  error on every call and must end with 74.

- `seen`: a server is killed between a write and its sync, the next one shows what it read, and
  only then the disk is cloned: what was shown must be in the clone.

A cut is judged by the ledger as it was read before it. The recovered copy is then served and asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.faults.ledger import Ledger, check, known_runs
from tests.faults.processes import ROOT, Load, Served, strace
from tests.served import doomed, end_group

if TYPE_CHECKING:
    from collections.abc import Generator

_FICLONE: Final = 0x40049409
_SHUTDOWN: Final = 0x8004587D
_WITHOUT_LOG: Final = 2
_DISK_MIB: Final = 96
_XFS_MIB: Final = 4096
"""Sparse: mkfs wants so much, the blocks in use are few."""
_SPACE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_MKFS: Final = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
_XFS_MIN_MIB: Final = 320
CLONES_MAX: Final = 12
"""Of one life: its directory grows, and so does every recovery of it."""
DISK_FAILED: Final = 74


def why_no_power() -> str:
    """Return why no file system can be cut here; `platform:` where no root could."""
    if not Path("/dev/loop-control").exists():
        return "platform: the kernel has no loop devices"
    known = Path("/proc/filesystems").read_text().split()
    if lacking := [kind for kind in _MKFS if kind not in known and not _modprobe(kind)]:
        return f"platform: the kernel has no {' and no '.join(lacking)}"
    space = subprocess.run([*_SPACE, "true"], check=False, capture_output=True, timeout=60)
    if space.returncode:
        return f"platform: no mount name space for us: {space.stderr.decode().strip()}"
    return ""


def _modprobe(kind: str) -> bool:
    modprobe = shutil.which("modprobe")
    if modprobe is None:
        return False
    return not subprocess.run([modprobe, "-q", kind], check=False, timeout=60).returncode


def cut_power(
    folder: Path, way: str, cuts: int, seed: int, *, unsafe: str = "", within_s: float = 280
) -> dict[str, int]:
    """Cut so often in a name space of its own; return the figures. Needs root.

    `folder` is where the images are mounted, its name is part of theirs.
    """
    words = [sys.executable, "-m", "tests.faults.power", str(folder), way, str(cuts), str(seed)]
    said = folder / "power.txt"
    with said.open("wb") as file:
        process = subprocess.Popen(
            doomed([*_SPACE, *words]),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "UNSAFE": unsafe},
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=within_s)
        finally:
            end_group(process)
    assert process.returncode == 0, said.read_text()
    told: dict[str, int] = json.loads(out)
    return told


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{words}: {done.stderr}"


def make_disk(image: Path, kind: str, mib: int) -> None:
    """Make an empty file system in a sparse file."""
    with image.open("wb") as file:
        file.truncate(mib * 1024 * 1024)
    _run(*_MKFS[kind], str(image))


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Generator[Path]:
    """Mount the image on a loop device that goes with the mount."""
    at.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", str(image), str(at))
    try:
        yield at
    finally:
        _run("umount", "--lazy", str(at))


def clone(source: Path, target: Path) -> None:
    """Copy a file as it is at this moment, without copying a byte."""
    with source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())


def shut_down(mount: Path) -> None:
    """Stop the file system of `mount` where it stands; what it has not written is gone."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
    finally:
        os.close(descriptor)


def image_token(folder: Path) -> str:
    """Return a name for images that says whose they are: only names are seen from outside."""
    return "-".join(folder.parts[1:][-3:])


class BrokenPromiseError(AssertionError):
    """The faults that a cut brought to light."""


class Power:
    """Cuts, with the figures of all of them."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder = folder
        self.token = image_token(folder)
        self.rng = rng
        self.cuts = 0
        self.acknowledged = 0
        self.faults: list[str] = []

    def clones(self, cuts: int) -> None:
        """Cut one live server's disk so often by cloning it."""
        xfs = self.folder / "big.img"
        make_disk(xfs, "xfs", _XFS_MIB)
        with mounted(xfs, self.folder / "big") as big:
            disk = big / f"{self.token}.img"
            while self.cuts < cuts:
                disk.unlink(missing_ok=True)
                make_disk(disk, "ext4", _DISK_MIB)
                with mounted(disk, self.folder / "live") as live:
                    self._life(disk, live, min(CLONES_MAX, cuts - self.cuts))

    def _life(self, disk: Path, live: Path, cuts: int) -> None:
        with contextlib.ExitStack() as stack:
            folder = self._folder("life")
            load = stack.enter_context(Load(folder, seed=self.rng.randrange(10**6)))
            server = stack.enter_context(
                Served(live / "data", folder, url_file=load.url_file)
            ).ready()
            ledger = Ledger()
            for _ in range(cuts):
                ledger = load.more(self.rng.randint(100, 800), server)
                assert server.alive, server.said
                copy = disk.with_name(f"{self.token}-cut.img")
                clone(disk, copy)
                self.cuts += 1
                load.pause()
                with mounted(copy, self.folder / "cut") as cut:
                    self.judge(cut, ledger)
                load.resume()
                copy.unlink()
            load.stop()
            # Each promise once, though every later cut was asked for it too.
            self.acknowledged += ledger.acknowledged

    def seen(self, cuts: int) -> None:
        """Kill before a sync, look at what the next start shows, then cut; so often."""
        xfs = self.folder / "big.img"
        make_disk(xfs, "xfs", _XFS_MIB)
        with mounted(xfs, self.folder / "big") as big:
            disk = big / f"{self.token}.img"
            copy = disk.with_name(f"{self.token}-cut.img")
            for _ in range(cuts):
                self.cuts += 1
                disk.unlink(missing_ok=True)
                make_disk(disk, "ext4", _DISK_MIB)
                with mounted(disk, self.folder / "live") as live:
                    ledger = self._kill_and_look(live, disk, copy)
                with mounted(copy, self.folder / "cut") as cut:
                    self.judge(cut, ledger)
                copy.unlink()

    def _kill_and_look(self, live: Path, disk: Path, copy: Path) -> Ledger:
        folder = self._folder(f"life-{self.cuts:04d}")
        unsynced = strace(f"fdatasync:signal=KILL:when={self.rng.randint(5, 25)}")
        with Load(folder, seed=self.rng.randrange(10**6)) as load:
            with Served(live / "data", folder, wrap=unsynced, url_file=load.url_file) as server:
                server.ready()
                server.ended()
            load.pause()
            ledger = load.ledger()
        self.acknowledged += ledger.acknowledged
        with Served(live / "data", folder) as server:
            ledger.known = known_runs(server.ready().url)
            clone(disk, copy)
        return ledger

    def shutdowns(self, kind: str, cuts: int) -> None:
        """Cut a server's file system so often, and go on from what is left."""
        image = self.folder / f"{kind}.img"
        make_disk(image, kind, _DISK_MIB if kind == "ext4" else _XFS_MIN_MIB)
        folder = self._folder("life")
        with Load(folder, seed=self.rng.randrange(10**6)) as load:
            for _ in range(cuts):
                self.cuts += 1
                with mounted(image, self.folder / "live") as live:
                    ledger = self._serve_and_shut_down(live, folder, load)
                # Asking changes what is there, so it is done on a copy.
                copy = self.folder / f"{kind}-cut.img"
                load.pause()
                _run("cp", "--sparse=always", str(image), str(copy))
                with mounted(copy, self.folder / "cut") as cut:
                    self.judge(cut, ledger)
                copy.unlink()
                load.resume()
            load.stop()
        self.acknowledged += load.ledger().acknowledged

    def _serve_and_shut_down(self, live: Path, folder: Path, load: Load) -> Ledger:
        with Served(live / "data", folder, url_file=load.url_file) as server:
            load.more(self.rng.randint(50, 300), server.ready())
            ledger = load.ledger()
            shut_down(live)
            status = server.ended()
            if status != DISK_FAILED:
                self.faults.append(f"cut {self.cuts}: ended with {status}: {server.said}")
        return ledger

    def judge(self, mount: Path, ledger: Ledger) -> None:
        """Serve what the cut has left and ask for all that was promised before."""
        folder = self._folder(f"cut-{self.cuts:04d}")
        with Served(mount / "data", folder) as server:
            try:
                found = check(ledger, server.ready().url)
            except AssertionError as error:
                found = [str(error)]
            found += ledger.run_again(folder / "steps.log")
            self.faults += [f"cut {self.cuts}: {fault}" for fault in found]
        if self.faults:
            raise BrokenPromiseError(self.faults)

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder


def main() -> int:
    """Cut as the command line says; print the figures, exit with 1 when a promise was broken."""
    folder, way, cuts, seed = sys.argv[1:]
    # In memory, so that the images go with the name space too.
    _run("mount", "-t", "tmpfs", "-o", "size=2g,mode=700", "stepflow-faults", folder)
    power = Power(Path(folder), random.Random(int(seed)))
    try:
        match way:
            case "clone":
                power.clones(int(cuts))
            case "seen":
                power.seen(int(cuts))
            case kind:
                power.shutdowns(kind, int(cuts))
    except BrokenPromiseError:
        sys.stderr.write("\n".join(power.faults[:20]))
        return 1
    figures = {"block_cuts": power.cuts, "acknowledged": power.acknowledged, "lost": 0}
    sys.stdout.write(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
