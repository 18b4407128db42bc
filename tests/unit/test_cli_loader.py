"""`serve`'s TARGET: a file or a module, with or without a name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stepflow.cli.loader import load_target, split_target, target_directory
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = "from stepflow import Stepflow\nflow = Stepflow(':memory:')\n"
TWO = ONE + "other = Stepflow(':memory:')\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Iterator[Path]:
    """A directory to stand in; the interpreter forgets afterwards what was loaded from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)) or name.startswith("loaded_"):
            del sys.modules[name]


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("target", "place", "name"),
    [
        ("shop.py", "shop.py", ""),
        ("shop.py:flow", "shop.py", "flow"),
        ("shop.py:", "shop.py", ""),
        ("acme.shop", "acme.shop", ""),
        ("acme.shop:flow", "acme.shop", "flow"),
        ("a:b/shop.py", "a:b/shop.py", ""),
        (r"C:\shop.py", r"C:\shop.py", ""),
        (r"C:\shop.py:flow", r"C:\shop.py", "flow"),
    ],
)
def test_the_name_stands_after_the_last_colon(target, place, name) -> None:
    assert split_target(target) == (place, name)


@pytest.mark.parametrize("suffix", ["", ":flow"])
def test_a_file_is_loaded_from_where_it_lies(suffix) -> None:
    path = write("deep/loaded_shop.py", ONE)
    flow = load_target(f"{path}{suffix}")
    assert flow is sys.modules["loaded_shop"].flow
    assert target_directory(f"{path}{suffix}") == path.resolve().parent


@pytest.mark.parametrize("suffix", ["", ":flow"])
def test_a_module_is_found_from_the_present_directory(suffix, place) -> None:
    write("loaded_acme/__init__.py", "")
    write("loaded_acme/shop.py", ONE)
    flow = load_target(f"loaded_acme.shop{suffix}")
    assert flow is sys.modules["loaded_acme.shop"].flow
    assert target_directory("loaded_acme.shop") == place


def test_a_file_imports_its_neighbours() -> None:
    write("deep/loaded_neighbour.py", ONE)
    path = write("deep/loaded_main.py", "from loaded_neighbour import flow\n")
    assert load_target(str(path)) is sys.modules["loaded_neighbour"].flow


def test_a_file_of_a_package_imports_relatively() -> None:
    write("loaded_pack/__init__.py", "")
    write("loaded_pack/flows.py", ONE)
    path = write("loaded_pack/app.py", "from .flows import flow\n")
    assert load_target(str(path)) is sys.modules["loaded_pack.flows"].flow


def test_the_same_file_is_loaded_once() -> None:
    path = write("loaded_once.py", ONE)
    assert load_target(str(path)) is load_target(f"{path}:flow")


def test_a_file_named_like_a_loaded_module_does_not_take_its_place() -> None:
    import queue

    path = write("queue.py", ONE)
    flow = load_target(str(path))
    assert sys.modules["queue"] is queue
    assert flow is sys.modules["stepflow_target_queue"].flow


def test_two_names_of_one_stepflow_are_no_choice() -> None:
    path = write("loaded_alias.py", ONE + "app = flow\n")
    assert load_target(str(path)) is sys.modules["loaded_alias"].flow


def test_a_private_stepflow_counts_when_there_is_no_other() -> None:
    both = write("loaded_both.py", ONE + "_mine = Stepflow(':memory:')\n")
    assert load_target(str(both)) is sys.modules["loaded_both"].flow
    alone = write("loaded_private.py", ONE.replace("flow =", "_flow ="))
    assert load_target(str(alone)) is sys.modules["loaded_private"]._flow


def test_two_stepflows_have_to_be_told_apart() -> None:
    path = write("loaded_two.py", TWO)
    with pytest.raises(ConfigurationError, match=r"say which: \S+:flow or \S+:other"):
        load_target(str(path))
    assert load_target(f"{path}:other") is sys.modules["loaded_two"].other


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("loaded_none.py", r"has no Stepflow: write `flow = Stepflow\(\)`"),
        ("loaded_one.py:flows", r"is nothing, not a Stepflow; say which: loaded_one\.py:flow"),
        ("loaded_one.py:Stepflow", "is a type, not a Stepflow; say which"),
        ("loaded_none.py:flow", "is nothing, not a Stepflow; it has no Stepflow"),
        ("loaded_away.py", "there is no file"),
        ("loaded_away", "there is no module 'loaded_away' in .*; for a file write its name"),
        ("loaded_away.shop", "there is no module 'loaded_away.shop'"),
    ],
)
def test_a_target_that_cannot_be_used_is_named(target, said) -> None:
    write("loaded_none.py", "")
    write("loaded_one.py", ONE)
    with pytest.raises(ConfigurationError, match=said):
        load_target(target)


@pytest.mark.parametrize("target", ["loaded_broken.py", "loaded_broken"])
def test_what_the_code_itself_raises_comes_through(target) -> None:
    write("loaded_broken.py", "import loaded_missing\n")
    with pytest.raises(ModuleNotFoundError, match="loaded_missing"):
        load_target(target)
    assert "loaded_broken" not in sys.modules
