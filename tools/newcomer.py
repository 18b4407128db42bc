"""A newcomer's path, timed: install, `stepflow new`, serve, trigger, completed.

It builds the wheel as a release would, then does in an empty directory, with a virtual environment
of its own and pip's cache off, what the README's first minute says; each command is timed. Every
package must come as a wheel: nobody needs a compiler. Last it installs the wheel with no extra and
says how many packages that is and how large. `--json FILE` keeps the figures, `--short` leaves out
the second installation.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
UV: Final = Path(sys.executable).parent / "uv"
FOREIGN: Final = re.compile(r"STEPFLOW_|PYTHON|VIRTUAL_ENV|UV_PROJECT|CONDA|COVERAGE|PYTEST")
SIZES: Final = """
import importlib.metadata as m, json, os
found = {}
for dist in m.distributions():
    files = [file.locate() for file in dist.files or ()]
    found[dist.name] = sum(os.path.getsize(file) for file in files if os.path.isfile(file))
print(json.dumps({name: size for name, size in found.items() if name not in {"pip", "setuptools"}}))
"""


class Walk:
    """The commands so far, each with its seconds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seconds: dict[str, float] = {}
        bin_dir = root / "venv" / "bin"
        kept = {name: text for name, text in os.environ.items() if not FOREIGN.match(name)}
        self.env = kept | {
            "PATH": f"{bin_dir}:/usr/local/bin:/usr/bin:/bin",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def run(self, shown: str, command: list[str], cwd: Path | None = None) -> str:
        began_s = time.monotonic()
        done = subprocess.run(
            command, cwd=cwd or self.root, env=self.env, capture_output=True, text=True, check=False
        )
        self.seconds[shown] = round(time.monotonic() - began_s, 2)
        if done.returncode:
            sys.exit(f"{shown} failed with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def stepflow(self, *words: str, cwd: Path) -> str:
        shown = " ".join(("stepflow", *words))
        return self.run(shown, [str(self.root / "venv" / "bin" / "stepflow"), *words], cwd)


def build(out: Path) -> Path:
    subprocess.run([UV, "--quiet", "build", "--wheel", "--out-dir", out, ROOT], check=True, cwd=out)
    return next(out.glob("*.whl"))


def walk(path: Walk, wheel: Path) -> str:
    """Do what the README says; return what the followed run said."""
    python = getattr(sys, "_base_executable", sys.executable)
    path.run("python -m venv venv", [python, "-m", "venv", "venv"])
    install(path, "venv", f"{wheel}[cli,fast]", 'pip install "stepflow[cli,fast]"')
    path.stepflow("new", "hello", cwd=path.root)
    project = path.root / "hello"
    began_s = time.monotonic()
    server = subprocess.Popen(
        [path.root / "venv" / "bin" / "stepflow", "serve", "app.py", "--port", "0"],
        cwd=project,
        env=path.env | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        said = ""
        while "is ready" not in said or not (url := re.search(r"http://[^\s/]+:\d+", said)):
            line = server.stdout.readline()
            if not line:
                sys.exit(f"serve ended\n{said}")
            said += line
        path.seconds["stepflow serve app.py"] = round(time.monotonic() - began_s, 2)
        path.env["STEPFLOW_URL"] = url[0]
        given = '{"name":"Ada"}'
        run_id = path.stepflow("trigger", "hello", given, cwd=project).strip()
        # Kept until the run asks for it.
        path.stepflow("notify", "answer-Ada", '"Hello yourself!"', cwd=project)
        told = path.run(
            "stepflow runs watch RUN",
            [str(path.root / "venv" / "bin" / "stepflow"), "runs", "watch", run_id],
            project,
        )
    finally:
        server.terminate()
        server.communicate()
    return told


def install(path: Walk, venv: str, what: str, shown: str) -> None:
    pip = [str(path.root / venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    path.run(shown, [*pip, "--only-binary", ":all:", what])


def base_install(path: Walk, wheel: Path) -> dict[str, int]:
    """Return the bytes of each package that the wheel brings along with no extra."""
    python = getattr(sys, "_base_executable", sys.executable)
    path.run("(base) python -m venv base", [python, "-m", "venv", "base"])
    install(path, "base", str(wheel), "(base) pip install stepflow")
    listed: dict[str, int] = json.loads(
        path.run("(base) sizes", [str(path.root / "base" / "bin" / "python"), "-c", SIZES])
    )
    return listed


def report(path: Walk, base: dict[str, int]) -> dict[str, Any]:
    own = {name: took for name, took in path.seconds.items() if not name.startswith("(base)")}
    figures: dict[str, Any] = {"seconds": own, "total_s": round(sum(own.values()), 2)}
    for name, took in own.items():
        print(f"{took:8.2f} s  {name}")
    print(f"{figures['total_s']:8.2f} s  in all; 5 s of them the workflow sleeps")
    if base:
        figures["base"] = base
        total = sum(base.values())
        print(f"base install: {len(base)} packages, {total / 1e6:.1f} MB with their bytecode")
        for name, size in sorted(base.items(), key=lambda each: -each[1]):
            print(f"{size / 1e6:8.2f} MB {name}")
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="without the base installation")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        path = Walk(Path(root) / "empty")
        path.root.mkdir()
        wheel = build(Path(root))
        told = walk(path, wheel)
        base = {} if asked.short else base_install(path, wheel)
        figures = report(path, base)
    print(told.strip().splitlines()[-1])
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if 'completed  "Hello, Ada! Hello yourself!"' in told else 1


if __name__ == "__main__":
    sys.exit(main())
