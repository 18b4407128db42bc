"""The dashboard's files: found by name, versioned, and the libraries among them as listed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from stepflow.dashboard.assets import Assets, assets

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "stepflow" / "dashboard" / "static"
VENDOR = STATIC / "vendor"
FILES = {
    "index.html": b'<link href="./app.css"><script src="./app.js"></script> <p title="./x">',
    "app.js": b'import "./deep/part.js"',
    "app.css": b"",
    "deep/part.js": b"1",
    "notes.md": b"not for everybody",
}


def test_a_file_is_found_by_its_name_and_below_the_version() -> None:
    found = Assets(FILES)
    for name in ("app.js", "deep/part.js"):
        bare, fixed = found.find(name), found.find(f"{found.version}/{name}")
        assert bare is not None
        assert fixed is not None
        assert (bare[0], bare[1], fixed[1]) == (fixed[0], False, True)
        assert bare[0].body == FILES[name]


@pytest.mark.parametrize(
    "name",
    [
        "notes.md",
        "../assets.py",
        "deep",
        "deep/",
        "/app.js",
        "app.js/",
        "./app.js",
        "deep/../app.js",
        "0123456789abcdef/app.js",
        "APP.JS",
        "app.js\0",
        "app.js\n",
        "..%2fassets.py",
        "\\app.js",
    ],
)
def test_no_other_name_finds_anything(name: str) -> None:
    found = Assets(FILES)
    assert found.find(name) is None
    assert found.find(f"{found.version}/{name}") is None


def test_the_page_names_its_files_below_the_version_from_where_it_is() -> None:
    found = Assets(FILES)
    version = found.version
    assert found.find("") == found.find("index.html") == (found.page, False)
    assert f'href="./{version}/app.css"' in found.page.body.decode()
    assert f'src="./{version}/app.js"' in found.page.body.decode()
    assert f'src="./ui/{version}/app.js"' in found.bare_page.body.decode()
    assert 'title="./x"' in found.page.body.decode()
    assert found.page.etag != found.bare_page.etag
    # It is asked for again each time, so it is not to be had for ever.
    assert found.find(f"{version}/index.html") is None
    assert found.find(f"{version}/") is None


def test_whatever_changes_is_another_version() -> None:
    before = Assets(FILES).version
    assert Assets({**FILES, "app.css": b"p{}"}).version != before
    assert Assets({**FILES, "more.js": b""}).version != before
    assert Assets(dict(reversed(FILES.items()))).version == before


# ---------------------------------------------------------------- the files themselves


def test_every_file_that_lies_there_is_served() -> None:
    for path in STATIC.rglob("*"):
        if path.is_file():
            name = path.relative_to(STATIC).as_posix()
            assert assets().find(name) is not None, name


def sources() -> list[Path]:
    return [path for path in STATIC.rglob("*.js") if VENDOR not in path.parents]


def test_every_import_is_a_relative_path_to_a_file_that_is_there() -> None:
    for path in STATIC.rglob("*.js"):
        text = path.read_text()
        for wanted in re.findall(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\n]+)["']""", text):
            assert wanted.startswith(("./", "../")), f"{path.name}: {wanted}"
            assert (path.parent / wanted).is_file(), f"{path.name}: {wanted}"


def test_no_directory_is_called_as_the_route_is() -> None:
    # base.js takes the last `/ui/` of an address for the route.
    assert not [path for path in STATIC.rglob("ui") if path.is_dir()]


def test_nothing_comes_from_anywhere_else() -> None:
    for path in (*sources(), *STATIC.glob("*.html"), *STATIC.glob("*.css")):
        text = path.read_text()
        found = re.findall(
            r"(?:https?:)?//[\w-]+\.[\w.-]+", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)
        )
        assert [each for each in found if "www.w3.org" not in each] == [], path.name


def test_no_script_of_ours_makes_markup_or_code_out_of_text() -> None:
    for path in sources():
        text = path.read_text()
        sinks = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc"
        )
        assert not re.search(sinks, text), path.name
        assert "dangerouslySetInnerHTML" not in text, path.name


def test_the_page_has_trusted_types_and_no_script_or_style_of_its_own() -> None:
    text = (STATIC / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1] == "require-trusted-types-for 'script'; trusted-types stepflow-worker"
    # A policy in the page holds for what stands behind it.
    assert text.index("Content-Security-Policy") < text.index("<link")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=|<base", text)


# ---------------------------------------------------------------- libraries


def packages() -> list[dict[str, Any]]:
    return json.loads((VENDOR / "manifest.json").read_text())["packages"]


def test_every_library_is_the_file_that_the_manifest_names() -> None:
    listed = {file["path"]: file["sha256"] for package in packages() for file in package["files"]}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "manifest.json"
    }
    assert there == listed


def test_every_library_has_a_version_a_hash_and_its_licence() -> None:
    for package in packages():
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])
        (licence,) = [f for f in package["files"] if f["path"].endswith("-license.txt")]
        text = (VENDOR / licence["path"]).read_text()
        assert {"MIT": "MIT", "Apache-2.0": "Apache License"}[package["license"]] in text


# ---------------------------------------------------------------- the packages


def test_wheel_and_source_archive_hold_every_file(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / ".venv" / "bin" / "uv", "build", "--quiet", "--out-dir", tmp_path, ROOT],
        check=True,
        timeout=110,
    )
    wanted = {path.relative_to(ROOT).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    (wheel,) = tmp_path.glob("*.whl")
    (archive,) = tmp_path.glob("*.tar.gz")
    assert wanted - set(zipfile.ZipFile(wheel).namelist()) == set()
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert wanted - names == set()
