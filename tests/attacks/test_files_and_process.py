"""What a server leaves on disk and shows of itself to others on the machine."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.attacks.process import ServerProcess
from tests.cli_kit import PROGRAM, environment
from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

HOST = Path(__file__).with_name("storm_host.py")
KEY = "files-key-0123456789abcdef"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    where = tmp_path_factory.mktemp("files")
    data = where / "data"
    secret = where / "keys"
    secret.touch(mode=0o600)
    secret.write_text(KEY)
    words = [*PROGRAM, "serve", str(HOST), "--data", str(data)]
    server = ServerProcess(words, where / "log", free_port(), STEPFLOW_API_KEYS_FILE=str(secret))
    try:
        server.until_ready()
        httpx.post(
            f"{server.url}/trigger/ticks", json=1, headers={"X-API-Key": KEY}, timeout=60
        ).raise_for_status()
        yield server, data
        server.stop()
    finally:
        server.kill()


def test_every_file_is_its_owners_alone(served: tuple[ServerProcess, Path]) -> None:
    _, data = served
    paths = [data, *data.rglob("*")]
    assert len(paths) > 3
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_process_that_dies_leaves_no_core(served: tuple[ServerProcess, Path]) -> None:
    server, _ = served
    limits = Path(f"/proc/{server.pid}/limits")
    if not limits.exists():
        pytest.skip("platform: no /proc on this machine")
    (line,) = [each for each in limits.read_text().splitlines() if "core file size" in each]
    assert line.split()[4] == "0"


def test_a_secret_of_a_file_is_in_no_command_line_or_environment(
    served: tuple[ServerProcess, Path],
) -> None:
    server, _ = served
    here = Path(f"/proc/{server.pid}")
    if not here.exists():
        pytest.skip("platform: no /proc on this machine")
    for name in ("cmdline", "environ"):
        assert KEY.encode() not in (here / name).read_bytes()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_a_secret_that_others_may_read_refuses_the_start(tmp_path: Path, mode: int) -> None:
    secret = tmp_path / "keys"
    secret.write_text(KEY)
    secret.chmod(mode)
    done = subprocess.run(
        [*PROGRAM, "serve", str(HOST), "--data", str(tmp_path / "data"), "--port", "0"],
        env=environment(STEPFLOW_API_KEYS_FILE=str(secret)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 64
    assert "chmod 600" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_the_default_address_is_this_machines_alone(served: tuple[ServerProcess, Path]) -> None:
    """Every socket that listens is bound to 127.0.0.1."""
    server, _ = served
    table = Path(f"/proc/{server.pid}/net/tcp")
    if not table.exists():
        pytest.skip("platform: no /proc on this machine")
    port = f"{httpx.URL(server.url).port:04X}"
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")}
    assert listening == {f"0100007F:{port}"}


def test_files_made_with_an_open_umask_are_private_too(tmp_path: Path) -> None:
    """`keys create` runs with the operator's umask."""
    (tmp_path / "data").mkdir(mode=0o700)
    old = os.umask(0)
    try:
        subprocess.run(
            [*PROGRAM, "keys", "create", "open", "--data", str(tmp_path / "data")],
            env=environment(),
            capture_output=True,
            check=True,
            timeout=60,
        )
    finally:
        os.umask(old)
    made = list((tmp_path / "data").rglob("*"))
    assert {path.name for path in made} >= {"keys.json"}
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
