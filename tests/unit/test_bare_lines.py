"""A run's line is made bare and comes back byte for byte, or stays as it is."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.runtime.bare_lines import WIDTHS, bare_of, line_from

RUN = "run_Ny345aoIbRDlb4EqyzStsz"

_steps = st.integers(1, 200) | st.integers(1, 70_000) | st.integers(1, 1 << 34)


def line(rows: list[tuple[str, int, int]], middle: str = "", run: str = RUN, first: int = 1) -> str:
    records = ",".join(
        f'{{"t":"{text}","lsn":{lsn},"r":"{run}","rs":{number},"ts":{ts}}}'
        for number, (text, lsn, ts) in enumerate(rows, first)
    )
    return f'{{"k":"run","id":"{RUN}","lsn":{rows[-1][1]}{middle},"records":[{records}]}}'


@given(
    st.lists(st.tuples(st.text("abc%\\", max_size=9), _steps, _steps), min_size=1, max_size=90),
    st.sampled_from(["", ',"payloads":{"3":"100 %d"}', ',"aside":"why"']),
)
def test_a_line_comes_back_byte_for_byte(rows: list[tuple[str, int, int]], middle: str) -> None:
    texts, steps, waits = zip(*rows, strict=True)
    lsns, times = list(accumulate(steps)), list(accumulate(waits, initial=1_795_871_848_526))
    whole = line(list(zip(texts, lsns, times, strict=False)), middle).encode()
    bare = bare_of(whole, RUN, lsns[-1], times[len(rows) - 1])
    assert bare is not None
    assert bare.widths < WIDTHS
    assert RUN.encode() not in bare.text
    assert line_from(bare, RUN, lsns[-1], times[len(rows) - 1]) == whole


def test_numbers_are_as_wide_as_the_largest_needs() -> None:
    for step, width in ((254, 1), (255, 2), (65_535, 4), ((1 << 32) - 1, 8)):
        whole = line([("a", 5, 9), ("b", 5 + step, 9), ("c", 6 + step, 10)]).encode()
        bare = bare_of(whole, RUN, 6 + step, 10)
        assert bare is not None
        assert len(bare.numbers) == 2 * width + 2
        assert line_from(bare, RUN, 6 + step, 10) == whole


SOUND = [("a", 5, 9), ("b", 6, 9)]


@pytest.mark.parametrize(
    ("whole", "lsn", "ts"),
    [
        pytest.param(line(SOUND), 7, 9, id="another LSN was told"),
        pytest.param(line(SOUND), 6, 8, id="another time was told"),
        pytest.param(line(SOUND, run="run_other"), 6, 9, id="records of another run"),
        pytest.param(line(SOUND, first=2), 6, 9, id="numbers that do not begin with 1"),
        pytest.param(line([("a", 8, 9), ("b", 6, 9)]), 6, 9, id="LSNs that fall"),
        pytest.param(line([("a", 5, 12), ("b", 6, 9)]), 6, 9, id="times that fall"),
        pytest.param(line([("a", 1, 9), ("b", 1 << 65, 9)]), 1 << 65, 9, id="an LSN too far off"),
        pytest.param(line([("a\0", 5, 9)]), 5, 9, id="a zero byte"),
        pytest.param(line(SOUND).replace('"ts"', '"at"'), 6, 9, id="other names"),
        pytest.param(line(SOUND).replace('"lsn":5', '"lsn":05'), 6, 9, id="a number with a zero"),
        pytest.param(line(SOUND).replace('"k"', ' "k"'), 6, 9, id="another head"),
    ],
)
def test_a_line_that_would_not_come_back_the_same_stays(whole: str, lsn: int, ts: int) -> None:
    assert bare_of(whole.encode(), RUN, lsn, ts) is None


def test_what_looks_like_the_end_of_a_record_in_a_payload_comes_back() -> None:
    own = f'","of":{{"x":1,"lsn":5,"r":"{RUN}","rs":1,"ts":7}},"y":"'
    whole = line([(own, 6, 7)], first=2).encode()
    bare = bare_of(whole, RUN, 6, 7)
    assert bare is not None
    assert line_from(bare, RUN, 6, 7) == whole
    other = own.replace('"rs":1', '"rs":8')
    assert bare_of(line([(other, 6, 7)]).encode(), RUN, 6, 7) is None
