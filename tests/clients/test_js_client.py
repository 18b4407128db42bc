"""`clients/js`: built, its types checked and fresh, its test files run by Node."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clients" / "js"
FILES = sorted(path.name.split(".")[0] for path in (PACKAGE / "tests").glob("*.test.ts*"))
ELEMENT_GZIP_MAX = 6_700
# Sooner than the limit of a test here, so that what Node has said by then is told.
HANG_S = 280
# What a reader is shown need not be used further down.
TSCONFIG = """{
  "extends": "../../tests/tsconfig.json",
  "compilerOptions": {"noUnusedLocals": false},
  "include": ["."]
}"""

pytestmark = [
    pytest.mark.tool("node"),
    pytest.mark.tool("npm"),
    # What is built is built once, and servers are started and killed.
    pytest.mark.xdist_group("js-client"),
    pytest.mark.timeout(300),
]


def node(*command: str) -> str:
    if not (PACKAGE / "node_modules").is_dir():
        pytest.skip("no node_modules in clients/js: make node-deps")
    try:
        done = subprocess.run(
            ["node", *command],
            cwd=PACKAGE,
            env=os.environ | {"STEPFLOW_PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_S,
        )
    except subprocess.TimeoutExpired as hung:
        said = b"".join(part for part in (hung.stdout, hung.stderr) if part)
        text = said.decode(errors="replace")[-8000:]
        pytest.fail(f"node {' '.join(command)} did not end in {HANG_S} s. It had said:\n{text}")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    return done.stdout


@pytest.fixture(scope="module")
def built() -> None:
    node("tools/build.mjs")


def test_the_types_say_which_document_they_were_made_from() -> None:
    digest = hashlib.sha256((ROOT / "openapi.yaml").read_bytes()).hexdigest()
    first = (PACKAGE / "src" / "openapi.ts").read_text().partition("\n")
    assert digest in first[0], "clients/js/src/openapi.ts is stale: make openapi"


def test_the_types_are_what_the_document_gives(tmp_path: Path) -> None:
    node("tools/generate.mjs", str(tmp_path / "openapi.ts"))
    made = (tmp_path / "openapi.ts").read_text()
    assert (PACKAGE / "src" / "openapi.ts").read_text() == made, "stale: make openapi"


def test_client_and_tests_hold_under_strict_types(built: None) -> None:
    node("node_modules/typescript/bin/tsc", "-p", "tests")


def test_every_block_of_the_docs_holds_under_strict_types(built: None) -> None:
    """The blocks of a page are one program, in order."""
    target = PACKAGE / "build" / "docs"
    target.mkdir(parents=True, exist_ok=True)
    for page in (ROOT / "docs" / "javascript.md", PACKAGE / "README.md"):
        fences = [token for token in MarkdownIt().parse(page.read_text()) if token.type == "fence"]
        blocks = [fence.content for fence in fences if fence.info in {"ts", "tsx"}]
        assert len(blocks) == sum(fence.info != "html" for fence in fences), "a block is no ts"
        (target / f"{page.stem.lower()}.tsx").write_text("\n".join(blocks) + "export {};\n")
    (target / "tsconfig.json").write_text(TSCONFIG)
    node("node_modules/typescript/bin/tsc", "-p", "build/docs")


def test_what_is_packed_is_the_package_and_each_of_its_paths_loads(
    built: None, tmp_path: Path
) -> None:
    command = ["npm", "pack", "--ignore-scripts", "--json", "--pack-destination", str(tmp_path)]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=True)
    [told] = json.loads(done.stdout)
    files = {entry["path"] for entry in told["files"]}
    assert all(name.startswith("dist/") for name in files - {"README.md", "package.json"})
    place = tmp_path / "node_modules" / "@stepflow"
    place.mkdir(parents=True)
    subprocess.run(["tar", "-xf", tmp_path / told["filename"]], cwd=place, check=True)
    (place / "package").rename(place / "client")
    for name in ("eventsource-parser", "hono", "react", "fastify"):
        (tmp_path / "node_modules" / name).symlink_to(PACKAGE / "node_modules" / name)
    exports = json.loads((PACKAGE / "package.json").read_text())["exports"]
    for path, named in exports.items():
        assert {file.removeprefix("./") for file in named.values()} <= files
        script = tmp_path / "load.mjs"
        script.write_text(f"import '@stepflow/client{path[1:]}';")
        node(str(script))


def test_the_element_is_a_few_kilobytes(built: None) -> None:
    """Of one file, as a server sends it. What makes it larger has to be worth it to every page."""
    element = (PACKAGE / "dist" / "stepflow-run.js").read_bytes()
    assert len(gzip.compress(element, 9)) <= ELEMENT_GZIP_MAX
    assert b"sourceMappingURL" not in element
    assert b" from" not in element, "it loads something else"


@pytest.mark.parametrize("name", FILES)
def test_node_runs(built: None, name: str) -> None:
    how = ("--test", "--test-force-exit", "--test-timeout=240000", "--test-reporter=tap")
    out = node(*how, f"build/tests/{name}.test.js")
    assert "# skipped 0" in out, "a test was skipped"
    assert "# pass 0" not in out, "no test ran"
