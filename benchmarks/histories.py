"""A data directory with a long journal, written by the real journal from records as they are.

Running a million runs to have their records takes minutes; their records are known. `mixed`: half
of the runs have ended after one step, four records each; half wait for an event of their own with
a timeout, two records each. `waiting`: all are runs of `addressee`, with a step and such a wait,
four records each. They are interleaved as a busy service's are, and there is no snapshot.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.journal.api import open_journal
from stepflow.model import records as rec
from stepflow.model.ids import run_ids_of
from stepflow.model.records import Record, encode_record

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOGETHER: Final = 500
"""So many runs are under way at a time."""
_MONTH_MS: Final = 30 * 86_400_000


Life = Callable[[str, int, int], "list[Record]"]


def mixed(run_id: str, n: int, ts: int) -> list[Record]:
    return _waits(run_id, n, ts) if n % 2 else _ended(run_id, n, ts)


def waiting(run_id: str, n: int, ts: int) -> list[Record]:
    started, waits = _waits(run_id, n, ts)
    return [started, *_step(run_id, n, ts), msgspec.structs.replace(waits, rs=4)]


def batches(life: Life, runs: int, lsn: int, now_ms: int) -> Iterator[list[bytes]]:
    """Yield the records of so many runs in frames; they follow `lsn`."""
    ids = _ids(runs)
    for begin in range(0, runs, _TOGETHER):
        numbers = range(begin, min(begin + _TOGETHER, runs))
        lives = [life(next(ids), n, now_ms) for n in numbers]
        for turn in range(4):
            frame: list[bytes] = []
            for records in lives:
                if turn < len(records):
                    lsn += 1
                    frame.append(_at(records[turn], lsn))
            yield frame


def _at(record: Record, lsn: int) -> bytes:
    data = encode_record(record)
    return data.replace(b'"lsn":0', b'"lsn":%d' % lsn, 1)


def _ids(seed: int) -> Iterator[str]:
    entropy = random.Random(seed)
    while True:
        yield from run_ids_of(entropy.randbytes(4096))


def _ended(run_id: str, n: int, ts: int) -> list[Record]:
    return [
        rec.RunStarted(
            lsn=0, r=run_id, rs=1, ts=ts, workflow="one-step", input=Raw(b'{"to":"%d"}' % n)
        ),
        *_step(run_id, n, ts),
        rec.RunCompleted(lsn=0, r=run_id, rs=4, ts=ts, result=Raw(b'{"ok":true,"what":"%d"}' % n)),
    ]


def _step(run_id: str, n: int, ts: int) -> list[Record]:
    return [
        rec.StepStarted(
            lsn=0,
            r=run_id,
            rs=2,
            ts=ts,
            key="first#1",
            name="first",
            fn="small",
            args="0011223344556677",
            solo=True,
        ),
        rec.StepCompleted(
            lsn=0, r=run_id, rs=3, ts=ts, key="first#1", result=Raw(b'{"ok":true,"what":"%d"}' % n)
        ),
    ]


def _waits(run_id: str, n: int, ts: int) -> list[Record]:
    event = f"letter-{n}"
    return [
        rec.RunStarted(
            lsn=0,
            r=run_id,
            rs=1,
            ts=ts,
            workflow="addressee",
            input=Raw(b'{"to":"%d"}' % n),
            events=(event,),
        ),
        rec.WaitStarted(
            lsn=0,
            r=run_id,
            rs=2,
            ts=ts,
            key="letter#1",
            name="letter",
            event=event,
            due=ts + _MONTH_MS + n,
            solo=True,
        ),
    ]


LIVES: Final[dict[str, Life]] = {"mixed": mixed, "waiting": waiting}


async def write(directory: str, life: Life, runs: int) -> int:
    """Write a journal of so many runs, end without a clean stop, and return its last LSN."""
    clock = SystemClock()
    journal, _ = await open_journal(
        directory,
        settings=Settings(snapshot_wal_bytes=2**62, snapshot_interval_s=1e9),
        clock=clock,
        on_line=_ignore,
        on_record=_ignore,
    )
    for number, frame in enumerate(batches(life, runs, journal.last_lsn, clock.wall_ms())):
        journal.append(frame, strict=True)
        if number % 16 == 0:
            await journal.durable(journal.last_lsn)
    await journal.durable(journal.last_lsn)
    last = journal.last_lsn
    await journal.close(clean=False)
    return last


def _ignore(_lsn: int, _data: bytes) -> None:
    return


if __name__ == "__main__":
    print(asyncio.run(write(sys.argv[1], LIVES[sys.argv[2]], int(sys.argv[3]))))
