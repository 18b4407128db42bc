"""`make sbom` names what an installation brings along, and no tool of development."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_the_bill_of_materials_has_each_dependency_with_its_hash() -> None:
    done = subprocess.run(
        ["make", "-C", ROOT, "sbom"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    bill: dict[str, Any] = msgspec.json.decode((ROOT / "build" / "sbom.json").read_bytes())
    assert bill["bomFormat"] == "CycloneDX"
    hashed = {
        component["name"]
        for component in bill["components"]
        if component["purl"].startswith("pkg:pypi/")
        and all(reference["hashes"] for reference in component["externalReferences"])
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert names(project["project"]["dependencies"]) <= hashed
    development = {"pytest", "hypothesis", "ruff", "mypy", "schemathesis"}
    assert development <= names(project["dependency-groups"]["dev"])
    assert not development & hashed


def names(requirements: list[str]) -> set[str]:
    """The packages that the requirements name."""
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in requirements}
