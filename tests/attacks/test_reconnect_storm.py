"""Streams of many clients through kills of the server: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.attacks.storm import reconnect_storm

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fifty_streams_survive_two_kills(tmp_path: Path) -> None:
    assert asyncio.run(reconnect_storm(streams=50, kills=2, where=tmp_path)) == 100
