"""A listening socket that was handed over: it outlives each server, and nobody is refused at it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from stepflow.cli.inherited import inherited_socket
from stepflow.errors import ConfigurationError
from tests.cli_kit import PROGRAM, Served, environment
from tests.served import doomed

if TYPE_CHECKING:
    from pathlib import Path

KEY = "inherited-socket-key-0123456789"
APP = """
from stepflow import Context, Stepflow

flow = Stepflow()


@flow.workflow()
async def echo(ctx: Context, text: str) -> str:
    return text
"""


def listening() -> socket.socket:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    made.listen(1024)
    return made


def served(tmp_path: Path, handed: socket.socket) -> Served:
    return Served(
        "flows.py",
        cwd=tmp_path,
        port=1,
        handed=handed.fileno(),
        STEPFLOW_API_KEYS=KEY,
        STEPFLOW_LOCK_WAIT_S="100",
    )


def test_over_a_restart_requests_queue_and_the_next_process_answers_them(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(APP)
    with closing(listening()) as handed:
        url = f"http://127.0.0.1:{handed.getsockname()[1]}"
        headers = {"X-API-Key": KEY}

        def ask(text: str) -> httpx.Response:
            # One connection each, no second try.
            return httpx.post(f"{url}/trigger/echo", json=text, headers=headers, timeout=100)

        first = served(tmp_path, handed)
        first.says("is ready")
        assert url in first.out
        second = served(tmp_path, handed)
        try:
            second.says("waiting for the data directory")
            # It is warm, and does not accept: each of these is the first one's.
            assert [ask(str(n)).status_code for n in range(20)] == [200] * 20
            first.signal(signal.SIGTERM)
            assert [ask(str(n)).status_code for n in range(20)] == [200] * 20
            assert first.wait() == 0
            second.says("is ready")
            assert ask("last").status_code == 200
        finally:
            first.stop()
            assert second.stop() == 0, second.err


@pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="platform: no systemd here"
)
def test_systemds_own_way_of_handing_over_is_understood(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(APP)
    with closing(listening()) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # It starts the server when the first connection comes, which waits for it.
    names = ("PATH", "PYTHONPATH", "PYTHONUNBUFFERED", "STEPFLOW_API_KEYS")
    process = subprocess.Popen(
        doomed(
            [
                *("systemd-socket-activate", "--listen", address),
                *(f"--setenv={name}" for name in names),
                *(*PROGRAM, "serve", "flows.py"),
            ]
        ),
        cwd=tmp_path,
        env=environment(STEPFLOW_API_KEYS=KEY),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert "Listening on" in process.stdout.readline()
        answer = httpx.get(f"http://{address}/ready", timeout=100)
        assert answer.json()["status"] == "ready"
    finally:
        process.terminate()
        said, _ = process.communicate()
    assert process.returncode == 0, said
    # Ready before it listens, and the line that programs wait for is there all the same.
    assert f"listening on http://{address}" in said


def test_who_waits_for_the_lock_may_be_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(APP)
    with closing(listening()) as handed:
        first = served(tmp_path, handed)
        first.says("is ready")
        second = served(tmp_path, handed)
        second.says("waiting for the data directory")
        assert second.stop() == 0, second.err
        assert "Traceback" not in second.err
        assert first.stop() == 0


def test_one_that_cannot_start_leaves_with_its_status(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(APP)
    with closing(listening()) as handed:
        first = served(tmp_path, handed)
        first.says("is ready")
        env = {"STEPFLOW_API_KEYS": KEY, "STEPFLOW_LOCK_WAIT_S": "0"}
        second = Served("flows.py", cwd=tmp_path, handed=handed.fileno(), **env)
        assert second.wait() == 75, second.err
        assert first.stop() == 0


def test_without_auth_it_is_refused_on_a_socket_of_every_address(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(APP)
    with closing(socket.socket()) as handed:
        handed.bind(("0.0.0.0", 0))  # noqa: S104  what is refused
        handed.listen()
        process = Served("flows.py", "--no-auth", cwd=tmp_path, handed=handed.fileno())
        assert process.wait() == 64
        assert "refused on 0.0.0.0" in process.err


def variables(count: str = "1", pid: int | None = None) -> dict[str, str]:
    return {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": "http"}


def test_what_is_meant_for_another_process_or_is_nothing_is_left_alone() -> None:
    for environ in ({}, variables(pid=1), variables("0"), variables("x")):
        assert inherited_socket(environ) is None
        assert environ == {}


def test_what_is_no_listening_tcp_socket_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 sockets"):
        inherited_socket(variables("2"))
    with socket.socket() as idle:
        with pytest.raises(ConfigurationError, match="listening one of TCP"):
            inherited_socket(variables(), first=os.dup(idle.fileno()))
    read, write = os.pipe()
    with pytest.raises(ConfigurationError, match="no socket"):
        inherited_socket(variables(), first=read)
    os.close(read)
    os.close(write)


def test_a_listening_one_is_taken_once_and_not_handed_on() -> None:
    with closing(listening()) as handed:
        environ = variables()
        taken = inherited_socket(environ, first=os.dup(handed.fileno()))
        assert taken is not None
        with taken:
            assert taken.getsockname() == handed.getsockname()
            assert not os.get_inheritable(taken.fileno())
        assert inherited_socket(environ) is None
