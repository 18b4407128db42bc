"""What a start does not need is not imported by it."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOR_SOME_ONLY = ("jwt", "prometheus_client", "pydantic", "httpx", "rich")


@pytest.mark.parametrize("module", ["stepflow", "stepflow.web.app", "stepflow.web.server"])
def test_a_start_imports_nothing_that_only_some_need(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(FOR_SOME_ONLY) & set(done.stdout.split()) == set()
