"""A setting, variable, route, flag, event or code that users can see and the docs lack, fails."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "stepflow"
DOCS: Final = ROOT / "docs"


def read(*names: str) -> str:
    return "\n".join((DOCS / name).read_text() for name in names)


def all_docs() -> str:
    paths = [ROOT / "README.md", *DOCS.glob("*.md")]
    return "\n".join(path.read_text() for path in paths)


def in_sources(pattern: str) -> set[str]:
    """What `pattern` finds in the package's Python files."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        found.update(re.findall(pattern, path.read_text()))
    return found


def missing(names: set[str], text: str) -> list[str]:
    return sorted(
        name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    )


def test_the_tables_made_from_the_code_are_fresh() -> None:
    command = [sys.executable, ROOT / "tools" / "make_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_environment_variable_is_in_the_configuration_page() -> None:
    assert missing(in_sources(r'"(STEPFLOW_[A-Z0-9_]+[A-Z0-9])"'), read("configuration.md")) == []


def test_every_code_of_damage_is_in_the_operations_page() -> None:
    assert missing(in_sources(r"\b(SFW\d{3})\b"), read("operations.md")) == []


def test_every_error_code_is_in_the_errors_page() -> None:
    codes = in_sources(r'^    code(?:: ClassVar\[str\])? = "([A-Z_]+)"') | {"INTERNAL"}
    assert missing(codes, read("errors.md")) == []


def test_every_route_is_documented() -> None:
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    text = all_docs()
    routes = {
        f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method in operations
        if method in {"get", "post", "delete", "put", "patch"}
    }
    assert [route for route in sorted(routes) if f"`{route}`" not in text] == []


def test_every_event_of_a_stream_is_documented() -> None:
    document = (ROOT / "openapi.yaml").read_text()
    events = {"status", "step", "complete", "error", "emit", "progress", "resync", "expired"}
    events |= set(re.findall(r"event: ([a-z]+)\\n", document))
    events |= in_sources(r"event: ([a-z]+)\\n")
    text = all_docs()
    assert [event for event in sorted(events) if f"`{event}`" not in text] == []


@pytest.mark.parametrize("kind", ["commands", "options"])
def test_every_command_and_option_is_in_the_reference(kind) -> None:
    from stepflow.cli.main import main

    tools = _make_docs()
    text = read("cli.md")
    names: set[str] = set()
    for path, command in tools._commands("stepflow", main):
        if kind == "commands":
            names.add(path)
        else:
            names.update(
                name for option in command.params for name in option.opts if name[0] == "-"
            )
    assert missing(names, text) == []


def test_every_public_name_is_documented() -> None:
    import stepflow

    undocumented = {
        name for name in stepflow.__all__ if name != "__version__" and f"{name}" not in all_docs()
    }
    assert undocumented == set()


def _make_docs():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
