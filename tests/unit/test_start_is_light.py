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


FOR_SERVERS_ONLY = {"starlette", "anyio", "uvicorn", "uvloop", "httptools", "click", "watchfiles"}
FOR_A_START_ONLY = {"email", "csv", "cronsim", "sqlite3", "http", "html", "xml", "ssl"}


def test_a_program_that_only_embeds_loads_no_server_and_nothing_for_a_rainy_day() -> None:
    code = (
        "import sys, asyncio, msgspec, orjson\nbefore = set(sys.modules)\nimport stepflow\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert (FOR_SERVERS_ONLY | FOR_A_START_ONLY | set(FOR_SOME_ONLY)) & loaded == set()
    # Nothing that is neither ours nor Python's own: each dependency is loaded by who needs it.
    theirs = {name for name in loaded if not name.startswith("_sysconfigdata")}
    assert theirs - set(sys.stdlib_module_names) == {"stepflow"}
