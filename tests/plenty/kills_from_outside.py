"""Runs `kills.py` in a process of its own, which always ends."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.plenty.server import ROOT
from tests.served import doomed, end_group

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["killed"]


def killed(data: Path, kills: int, seed: int, within_s: float) -> Mapping[str, Any]:
    """Kill a process so often at random moments; return what `kills.py` reports."""
    command = [sys.executable, "-m", "tests.plenty.kills", str(data), str(kills), str(seed)]
    process = subprocess.Popen(
        doomed(command), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, _ = process.communicate(timeout=within_s)
    finally:
        end_group(process)
    assert process.returncode == 0
    report: Mapping[str, Any] = json.loads(out)
    return report
