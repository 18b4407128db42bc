r"""PURE. One group commit as bytes, and the verdict on bytes that are not one.

A frame is all or nothing: what was appended together is read together or not at all::

    header, 32 bytes, little endian
      0  magic      "SFB1"
      4  body_bytes u32   length of the records part
      8  records    u32   how many
     12  pad        u32   1 to 32 newlines after the records
     16  first_lsn  u64   LSN of the first record; the others follow without a gap
     24  head_crc   u32   crc32 of bytes 0 to 23: the length can be trusted
     28  crc        u32   crc32 of bytes 0 to 27, the records and the pad, seeded with the crc of
                          the frame before: a stale, doubled, moved or missing frame cannot pass
    records         each: length u32, then that many bytes of JSON
    pad             "\n" up to a multiple of 32 bytes

Four rules make "torn by a power cut" and "damaged later" two different things:

1. A batch is one frame, and the next is written only after the sync of the one before. So a good
   header behind a bad frame proves that the bad one was on disk once.
2. The header has its own checksum.
3. Frames start at multiples of 32, so a header never lies across two sectors, and each sector that
   a frame touches has at least 32 of its bytes.
4. JSON has no NUL, and the pad is never empty: a frame's last byte is never NUL, no sector's share
   of a frame is all NUL, and no record can contain what looks like a header.

By the first rule nothing but zeros can lie behind a torn frame: whatever else does was written when
the frame was on disk already, be its own header readable or not. A sector is written as a whole, so
a header of zeros is a header that was not written only where its whole sector is.

What stays undecidable is the last sector of all, or one of the very last frame, that rots to all
zeros. A clean stop leaves less of that: its frame is longer than a sector, so only a frame that
begins where such a sector begins can be taken for a part of it.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ALIGN",
    "FRAME_OVERHEAD",
    "HEADER_BYTES",
    "RECORD_OVERHEAD",
    "SECTOR",
    "BadFrame",
    "Frame",
    "Verdict",
    "encode_frame",
    "frame_records",
    "is_zero",
    "judge",
    "read_frame",
]

MAGIC: Final = b"SFB1"
ALIGN: Final = 32
SECTOR: Final = 512
HEADER_BYTES: Final = 32
RECORD_OVERHEAD: Final = 4
FRAME_OVERHEAD: Final = HEADER_BYTES + ALIGN

_FIELDS: Final = struct.Struct("<4sIIIQ")
_FIELDS_BYTES: Final = _FIELDS.size
_U32: Final = struct.Struct("<I")
_CRC_AT: Final = _FIELDS_BYTES + 4
_PADS: Final = tuple(b"\n" * n for n in range(ALIGN + 1))
_ZEROS: Final = bytes(64 * 1024)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is whole: where it lies and what it says."""

    offset: int
    end: int
    first_lsn: int
    count: int
    body_bytes: int
    crc: int

    @property
    def last_lsn(self) -> int:
        """LSN of its last record."""
        return self.first_lsn + self.count - 1


class Verdict(enum.Enum):
    """What bytes are that are not a whole frame."""

    UNUSED = "unused"
    """Zeros only: nothing was ever written here."""
    TORN = "torn"
    """A write that a power cut interrupted: it was never acknowledged."""
    CUT = "cut"
    """The file ends where the frame has not: no power cut does that to a preallocated file."""
    ROT = "rot"
    """The last frame is complete and wrong."""
    MIDDLE = "middle"
    """Wrong, and something that was written after it follows."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """The verdict on the bytes at `offset`.

    `later` is where data goes on, if it does, and `later_lsn` with what, if a good header says it.
    """

    verdict: Verdict
    offset: int
    reason: str
    later: int | None = None
    later_lsn: int | None = None


def encode_frame(records: Sequence[bytes], first_lsn: int, previous_crc: int) -> tuple[bytes, int]:
    """Return the frame of `records` and its crc, which seeds the next frame's."""
    lengths = list(map(len, records))
    body_bytes = sum(lengths) + RECORD_OVERHEAD * len(lengths)
    pad = ALIGN - body_bytes % ALIGN
    prefixed = chain.from_iterable(zip(map(_U32.pack, lengths), records, strict=True))
    body = b"".join((*prefixed, _PADS[pad]))
    head = _FIELDS.pack(MAGIC, body_bytes, len(lengths), pad, first_lsn)
    head += _U32.pack(crc32(head))
    crc = crc32(body, crc32(head, previous_crc))
    return b"".join((head, _U32.pack(crc), body)), crc


def read_frame(data: bytes, offset: int, first_lsn: int, previous_crc: int) -> Frame | None:
    """Return the frame at `offset` if it is whole and the one that must follow, else None."""
    fields = _read_header(data, offset)
    if fields is None:
        return None
    body_bytes, count, pad, lsn = fields
    end = offset + HEADER_BYTES + body_bytes + pad
    if end > len(data) or lsn != first_lsn or not count or not 1 <= pad <= ALIGN or end % ALIGN:
        return None
    (crc,) = _U32.unpack_from(data, offset + _CRC_AT)
    view = memoryview(data)
    seed = crc32(view[offset : offset + _CRC_AT], previous_crc)
    if crc32(view[offset + HEADER_BYTES : end], seed) != crc:
        return None
    return Frame(offset, end, lsn, count, body_bytes, crc)


def frame_records(data: bytes, frame: Frame) -> list[bytes]:
    """Return the records of a whole frame.

    Raises `ValueError` when the lengths inside do not add up: then the writer was wrong.
    """
    records: list[bytes] = []
    at = frame.offset + HEADER_BYTES
    stop = at + frame.body_bytes
    for _ in range(frame.count):
        if at + RECORD_OVERHEAD > stop:
            break
        (length,) = _U32.unpack_from(data, at)
        at += RECORD_OVERHEAD + length
        records.append(data[at - length : at])
    if at != stop or len(records) != frame.count:
        message = f"the frame of lsn {frame.first_lsn} has lengths that do not add up"
        raise ValueError(message)
    return records


def judge(data: bytes, offset: int, first_lsn: int | None = None) -> BadFrame:
    """Say what the bytes at `offset` are, `read_frame` having returned None for them.

    `data` is the whole file; `offset` is where the next frame would begin, with `first_lsn`.
    """
    if is_zero(data, offset, len(data)):
        verdict = Verdict.CUT if offset >= len(data) else Verdict.UNUSED
        return BadFrame(verdict, offset, "nothing was written here")
    later = _later_header(data, offset)
    if later is not None:
        at, lsn = later
        return BadFrame(Verdict.MIDDLE, offset, "good data follows", at, lsn)
    fields = _read_header(data, offset)
    if fields is None:
        verdict, reason = _judge_header(data, offset)
        return BadFrame(verdict, offset, reason)
    body_bytes, _, pad, lsn = fields
    end = offset + HEADER_BYTES + body_bytes + pad
    if lsn != (first_lsn or lsn):
        return BadFrame(Verdict.ROT, offset, f"the frame of lsn {lsn} lies in its place")
    if not is_zero(data, end, len(data)):
        return BadFrame(Verdict.MIDDLE, offset, "something was written behind it", end)
    verdict, reason = _judge_last(data, offset, end)
    return BadFrame(verdict, offset, reason)


def is_zero(data: bytes, start: int, stop: int) -> bool:
    """Say whether all bytes of the range are NUL."""
    for at in range(start, stop, len(_ZEROS)):
        piece = data[at : min(at + len(_ZEROS), stop)]
        if piece != _ZEROS[: len(piece)]:
            return False
    return True


def _judge_last(data: bytes, offset: int, end: int) -> tuple[Verdict, str]:
    """Return the verdict on a frame whose header is good and that nothing follows."""
    if end > len(data):
        return Verdict.CUT, "the frame is longer than the file"
    if not data[end - 1]:
        return Verdict.TORN, "the frame was not written to its end"
    if _has_zero_sector(data, offset, end):
        return Verdict.TORN, "a sector of the frame was not written"
    return Verdict.ROT, "the frame's checksum is wrong"


def _judge_header(data: bytes, offset: int) -> tuple[Verdict, str]:
    """Return the verdict where not even the header is right."""
    if len(data) - offset < HEADER_BYTES:
        return Verdict.CUT, "the file ends inside a frame's header"
    if is_zero(data, offset, min(offset + SECTOR - offset % SECTOR, len(data))):
        return Verdict.TORN, "the sector of the header was not written"
    if is_zero(data, offset + _CRC_AT, len(data)):
        return Verdict.TORN, "the header was not written to its end"
    return Verdict.ROT, "the header's checksum is wrong"


def _read_header(data: bytes, offset: int) -> tuple[int, int, int, int] | None:
    """Return body bytes, records, pad and first LSN of a header whose checksum is right."""
    if len(data) - offset < HEADER_BYTES or not data.startswith(MAGIC, offset):
        return None
    (crc,) = _U32.unpack_from(data, offset + _FIELDS_BYTES)
    if crc32(data[offset : offset + _FIELDS_BYTES]) != crc:
        return None
    _, body_bytes, count, pad, first_lsn = _FIELDS.unpack_from(data, offset)
    return body_bytes, count, pad, first_lsn


def _later_header(data: bytes, offset: int) -> tuple[int, int] | None:
    """Return offset and first LSN of the next good header behind the one at `offset`."""
    at = data.find(MAGIC, offset + 1)
    while at >= 0:
        fields = _read_header(data, at) if at % ALIGN == 0 else None
        if fields is not None:
            return at, fields[3]
        at = data.find(MAGIC, at + 1)
    return None


def _has_zero_sector(data: bytes, start: int, stop: int) -> bool:
    at = start
    while at < stop:
        sector_end = min(at + SECTOR - at % SECTOR, stop)
        if is_zero(data, at, sector_end):
            return True
        at = sector_end
    return False
