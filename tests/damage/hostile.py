"""Records whose frames are right and whose JSON is wrong: every field of every record, spoiled.

A `Case` is one history with one record changed. `must_show` says that no reader may take the change
for something we wrote: the run is set aside, or the record left out.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stepflow.errors import JournalCorruptError
from stepflow.journal.recovery import LeftOutError
from stepflow.journal.system import system_record
from stepflow.model import records as rec
from stepflow.model.run import RunState
from stepflow.runtime.restore import Restorer
from stepflow.testing.clock import START_MS
from tests.engine_kit import Service, service
from tests.journal_kit import handmade

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepflow.journal.memory import MemoryDisk

Groups = tuple[tuple[bytes, ...], ...]

CLASSES: Final = {str(cls.__struct_config__.tag): cls for cls in rec.Record.__subclasses__()}
DEEP: Final = b"[" * 3000 + b"]" * 3000
VERY_DEEP: Final = b"[" * 200_000 + b"]" * 200_000
HOSTILE: Final = (
    b"null",
    b"true",
    b'""',
    b"0",
    b"-1",
    b"9223372036854775807",
    b"18446744073709551616",
    b"9" * 400,
    b"1e308",
    b"1e999",
    b"0.5",
    b"[]",
    b"{}",
    b'{"type":5}',
    b'[{"a":[null]}]',
    b'"\\u0000\\u0007\\u2028"',
    b'"\\ud800"',
    b'"\xff"',
    b'"run_bbbbbbbb"',
    b'"../../etc/passwd"',
    b'"' + b"x" * 100_000 + b'"',
    b"[\n1]",
    DEEP,
    VERY_DEEP,
)
COUNTS: Final = frozenset({"lsn", "rs"})
PLACES: Final = frozenset({"lsn", "rs", "r", "ts", "t"})


@dataclass(frozen=True)
class Case:
    """One spoiled history."""

    name: str
    groups: Groups
    lsn: int
    """Of the record that was changed."""
    must_show: bool


class Folded:
    """What a history folds into: lines by run, what was said, whether it was refused."""

    def __init__(self, groups: Groups) -> None:
        restorer = Restorer()
        self.said: list[str] = []
        self.left: list[bytes] = []
        self.refused = ""
        for group, original in zip(groups, history(), strict=True):
            for data, was in zip(group, original, strict=True):
                try:
                    restorer.on_record(lsn_of(was), data)
                except LeftOutError as error:
                    self.left.append(data)
                    self.said.append(str(error))
                except JournalCorruptError as error:
                    self.refused = error.code
                    return
        self.said += restorer.messages
        self.lines = {found.state.id: found.state.pack() for found in restorer.runs()}
        self.failures = {found.state.id: found.failure for found in restorer.runs()}


@cache
def baseline() -> Folded:
    """Return what the unchanged history folds into."""
    return Folded(history())


def check(case: Case) -> None:
    """Fold the case; nothing may crash, be silent, or touch another run."""
    whole, folded = baseline(), Folded(case.groups)
    assert folded.refused in {"", "SFW302"}, case.name
    if folded.refused:
        return
    touched = reach(case.lsn)
    for run_id, line in whole.lines.items():
        if run_id not in touched:
            assert folded.lines[run_id] == line, (case.name, run_id)
    if case.must_show:
        assert any(text.startswith("SFW4") for text in folded.said), case.name
    for run_id, line in folded.lines.items():
        # Who is set aside stays so when a snapshot is all that is left.
        assert b"\n" not in line
        again = RunState.unpack(line)
        assert again.pack() == line, (case.name, run_id)
        assert again.failure == folded.failures[run_id], (case.name, run_id)


@cache
def reach(lsn: int) -> set[str]:
    """Return the runs that a record of that LSN may bear upon: its own, an event's takers."""
    own = next(run_of(data) for _, _, at, data in rows() if at == lsn)
    taken = {run_of(data) for _, _, _, data in rows() if b'"payload":%d' % lsn in data}
    return {own, *taken}


@cache
def history() -> Groups:
    """Return the records of a service with all sorts of runs."""

    async def live() -> Groups:
        async with service() as world:
            await _work(world)
            return tuple(map(tuple, world.life.groups))

    # In a thread of its own: whoever asks may have a loop already.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(live())).result()


async def _work(world: Service) -> None:
    ids = {
        name: await world.trigger(workflow, value, run_id=f"run_{name:a<12}")
        for name, workflow, value in (
            ("kept", "declares", {"id": 1, "count": 2}),
            ("both", "both", "kept-1"),
            ("parent", "parent", "child"),
            ("fails", "fails", None),
            ("tries", "retries", None),
            ("doubles", "doubles", 2),
            ("sleeps", "sleeps", 0.01),
            ("asleep", "sleeps", 500_000),
            ("over", "sleeps", 500_000),
            ("purged", "echo", 1),
        )
    }
    await world.settle()
    await world.engine.notify("kept-1", b'"one"')
    await world.engine.notify("kept-1", b'"two"')
    await world.engine.notify("child", b'"c"')
    await world.engine.cancel(ids["over"], reason="no longer needed")
    for name in ("both", "parent", "fails", "doubles", "sleeps", "over", "purged"):
        await world.finished(ids[name])
    await world.engine.purge(ids["purged"])
    await world.trigger("waits", "never", run_id="run_bystander")
    await world.settle()


@cache
def rows() -> list[tuple[int, int, int, bytes]]:
    """Return group, place in it, LSN and bytes of each record."""
    found: list[tuple[int, int, int, bytes]] = []
    for number, group in enumerate(history()):
        for place, data in enumerate(group):
            found.append((number, place, lsn_of(data), data))
    return found


def lsn_of(data: bytes) -> int:
    lsn: int = msgspec.json.decode(data)["lsn"]
    return lsn


def run_of(data: bytes) -> str:
    run_id: str = msgspec.json.decode(data)["r"]
    return run_id


def changed(number: int, place: int, data: bytes) -> Groups:
    """Return the history with one record replaced."""
    groups = [list(group) for group in history()]
    groups[number][place] = data
    return tuple(map(tuple, groups))


def cases() -> Iterator[Case]:
    """Yield every case, in an order that does not change."""
    for number, place, lsn, data in rows():
        members = _members(data)
        for name in members:
            for value in HOSTILE:
                if value == members[name]:
                    continue
                spoiled = _join({**members, name: value})
                yield Case(
                    f"lsn {lsn}: {name} = {value[:24]!r}",
                    changed(number, place, spoiled),
                    lsn,
                    _is_wrong(data, name, value),
                )
            without = {key: value for key, value in members.items() if key != name}
            yield Case(
                f"lsn {lsn}: no {name}",
                changed(number, place, _join(without)),
                lsn,
                name in PLACES or _is_required(data, name),
            )
        for tag in CLASSES:
            if tag != _tag(data):
                retyped = _join({**members, "t": json.dumps(tag).encode()})
                yield Case(f"lsn {lsn}: is {tag}", changed(number, place, retyped), lsn, False)
        for text in (b"", b"{", b"null", b"[]", b"\x00" * 40, data[:-1], data + b"}", b"\xff" * 9):
            yield Case(f"lsn {lsn}: {text[:9]!r}", changed(number, place, text), lsn, True)


def disk_with(groups: Sequence[Sequence[bytes]]) -> MemoryDisk:
    """Return a disk whose journal holds these records at the LSNs that the history had."""
    made = handmade(size=256 * 1024)
    for group, original in zip(groups, history(), strict=True):
        while made.next_lsn < lsn_of(original[0]):
            made.add_records([system_record("open", made.next_lsn, START_MS)])
        made.add_records(group)
    disk: Any = made.disk
    found: MemoryDisk = disk
    return found


def _members(data: bytes) -> dict[str, bytes]:
    raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return {name: bytes(value) for name, value in raw.items()}


def _join(members: dict[str, bytes]) -> bytes:
    pairs = (json.dumps(name).encode() + b":" + value for name, value in members.items())
    return b"{" + b",".join(pairs) + b"}"


def _tag(data: bytes) -> str:
    tag: str = msgspec.json.decode(data)["t"]
    return tag


def _field(data: bytes, name: str) -> msgspec.inspect.Field | None:
    info = msgspec.inspect.type_info(CLASSES[_tag(data)])
    assert isinstance(info, msgspec.inspect.StructType)
    return next((field for field in info.fields if field.encode_name == name), None)


def _is_required(data: bytes, name: str) -> bool:
    field = _field(data, name)
    return field is not None and field.required


def _is_wrong(data: bytes, name: str, value: bytes) -> bool:
    """Say whether no reader may take `value` for what that member of the record can be."""
    if name in COUNTS:
        return True
    field = _field(data, name)
    if field is None or b"\n" in value:
        return name != "t"
    if isinstance(field.type, msgspec.inspect.RawType):
        return False
    try:
        msgspec.convert(msgspec.json.decode(value), _annotation(data, name))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return True
    return False


def _annotation(data: bytes, name: str) -> Any:
    return {field.name: field.type for field in msgspec.structs.fields(CLASSES[_tag(data)])}[name]
