"""Snapshots written by hand: whole by their checksums, whatever their lines say."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterable

FOOT = b'{"k":"foot","lines":%d,"bytes":%d,"end_lsn":%d,"sha256":"%s"}\n'


def head(base: int, store_id: int = 7) -> bytes:
    """Return a first line."""
    return b'{"k":"head","fmt":1,"min_reader":1,"store":"%016x","base":%d,"created":0}\n' % (
        store_id,
        base,
    )


def snapshot(first: bytes, rows: Iterable[tuple[int, bytes]]) -> bytes:
    """Return a whole snapshot, as the specification of the format says it is made."""
    lines = [(lsn, b'{"k":"row","lsn":%d,"v":%s}\n' % (lsn, value)) for lsn, value in rows]
    body = first + b"".join(line for _, line in lines)
    body += b'{"k":"sum","n":%d,"crc":%d}\n' % (len(lines), crc32(body))
    end_lsn = max((lsn for lsn, _ in lines), default=0)
    digest = hashlib.sha256(body).hexdigest().encode()
    return body + FOOT % (len(lines), len(body), end_lsn, digest)


def rows_of(text: bytes) -> list[tuple[int, bytes]]:
    """Return the lines of a snapshot with the LSN that each includes."""
    rows: list[tuple[int, bytes]] = []
    for line in text.splitlines():
        if line.startswith(b'{"k":"row","lsn":'):
            lsn, _, value = line.removeprefix(b'{"k":"row","lsn":').partition(b',"v":')
            rows.append((int(lsn), value[:-1]))
    return rows


def with_head(text: bytes, old: bytes, new: bytes) -> bytes:
    """Return the snapshot with a changed first line and right checksums."""
    first = text.partition(b"\n")[0] + b"\n"
    assert old in first
    return snapshot(first.replace(old, new), rows_of(text))
