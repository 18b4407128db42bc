"""The number that is asked before each record says what the question in full would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepflow.journal.room import Room

SIZES = st.integers(0, 4096)


@given(
    room=st.builds(
        Room, keep=SIZES, free_min=SIZES, left=SIZES, ready=SIZES, spare=SIZES, stuck=st.booleans()
    ),
    size=SIZES,
    queued=SIZES,
)
def test_what_is_below_the_most_has_room_and_nothing_else(
    room: Room, size: int, queued: int
) -> None:
    assert (size + queued <= room.most) is room.fits(size, queued, reserve=False)
