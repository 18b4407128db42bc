"""Cut the power between any two disk operations, in any allowed order: nothing promised is lost.

`python -m tests.recovery.order_check [--deep] [--seed N] [--json FILE]`

A trace of some lives of the real engine (order_lives.py) is walked through. After each operation
every disk that a cut may leave there (power_cuts.py) is recovered with the real code:

- it starts, and reads every record that anyone had been told of by then;
- what it reads is what was appended, byte for byte, folded to the same runs: nothing is invented;
- a start on it, cut off behind its first record, and a second recovery say the same;
- with its newest snapshot damaged it still says the same: two restore points exist.

The **deep** form also takes each of those disks and cuts the power again inside the start that
follows, after each of its operations and in any order; and kills the process after each operation
of the trace, so that the start reads what was never synced, and cuts the power inside that.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stepflow.journal.snapshot import snapshot_lsn
from tests.recovery.order_lives import TINY, record_lives
from tests.recovery.power_cuts import DiskModel
from tests.recovery.recovered import Found, recover, recover_disk, start, told_by
from tests.recovery.traced_disk import Image, Op, TracedDisk, disk_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepflow.journal.memory import MemoryDisk
    from tests.recovery.traced_disk import History

__all__ = ["OrderCheck", "Report"]

_CAP: Final = 64
_DEEP_CAP: Final = 12


@dataclass
class Report:
    """What was looked at, and what was wrong."""

    operations: int = 0
    states: int = 0
    """Moment and disk: what a power cut may leave after an operation."""
    recoveries: int = 0
    grouped: int = 0
    """Moments at which files that had been quiet for a while varied all together."""
    capped: int = 0
    """Moments at which some combinations were left out: see power_cuts.py."""
    violations: list[str] = field(default_factory=list[str])


class OrderCheck:
    """One walk through a trace.

    With `first_only` it ends at the first violation, and each disk is only recovered, not started
    on: enough to find a rule that is broken. `look_at` picks the operations behind which to cut.
    """

    def __init__(
        self,
        *,
        deep: bool = False,
        first_only: bool = False,
        cap: int = _CAP,
        look_at: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self.deep = deep
        self.first_only = first_only
        self.look_at = look_at
        self.model = DiskModel(cap=cap)
        self.report = Report()
        self._found: dict[bytes, Found] = {}
        self._fold = cache(self._fold_of)
        self._histories: dict[int, History] = {}

    def run(self, trace: Sequence[Op]) -> Report:
        """Return what was found."""
        for at, op in enumerate(trace):
            self.model.do(op)
            if not self.look_at(at):
                continue
            self.report.operations += 1
            # Whatever was told before the next operation was told on what is on the disk now.
            after = trace[at + 1] if at + 1 < len(trace) else op
            self._look(f"after operation {at}, {op.kind} {op.name}", after)
            if self.first_only and self.report.violations:
                break
        self.report.grouped, self.report.capped = self.model.grouped, self.model.capped
        return self.report

    def _look(self, where: str, now: Op) -> None:
        seen: set[bytes] = set()
        for image in self.model.images():
            key = _key(image)
            if key in seen:
                continue
            seen.add(key)
            self.report.states += 1
            known = self._found.get(key)
            found = known or self._first_look(where, image)
            self._found[key] = found
            self._judge(where, now, found)
            if self.deep and known is None and not found.problem:
                self._cut_again(where, image, found)
        self._restore_points(where)
        if self.deep:
            self._kill(where, now)

    # ------------------------------------------------------------ one disk

    def _first_look(self, where: str, image: Image) -> Found:
        """Recover; then start on it, be cut, and recover again."""
        found = self._recover(disk_of(image))
        if found.problem or self.first_only:
            return found
        disk = disk_of(image)
        first = start(disk, TINY)
        self.report.recoveries += 1
        if (first.problem, first.lsn, first.digest) != ("", found.lsn, found.digest):
            self._wrong(where, f"verify says lsn {found.lsn}, a start {first.lsn} {first.problem}")
        for left in (disk.power_cut(), disk.process_kill()):
            again = self._recover(left)
            # One more record: that of the start.
            if (again.problem, again.lsn, again.digest) != ("", found.lsn + 1, found.digest):
                self._wrong(where, f"then a second one differs: lsn {again.lsn} {again.problem}")
        return found

    def _recover(self, disk: MemoryDisk) -> Found:
        self.report.recoveries += 1
        return recover_disk(disk)

    def _judge(self, where: str, now: Op, found: Found) -> None:
        """Hold what was recovered against what was promised and appended."""
        if found.problem:
            self._wrong(where, found.problem)
        elif found.lsn < now.promised:
            self._wrong(where, f"lsn {now.promised} was acknowledged, {found.lsn} is the last left")
        elif found.lsn > now.appended:
            self._wrong(where, f"lsn {found.lsn} was never appended")
        elif found.digest != self._told(now.history, found.lsn):
            self._wrong(where, f"up to lsn {found.lsn} the runs are not those that were recorded")

    def _told(self, history: History, lsn: int) -> bytes:
        self._histories[history.number] = history
        return self._fold(history.number, min(lsn, max(history.records, default=0)))

    def _fold_of(self, number: int, lsn: int) -> bytes:
        return told_by(self._histories[number].records, lsn)

    def _restore_points(self, where: str) -> None:
        """Damage the newest snapshot: the one before and its journal must do."""
        image = self.model.everything()
        names = [name for name, _ in image if snapshot_lsn(name) is not None]
        sound = self._found.get(_key(image)) or recover(image)
        if not names or sound.problem:
            return
        damaged = tuple(
            (name, data[: len(data) // 2] if name == names[-1] else data) for name, data in image
        )
        found = self._recover(disk_of(damaged))
        if (found.problem, found.lsn, found.digest) != ("", sound.lsn, sound.digest):
            self._wrong(where, f"without {names[-1]}: {found.problem or 'another state'}")

    # ------------------------------------------------------------ a cut inside a start

    def _cut_again(self, where: str, image: Image, found: Found) -> None:
        """Start on the disk and cut the power after each operation of that start."""
        model = DiskModel(cap=_DEEP_CAP)
        model.load(image)
        self._follow_start(f"{where}; in the start after it", TracedDisk(image), model, found)

    def _kill(self, where: str, now: Op) -> None:
        """Kill the process: the start reads what is not synced. Then cut the power in it."""
        names = {name: inode for name, inode in self.model.live_names().items() if inode}
        image = self.model.everything()
        found = self._found.get(_key(image)) or self._recover(disk_of(image))
        if found.problem or not names:
            return
        model = self.model.copy()
        model.cap = _DEEP_CAP
        disk = TracedDisk(image, names)
        self._follow_start(f"{where}; killed, in the start", disk, model, found, now)

    def _follow_start(
        self,
        where: str,
        disk: TracedDisk,
        model: DiskModel,
        found: Found,
        killed: Op | None = None,
    ) -> None:
        """Cut a start after each operation.

        What it found must be left; if it began after a kill, and was not done yet, only what had
        been promised.
        """
        served = start(disk, TINY)
        self.report.recoveries += 1
        if served.problem or served.lsn != found.lsn:
            self._wrong(where, f"lsn {served.lsn}, not {found.lsn} {served.problem}")
            return
        least = killed.promised if killed else found.lsn
        torn = any(line.startswith("SFW101 torn") for line in found.messages)
        for at, op in enumerate(disk.ops):
            model.do(op)
            if at + 1 == len(disk.ops):
                least = found.lsn
            for image in dict.fromkeys(model.images()):
                again = self._recover(disk_of(image))
                self.report.states += 1
                if again.problem or not least <= again.lsn <= found.lsn + 1:
                    text = f"cut at {op.kind} {op.name}: lsn {again.lsn} {again.problem}"
                    self._wrong(where, text)
                elif again.digest != (
                    found.digest
                    if again.lsn >= found.lsn or killed is None
                    else self._told(killed.history, again.lsn)
                ):
                    self._wrong(where, f"cut at {op.kind} {op.name}: another state")
                elif torn and not killed and not _evidence(image, again):
                    self._wrong(where, f"cut at {op.kind} {op.name}: the torn bytes are gone")

    def _wrong(self, where: str, what: str) -> None:
        self.report.violations.append(f"{where}: {what}")


def _evidence(image: Image, found: Found) -> bool:
    """Whether the torn bytes are in their place still, or aside."""
    return any(line.startswith("SFW101") for line in found.messages) or any(
        name.startswith("broken/wal-") for name, _ in image
    )


def _key(image: Image) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name, data in image:
        digest.update(b"%d %d " % (len(name), len(data)))
        digest.update(name.encode())
        digest.update(data)
    return digest.digest()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="order_check")
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    report = OrderCheck(deep=options.deep).run(record_lives(options.seed))
    lines = (
        f"{report.operations} operations, {report.states} disks after a cut",
        f"{report.recoveries} recoveries, {len(report.violations)} violations",
        f"quiet files varied together at {report.grouped} operations",
        f"some combinations were left out at {report.capped}: see power_cuts.py",
        *report.violations[:20],
    )
    print("\n".join(lines))  # noqa: T201  its output
    if options.json:
        options.json.write_text(json.dumps(asdict(report)))
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
