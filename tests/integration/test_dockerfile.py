"""The image's commands work, tried outside a container: build, start, health check, end.

No Docker is needed: the build stage's `uv sync` runs on a copy of exactly the files that the
Dockerfile copies, into an empty environment; then ENTRYPOINT and CMD run under strace, which tells
every path that was opened for writing. A read-only root file system allows /data and /tmp only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.served import doomed
from tools.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
BIN: Final = Path(sys.executable).parent
WRITES: Final = re.compile(
    r"(?:openat|open)\((?:AT_FDCWD, )?\"(?P<open>[^\"]*)\", [^,)]*(?:O_WRONLY|O_RDWR|O_CREAT)"
    r"|(?:mkdir|unlink|rmdir|truncate|creat)(?:at)?\((?:AT_FDCWD, )?\"(?P<change>[^\"]*)\""
    r"|rename(?:at2?)?\((?:AT_FDCWD, )?\"(?P<rename>[^\"]*)\""
)
STRACE: Final = ["strace", "-D", "-f", "-qq", "-e", "trace=%file", "-o"]

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("dockerfile")]


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    rest: str

    def words(self) -> list[str]:
        """The exec form's arguments; the shell form is refused."""
        return json.loads(self.rest[self.rest.index("[") :])


def instructions() -> list[Instruction]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [Instruction(name, rest) for name, rest in pairs]


def last(name: str) -> Instruction:
    return [each for each in instructions() if each.name == name][-1]


def test_the_linter_has_nothing_to_say() -> None:
    linter = BIN / "hadolint"
    if not linter.exists():
        pytest.skip("platform: no hadolint for this machine")
    done = subprocess.run(
        [linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_it_is_not_root_and_needs_no_shell() -> None:
    assert last("USER").rest == "10001:10001"
    assert last("STOPSIGNAL").rest == "SIGTERM"
    assert last("ENTRYPOINT").words() == ["stepflow"]
    assert last("HEALTHCHECK").words()[0] == "python"


def test_what_it_copies_is_in_the_build_context() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    for source in sources():
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in allowed, source


def sources() -> list[str]:
    """What the COPY instructions take from the build context."""
    copies = [each.rest.split() for each in instructions() if each.name == "COPY"]
    return [
        word.removeprefix("./") for words in copies if words[0][:2] != "--" for word in words[:-1]
    ]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What /opt/stepflow holds: the build stage's sync, on what the build context gives."""
    context = tmp_path_factory.mktemp("src")
    for source in sources():
        target = context / source
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, target)
    environment = context.parent / "opt"
    sync = next(
        command
        for each in instructions()
        if each.name == "RUN"
        for command in each.rest.split("&&")
        if "uv sync" in command
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    subprocess.run(
        [BIN / "uv", *shlex.split(sync)[1:], "--quiet"],
        cwd=context,
        env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(environment)},
        check=True,
    )
    return environment


@pytest.mark.tool("strace")
@pytest.mark.timeout(300)
def test_it_starts_is_healthy_writes_only_its_data_and_stops(image, tmp_path) -> None:
    app, data, trace = tmp_path / "app", tmp_path / "data", tmp_path / "trace"
    app.mkdir()
    data.mkdir()
    shutil.copy(ROOT / "examples" / "welcome.py", app / "main.py")
    port = free_port()
    stand_ins = {
        "/app/main.py": str(app / "main.py"),
        "/data": str(data),
        "0.0.0.0": "127.0.0.1",  # noqa: S104  an address of the image, replaced here
        "8000": str(port),
    }
    command = [stand_ins.get(word, word) for word in last("CMD").words()]
    environment = {"PATH": f"{image / 'bin'}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    server = subprocess.Popen(
        # -D: the server stays our child, strace watches from aside.
        doomed([*STRACE, trace, *last("ENTRYPOINT").words(), *command]),
        cwd=app,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        check = [word.replace(":8000/", f":{port}/") for word in last("HEALTHCHECK").words()]
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None, server.stdout.read()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate()
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0, output
    assert written_outside(data, trace) == []


def written_outside(data: Path, trace: Path) -> list[str]:
    """The traced calls that changed something a read-only root file system would not allow."""
    found: list[str] = []
    for line in trace.read_text().splitlines():
        match = WRITES.search(line)
        if match and " = -1 " not in line:
            path = next(filter(None, match.groups()))
            if not path.startswith((str(data), "/dev/", "/proc/")):
                found.append(line)
    return found
