"""Lines of a whole snapshot that make no sense are said; their run alone suffers for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stepflow.errors import JournalCorruptError
from stepflow.journal.memory import MemoryDisk
from stepflow.journal.recovery import BROKEN, LeftOutError
from stepflow.journal.snapshot import snapshot_lsn, snapshot_name, verify_snapshot
from stepflow.model.run import RunState
from stepflow.runtime.restore import Restorer
from tests.damage.damage_kit import disk_of, files_of
from tests.damage.hostile import HOSTILE, baseline, lsn_of
from tests.damage.snapshot_text import head, rows_of, snapshot
from tests.engine_kit import ALL, Service
from tests.journal_kit import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = b'{"t":"run.started","lsn":1,"r":"run_foreigner","rs":1,"ts":1,"workflow":"w","input":1}'


def members(line: bytes) -> dict[str, bytes]:
    raw = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in raw.items()}


def joined(parts: dict[str, bytes]) -> bytes:
    pairs = (json.dumps(name).encode() + b":" + value for name, value in parts.items())
    return b"{" + b",".join(pairs) + b"}"


def spoiled_lines(line: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield lines that are like this one but for something that makes no sense."""
    parts = members(line)
    records: list[bytes] = [
        bytes(r) for r in msgspec.json.decode(parts["records"], type=list[msgspec.Raw])
    ]
    for name in ("id", "lsn", "records", "payloads", "misfits"):
        for value in HOSTILE:
            if b"\n" not in value and value not in {b"[]", b"{}"}:
                yield f"{name}={value[:20]!r}", joined({**parts, name: value})
        if name in parts:
            yield f"no {name}", joined({k: v for k, v in parts.items() if k != name})
    for order in (records[1:], records[:-1], [*records, records[-1]], records[::-1], []):
        yield "other records", joined({**parts, "records": b"[" + b",".join(order) + b"]"})
    for other in (FOREIGN, b"{}", b"null", b'{"t":"later"}', b'"\xff"'):
        several = b",".join([*records, other])
        yield f"with {other[:20]!r}", joined({**parts, "records": b"[" + several + b"]"})
    for text in (b"", b"{", b"[]", b"null", line[:-1], line + b"}", b"\xff\xfe", b'{"k":"run"}'):
        yield f"{text[:10]!r}", text


def take(lines: list[tuple[int, bytes]]) -> tuple[Restorer, list[str]]:
    restorer = Restorer()
    said: list[str] = []
    for lsn, line in lines:
        try:
            restorer.on_line(lsn, line)
        except LeftOutError as error:
            said.append(str(error))
    return restorer, [*said, *restorer.messages]


@pytest.mark.parametrize("run_id", sorted(baseline().lines)[::2])
def test_a_line_that_makes_no_sense_is_said_and_touches_no_other(run_id: str) -> None:
    whole = {name: (lsn_of(line), line) for name, line in baseline().lines.items()}
    own_lsn, own = whole[run_id]
    for name, line in spoiled_lines(own):
        lines = [(own_lsn, line) if n == run_id else row for n, row in whole.items()]
        restorer, said = take(lines)
        assert said, (run_id, name)
        assert all(text.startswith("SFW40") for text in said), (name, said)
        found = {row.state.id: row.state for row in restorer.runs()}
        for other, (_, packed) in whole.items():
            if other != run_id:
                assert found[other].pack() == packed, (run_id, name, other)
        if run_id in found:
            # Set aside, and so it stays.
            assert found[run_id].failure
            assert RunState.unpack(found[run_id].pack()).failure == found[run_id].failure


def test_of_two_lines_of_a_run_the_longer_is_used_and_it_is_said() -> None:
    run_id, line = next(iter(baseline().lines.items()))
    lsn = lsn_of(line)
    short = RunState(run_id)
    parts = msgspec.json.decode(line, type=dict[str, Any])
    first = msgspec.json.encode(parts["records"][0])
    short.fold_data(first, lambda _: None)
    for lines in (
        [(lsn, line), (short.lsn, short.pack())],
        [(short.lsn, short.pack()), (lsn, line)],
    ):
        restorer, said = take(lines)
        assert said == [
            f"SFW403 the snapshot has two lines of run {run_id}; the longer is used; it is left out"
        ]
        (found,) = restorer.runs()
        assert found.state.pack() == line


def test_a_record_in_a_line_that_must_be_understood_refuses_the_start() -> None:
    run_id, line = next(iter(baseline().lines.items()))
    critical = b'{"t":"later","crit":true,"lsn":99,"r":"%b","rs":9,"ts":1}' % run_id.encode()
    parts = members(line)
    with pytest.raises(JournalCorruptError, match="SFW302"):
        Restorer().on_line(
            lsn_of(line),
            joined({**parts, "records": parts["records"][:-1] + b"," + critical + b"]"}),
        )


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b"null",
        b'{"k":"run"}',
        b'{"k":"run","id":"run_bystander","lsn":3,"records":[]}',
        b'"',
    ],
)
async def test_a_whole_snapshot_with_a_line_that_makes_no_sense_starts(value: bytes) -> None:
    world = Service()
    with world.clock.driving():
        await world.start()
        kept = await world.trigger("waits", "go", run_id="run_bystander")
        await world.trigger("waits", "go", run_id="run_spoiledaaaa")
        await world.waiting("run_spoiledaaaa")
        assert await world.engine.snapshot()
        await world.stop()
    files = files_of(world.disk)
    (name,) = [n for n in files if snapshot_lsn(n) is not None]
    rows = rows_of(files[name])
    base = snapshot_lsn(name) or 0
    store_id = verify_snapshot(world.disk, name).store_id
    rows = [(lsn, value if b"run_spoiledaaaa" in line else line) for lsn, line in rows]
    disk = disk_of(files)
    write_file(disk, name, snapshot(head(base, store_id), rows))
    assert verify_snapshot(disk, name).lines == len(rows)
    world = Service(disk=disk, seed=1)
    with world.clock.driving():
        await world.start()
        try:
            assert world.engine.recovery is not None
            (said,) = [m for m in world.engine.recovery.messages if m.startswith("SFW")]
            assert said.startswith("SFW403")
            page = await world.engine.list_runs(ALL, limit=10, cursor=None)
            assert [run.id for run in page.runs] == [kept]
            await world.engine.notify("go", b"1")
            assert (await world.finished(kept)).status == "completed"
            (copy,) = disk.listdir(BROKEN)
            assert disk.read(f"{BROKEN}/{copy}") == value + b"\n"
        finally:
            await world.stop()


def test_the_snapshots_written_by_hand_are_what_the_code_writes() -> None:
    disk = MemoryDisk()
    write_file(disk, snapshot_name(5), snapshot(head(5), [(4, b"1"), (9, b'{"a":2}')]))
    info = verify_snapshot(disk, snapshot_name(5))
    assert (info.base_lsn, info.end_lsn, info.lines, info.store_id) == (5, 9, 2, 7)
