"""`serve`'s TARGET leads to one `Stepflow`, or to a message that names the choices."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from stepflow.cli.loader import load_target, split_target, target_directory
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

ONE = "from stepflow import Stepflow\nflow = Stepflow('{name}')\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(place: Path, name: str, text: str) -> Path:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("shop.py", ("shop.py", "")),
        ("shop.py:flow", ("shop.py", "flow")),
        ("acme.shop", ("acme.shop", "")),
        ("acme.shop:flow", ("acme.shop", "flow")),
        ("shop.py:", ("shop.py", "")),
        ("C:\\flows\\shop.py", ("C:\\flows\\shop.py", "")),
        ("C:\\flows\\shop.py:flow", ("C:\\flows\\shop.py", "flow")),
    ],
)
def test_a_target_is_a_place_and_perhaps_a_name(target, parts) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize("target", ["shop.py", "shop.py:flow", "./shop.py", "shop", "shop:flow"])
def test_a_file_and_a_module_lead_to_the_one_in_it(place, target) -> None:
    write(place, "shop.py", ONE.format(name="here"))
    assert load_target(target).data_dir == "here"


def test_a_file_imports_its_neighbours(place) -> None:
    write(place, "deep/inner.py", ONE.format(name="neighbour"))
    write(place, "deep/outer.py", "from inner import flow\n")
    assert load_target("deep/outer.py").data_dir == "neighbour"


def test_a_file_in_a_package_has_its_relative_imports(place) -> None:
    write(place, "acme/__init__.py", "")
    write(place, "acme/base.py", ONE.format(name="relative"))
    write(place, "acme/shop.py", "from .base import flow\n")
    flow = load_target("acme/shop.py")
    assert flow.data_dir == "relative"
    assert load_target("acme.shop") is flow


def test_a_file_named_like_a_known_module_is_itself(place) -> None:
    write(place, "queue.py", ONE.format(name="mine"))
    assert load_target("queue.py").data_dir == "mine"
    assert not hasattr(sys.modules["queue"], "flow")


def test_annotations_of_a_loaded_workflow_are_found(place) -> None:
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from stepflow import Context, Stepflow\nflow = Stepflow()\n"
        "@dataclass\nclass Order:\n    id: str\n"
        "@flow.workflow()\nasync def shop(ctx: Context, order: Order) -> None: ...\n"
    )
    write(place, "typed.py", text)
    assert "Order" in str(load_target("typed.py").registry.all()[0].view().input_schema)


def test_one_flow_under_two_names_is_one(place) -> None:
    write(place, "shop.py", ONE.format(name="same") + "app = flow\n")
    assert load_target("shop.py").data_dir == "same"


def test_two_flows_are_named_as_choices(place) -> None:
    write(place, "shop.py", "from stepflow import Stepflow\na = Stepflow()\nb = Stepflow()\n")
    with pytest.raises(ConfigurationError, match=r"say which: shop\.py:a or shop\.py:b"):
        load_target("shop.py")


def test_a_private_flow_does_not_compete_with_a_public_one(place) -> None:
    write(place, "shop.py", ONE.format(name="public") + "_other = Stepflow('private')\n")
    assert load_target("shop.py").data_dir == "public"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("none.py", "there is no file"),
        ("none", "for a file write its name with .py"),
        ("empty.py", r"write `flow = Stepflow\(\)` in it"),
        ("shop.py:none", "is nothing, not a Stepflow; say which: shop.py:flow"),
        ("shop.py:Stepflow", "is a type, not a Stepflow"),
    ],
)
def test_what_is_not_there_is_said(place, target, said) -> None:
    write(place, "empty.py", "")
    write(place, "shop.py", ONE.format(name="here"))
    with pytest.raises(ConfigurationError, match=said):
        load_target(target)


def test_what_a_target_lacks_itself_is_its_own_error(place) -> None:
    write(place, "shop.py", "import nowhere_to_be_found\n")
    for target in ("shop.py", "shop"):
        with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
            load_target(target)


def test_a_file_that_fails_leaves_no_half_module(place) -> None:
    write(place, "half.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_target("half.py")
    assert "half" not in sys.modules


def test_reload_watches_where_the_code_is(place) -> None:
    write(place, "deep/shop.py", "")
    assert target_directory("deep/shop.py:flow") == place / "deep"
    assert target_directory("acme.shop") == place
