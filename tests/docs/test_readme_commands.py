"""The README's commands run, in order, against the server that its first one starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.served import doomed
from tools.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- commands -->\n```\n(.*?)```", re.DOTALL)


@pytest.mark.timeout(120)
@pytest.mark.tool("curl")
def test_the_readmes_commands_run_one_after_the_other(tmp_path: Path) -> None:
    port = free_port()
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    assert len(blocks) >= 5
    script = "set -euo pipefail\n" + "".join(blocks).replace(":8000", f":{port}")
    server = subprocess.Popen(
        doomed(
            [
                *(
                    sys.executable,
                    "-m",
                    "stepflow.cli.main",
                    "serve",
                    str(ROOT / "examples/app.py"),
                ),
                *("--data", "stepflow-data", "--port", str(port)),
            ]
        ),
        cwd=tmp_path,
        env=os.environ | {"WELCOME_PAUSE": "100ms", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "ready" in line:
                break
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = done.stdout.partition('{"runs":[')[0]
    assert told.count("event: complete") == 2
    assert '{"success":true}' in done.stdout
