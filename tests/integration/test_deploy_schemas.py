"""The files in deploy/ are what their readers take: checked against the schemas that those publish.

No container engine is needed: the Compose specification's JSON schema comes with check-jsonschema,
those of Kubernetes with kubernetes-validate. Each check is tried on a mistake as well.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = ["1.29", "1.31", "1.33", "1.35"]


def compose_schema() -> Any:
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(vendored.read_text())


def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_is_one_by_the_specification() -> None:
    jsonschema.validate(compose(), compose_schema())


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("comand", ["serve"]),
        ("read_only", []),
        ("cap_drop", "ALL"),
        ("restart", ["always"]),
        ("stop_grace_period", 30),
    ],
)
def test_a_mistake_in_it_would_be_found(where: str, wrong: Any) -> None:
    mistaken = copy.deepcopy(compose())
    mistaken["services"]["stepflow"][where] = wrong
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(mistaken, compose_schema())


def manifests() -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_each_manifest_with_no_field_that_it_does_not_know(version: str) -> None:
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_mistake_in_a_manifest_would_be_found() -> None:
    def mistaken(change: Any) -> Any:
        _, stateful = manifests()
        change(stateful["spec"])
        return stateful

    def container(spec: Any) -> Any:
        return spec["template"]["spec"]["containers"][0]

    for change in (
        lambda spec: spec.update(replica=1),
        lambda spec: spec.update(replicas="one"),
        lambda spec: container(spec)["securityContext"].update(readonlyRootFilesystem=True),
        lambda spec: container(spec)["livenessProbe"].update(httpGet={"path": "/health"}),
        lambda spec: spec.pop("selector"),
    ):
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(mistaken(change), KUBERNETES[-1], strict=True)


def nginx_blocks() -> list[str]:
    text = (ROOT / "docs" / "hosts.md").read_text()
    return re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.tool("nginx")
def test_nginx_takes_what_the_docs_show(tmp_path: Path, tool_path: dict[str, str]) -> None:
    blocks = nginx_blocks()
    assert blocks
    for block in blocks:
        config = tmp_path / "nginx.conf"
        server = f"server {{ listen 127.0.0.1:8080;\n{block}\n}}"
        config.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{server}\n}}\n")
        command = [tool_path["nginx"], "-t", "-p", str(tmp_path), "-c", str(config)]
        done = subprocess.run(
            [*command, "-e", str(tmp_path / "log")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
