"""Journals of all mixes of records, damaged at random: no wrong prefix, no silent loss."""

from __future__ import annotations

import pytest

from stepflow.journal import frame
from tests.recovery.journal_sweep import Sweep

STEPS = 30


@pytest.mark.parametrize("seed", range(24))
def test_damage_is_refused_or_harmless_and_a_torn_tail_is_cut_where_it_tore(seed: int) -> None:
    sweep = Sweep(seed)
    for _ in range(STEPS):
        sweep.step()
    assert sweep.refused
    assert sweep.torn


def test_a_reader_that_looks_for_no_later_frame_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(frame, "_later_header", nothing)
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(20):
            sweep = Sweep(seed)
            for _ in range(STEPS):
                sweep.step()
