"""What stands in deploy/, and what `serve` says to a service manager."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml

from stepflow import Settings
from stepflow.cli.main import main
from stepflow.cli.service_manager import tell_service_manager
from stepflow.errors import ConfigurationError, JournalCorruptError
from tests.served import doomed, end_group

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def listening(path: str) -> socket.socket:
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(path)
    heard.settimeout(100)
    return heard


def until(heard: socket.socket, line: str) -> list[str]:
    """Return all that was said, up to that line."""
    said: list[str] = []
    while line not in said:
        said += heard.recv(4096).decode().split("\n")
    return said


def test_serve_says_ready_when_it_answers_and_stopping_when_it_leaves(tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as heard, (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "stepflow.cli.main", "serve"]
        command += [str(ROOT / "examples" / "welcome.py"), "--data", "data", "--port", "0"]
        process = subprocess.Popen(
            doomed(command),
            cwd=tmp_path,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            said = until(heard, "READY=1")
            url = next(line.partition("=")[2] for line in said if line.startswith("STATUS=http"))
            assert httpx.get(f"{url}/ready", timeout=100).status_code == 200
            process.terminate()
            until(heard, "STOPPING=1")
            assert process.wait(100) == 0
        finally:
            end_group(process)


def test_a_service_manager_that_is_not_there_is_nobody_and_one_that_is_gone_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tell_service_manager("READY=1", environ={})
    assert not tell_service_manager("READY=1", environ={"NOTIFY_SOCKET": "vsock:2:1234"})
    assert caplog.records == []
    assert not tell_service_manager("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "none")})
    assert "NOTIFY_SOCKET" in caplog.text
    with listening(f"\0stepflow-{os.getpid()}") as heard:
        environ = {"NOTIFY_SOCKET": f"@stepflow-{os.getpid()}"}
        assert tell_service_manager("READY=1", "STATUS=fine", environ=environ)
        assert heard.recv(100) == b"READY=1\nSTATUS=fine"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "stepflow.service").read_text()
    # The program must be there to be verified; here it is elsewhere.
    here = unit.replace("/opt/stepflow/bin/stepflow", str(Path(sys.executable).parent / "stepflow"))
    (tmp_path / "stepflow.service").write_text(here)
    shutil.copy(DEPLOY / "stepflow.socket", tmp_path)
    units = [str(tmp_path / name) for name in ("stepflow.service", "stepflow.socket")]
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "stepflow." not in done.stdout + done.stderr
    assert "Type=notify" in unit


def test_the_socket_is_where_the_unit_would_listen_by_itself() -> None:
    where = re.findall(
        r"^ListenStream=(.*)$", (DEPLOY / "stepflow.socket").read_text(), re.MULTILINE
    )
    assert where == ["127.0.0.1:8000"]


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_kubernetes_gets_one_replica_with_a_volume_and_probes_that_wait_for_recovery() -> None:
    service, stateful = documents("kubernetes.yaml")
    spec = stateful["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    assert (stateful["kind"], spec["replicas"]) == ("StatefulSet", 1)
    assert spec["serviceName"] == service["metadata"]["name"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == spec["selector"]["matchLabels"]
    # Liveness must not kill a process that reads a long journal.
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    claims = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert mounts == claims | {volume["name"] for volume in pod["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_compose_puts_nginx_in_front_of_one_process_on_a_volume() -> None:
    (compose,) = documents("compose.yaml")
    ours, front = compose["services"]["stepflow"], compose["services"]["nginx"]
    assert "ports" not in ours
    assert ours["volumes"] == ["flow:/data"]
    assert set(compose["volumes"]) == {"flow"}
    assert ours["read_only"]
    assert "./nginx.conf:/etc/nginx/conf.d/default.conf:ro" in front["volumes"]
    assert (DEPLOY / ours["build"] / "Dockerfile").exists()
    assert "http://stepflow:8000;" in (DEPLOY / "nginx.conf").read_text()


@pytest.mark.tool("nginx")
def test_nginx_takes_the_configuration(tmp_path: Path, tool_path: dict[str, str]) -> None:
    server = (DEPLOY / "nginx.conf").read_text()
    # The service's name is known in compose's own network alone.
    server = server.replace("http://stepflow:", "http://127.0.0.1:").replace(
        "listen 80", "listen 127.0.0.1:8"
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{server}\n}}\n")
    command = [tool_path["nginx"], "-t", "-p", str(tmp_path), "-c", str(config)]
    done = subprocess.run(
        [*command, "-e", str(tmp_path / "log")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def image(name: str) -> Any:
    """The JSON of the image's last instruction of that name."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return json.loads([line for line in lines if line.startswith(f"{name} ")][-1].split(None, 1)[1])


def commands() -> dict[str, list[str]]:
    """What each file has run, as the words of one command."""
    unit = re.findall(r"^ExecStart=(.*)$", (DEPLOY / "stepflow.service").read_text(), re.MULTILINE)
    entry = image("ENTRYPOINT")
    container = documents("kubernetes.yaml")[1]["spec"]["template"]["spec"]["containers"][0]
    assert "command" not in container  # it would take the entry point's place
    service = documents("compose.yaml")[0]["services"]["stepflow"]
    assert "entrypoint" not in service
    return {
        "systemd": unit[0].split(),
        "image": entry + image("CMD"),
        "kubernetes": entry + container["args"],
        "compose": entry + service["command"],
    }


@pytest.mark.parametrize("way", ["systemd", "image", "kubernetes", "compose"])
def test_each_way_runs_a_command_line_that_there_is(way: str) -> None:
    program, *words = commands()[way]
    assert Path(program).name == "stepflow"
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    told = command.make_context("serve", words[1:]).params
    data = "/var/lib/stepflow" if way == "systemd" else "/data"
    # A container is reached from outside; a unit's port by a proxy of its own machine.
    host = "127.0.0.1" if way == "systemd" else "0.0.0.0"  # noqa: S104
    assert (told["port"], told["data"], told["host"]) == (8000, data, host)
    assert not told["no_auth"]


def test_what_each_way_mounts_and_exposes_is_what_the_image_has() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    assert image("VOLUME") == ["/data"]
    assert "\nEXPOSE 8000\n" in docker
    pod = documents("kubernetes.yaml")[1]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": 8000}]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108
    user = re.findall(r"^USER (\d+):(\d+)$", docker, re.MULTILINE)[-1]
    context = pod["securityContext"]
    assert (str(context["runAsUser"]), str(context["fsGroup"])) == user


def test_each_way_gives_the_end_more_time_than_it_may_take() -> None:
    """Open requests have `http_drain_s`, steps `drain_timeout_s`, then the disk its syncs."""
    settings = Settings()
    needed_s = settings.http_drain_s + settings.drain_timeout_s
    pod = documents("kubernetes.yaml")[1]["spec"]["template"]["spec"]
    grace = documents("compose.yaml")[0]["services"]["stepflow"]["stop_grace_period"]
    unit = (DEPLOY / "stepflow.service").read_text()
    for text in (
        pod["terminationGracePeriodSeconds"],
        grace.removesuffix("s"),
        re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0],
    ):
        assert int(text) > needed_s


def test_the_unit_has_settings_that_there_are_and_prevents_starts_that_cannot_succeed() -> None:
    unit = (DEPLOY / "stepflow.service").read_text()
    known = {f"STEPFLOW_{field.name.upper()}" for field in fields(Settings)}
    known |= {"STEPFLOW_API_KEYS", "STEPFLOW_LOG_FORMAT"}
    assert set(re.findall(r"STEPFLOW_\w+", unit)) <= known
    prevented = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.MULTILINE)[0].split()
    assert {int(code) for code in prevented} == {
        ConfigurationError.exit_code,
        JournalCorruptError.exit_code,
    }
