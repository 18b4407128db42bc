"""The same seed is the same simulation, byte for byte: what it finds can be found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.many import digests
from tests.sim.plan import draw

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
FIRST, SEEDS = 5000, 40
ELSEWHERE = """
import json
from tests.sim.many import die_with_parent, digests
die_with_parent()
print(json.dumps(digests({first}, {seeds})))
"""


def digests_of_another_process(hash_seed: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE.format(first=FIRST, seeds=SEEDS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    return list(json.loads(done.stdout))


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_other_hashes() -> None:
    here = digests(FIRST, SEEDS)
    assert len(set(here)) == SEEDS
    assert digests_of_another_process("1") == here
    assert digests_of_another_process("977") == here


def test_what_ran_before_a_seed_does_not_change_it() -> None:
    alone = [digests(FIRST + n, 1)[0] for n in range(5)]
    assert digests(FIRST, 5) == alone


def test_a_plan_is_a_plain_value() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
