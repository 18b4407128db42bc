"""A frame is read whole or not at all, and what is not whole is judged rightly."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.journal.frame import (
    ALIGN,
    HEADER_BYTES,
    SECTOR,
    Verdict,
    encode_frame,
    frame_records,
    is_zero,
    judge,
    read_frame,
)

JSON = st.binary(min_size=1, max_size=300).map(lambda b: b'{"x":"%s"}' % b.hex().encode())


@given(st.lists(JSON, min_size=1, max_size=20), st.integers(1, 2**62), st.integers(0, 2**32 - 1))
def test_what_was_encoded_is_read_back(group, lsn, chain):
    data, crc = encode_frame(group, lsn, chain)
    frame = read_frame(data, 0, lsn, chain)
    assert frame is not None
    assert (frame.first_lsn, frame.last_lsn, frame.crc) == (lsn, lsn + len(group) - 1, crc)
    assert frame.end == len(data)
    assert frame_records(data, frame) == group


@given(st.lists(JSON, min_size=1, max_size=20))
def test_a_frame_is_aligned_and_its_last_byte_is_never_nul(group):
    data, _ = encode_frame(group, 1, 0)
    assert len(data) % ALIGN == 0
    assert data[-1]


@given(st.lists(JSON, min_size=1, max_size=30), st.integers(0, 15))
def test_no_sector_has_only_zeros_of_a_frame(group, start):
    offset = start * ALIGN
    data = bytes(offset) + encode_frame(group, 1, 0)[0]
    for sector in range(0, len(data), SECTOR):
        begin = max(sector, offset)
        end = min(sector + SECTOR, len(data))
        if begin < end:
            assert not is_zero(data, begin, end)


def test_a_frame_of_another_place_in_the_chain_is_refused():
    data, crc = encode_frame([b"{}"], 5, 17)
    assert read_frame(data, 0, 5, 17) is not None
    assert read_frame(data, 0, 5, 18) is None
    assert read_frame(data, 0, 6, 17) is None
    assert read_frame(data, 0, 5, crc) is None


def test_lengths_that_do_not_add_up_are_an_error():
    data = bytearray(encode_frame([b"{}", b"[]"], 1, 0)[0])
    frame = read_frame(bytes(data), 0, 1, 0)
    assert frame is not None
    data[HEADER_BYTES] = 3
    with pytest.raises(ValueError, match="do not add up"):
        frame_records(bytes(data), frame)
    data[HEADER_BYTES] = 255
    with pytest.raises(ValueError, match="do not add up"):
        frame_records(bytes(data), frame)


def test_zeros_are_unused_space_and_the_end_of_the_file_is_a_cut():
    assert judge(bytes(64), 0).verdict is Verdict.UNUSED
    assert judge(bytes(64), 64).verdict is Verdict.CUT


def test_a_good_header_behind_a_bad_frame_proves_damage():
    first, crc = encode_frame([b'{"a":1}'], 1, 0)
    second, _ = encode_frame([b'{"b":2}'], 2, crc)
    bad = judge(bytes([first[0] ^ 1]) + first[1:] + second + bytes(64), 0)
    assert bad.verdict is Verdict.MIDDLE
    assert (bad.later, bad.later_lsn) == (len(first), 2)


def test_the_magic_alone_does_not_make_a_later_frame():
    torn = encode_frame([b'{"a":"SFB1SFB1' + b"SFB1" * 40 + b'"}'], 1, 0)[0]
    data = torn[:-ALIGN] + bytes(ALIGN + 64)
    assert judge(data, 0).verdict is Verdict.TORN


@pytest.mark.parametrize("offset", [0, 32, 480, 512])
@pytest.mark.parametrize("size", [10, 400, 1500])
def test_every_subset_of_written_sectors_is_torn_or_whole(offset, size):
    whole = bytes(offset) + encode_frame([b'{"d":"%s"}' % (b"y" * size)], 1, 9)[0]
    data = whole + bytes(-len(whole) % SECTOR + SECTOR)
    sectors = range(offset // SECTOR, (len(whole) - 1) // SECTOR + 1)
    for choice in range(1 << len(sectors)):
        image = bytearray(data)
        for bit, sector in enumerate(sectors):
            if not choice >> bit & 1:
                begin = max(sector * SECTOR, offset)
                end = min((sector + 1) * SECTOR, len(whole))
                image[begin:end] = bytes(end - begin)
        frame = read_frame(bytes(image), offset, 1, 9)
        if choice == (1 << len(sectors)) - 1:
            assert frame is not None
        elif choice == 0:
            assert frame is None
            assert judge(bytes(image), offset).verdict is Verdict.UNUSED
        else:
            assert frame is None
            assert judge(bytes(image), offset).verdict is Verdict.TORN


def test_random_bytes_are_never_a_frame():
    dice = random.Random(1)
    for _ in range(2000):
        data = dice.randbytes(256)
        assert read_frame(data, 0, 1, 0) is None
        assert judge(data, 0).verdict in set(Verdict)


@pytest.mark.parametrize("field_value", ["count", "pad", "aligned"])
def test_a_header_that_lies_in_other_words_is_refused(field_value):
    import struct
    from zlib import crc32

    body = b"\x02\0\0\0{}" + b"\n" * 26
    body_bytes, count, pad = 6, 1, 26
    if field_value == "count":
        count = 0
    elif field_value == "pad":
        body_bytes, pad = 32, 0
    else:
        body, pad = body[:-1], 25
    head = struct.pack("<4sIIIQ", b"SFB1", body_bytes, count, pad, 1)
    head += struct.pack("<I", crc32(head))
    data = head + struct.pack("<I", crc32(body, crc32(head, 0))) + body
    assert read_frame(data, 0, 1, 0) is None
