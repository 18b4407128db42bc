"""The commands as `--help` tells them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from stepflow import __version__
from stepflow.cli import errors
from stepflow.cli.main import main
from stepflow.cli.new import files_of
from stepflow.cli.reload import serve_command

ROOT = Path(__file__).resolve().parents[2]
ALL = ["serve", "trigger", "notify", "runs", "schedules", "token", "export", "keys", "check"]
ALL += ["verify", "dump", "backup", "repair", "migrate", "openapi", "types", "new", "bench"]


def cli(*words: str):
    return CliRunner().invoke(main, words)


def test_help_lists_every_command_with_what_it_does() -> None:
    answer = cli("--help")
    listed = [line.split()[0] for line in answer.output.partition("Commands:\n")[2].splitlines()]
    assert (answer.exit_code, listed) == (0, ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_command_explains_itself(name) -> None:
    answer = cli(name, "--help")
    assert answer.exit_code == 0
    assert answer.output.count("\n") > 5


def test_an_unknown_command_is_wrong_usage() -> None:
    answer = cli("serv")
    assert (answer.exit_code, "No such command" in answer.output) == (2, True)


def test_the_version_is_the_packages() -> None:
    assert cli("--version").output.strip().endswith(__version__)


def test_reload_starts_the_same_command_without_itself() -> None:
    command = serve_command(["serve", "shop.py", "--reload", "--port", "0"])
    assert command[-4:] == ["serve", "shop.py", "--port", "0"]


def test_a_directory_that_is_not_there_is_named(tmp_path) -> None:
    for words in (["verify"], ["dump"], ["repair", "--yes"]):
        answer = cli(*words, str(tmp_path / "none"))
        assert (answer.exit_code, "there is no directory" in answer.output) == (2, True)
    answer = cli("keys", "list", "--data", str(tmp_path / "none"))
    assert (answer.exit_code, "--data" in answer.output) == (2, True)


@pytest.mark.parametrize("words", [["create", "ci", "--expires-in", "soon"], ["create", ""]])
def test_a_key_that_cannot_be_made_says_why(tmp_path, words) -> None:
    answer = cli("keys", *words, "--data", str(tmp_path))
    assert answer.exit_code in {2, 64}
    assert "error:" in answer.output


def test_revoking_a_key_that_is_not_there_says_so(tmp_path) -> None:
    answer = cli("keys", "revoke", "nobody", "--data", str(tmp_path))
    assert (answer.exit_code, "stepflow keys list" in answer.output) == (6, True)


def test_repair_asks_first(tmp_path) -> None:
    answer = CliRunner().invoke(main, ["repair", str(tmp_path)], input="n\n")
    assert answer.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_new_projects_name_is_one_that_packages_may_have() -> None:
    assert 'name = "my-shop-2"' in files_of("My Shop_2!")["pyproject.toml"]
    assert 'name = "app"' in files_of("…")["pyproject.toml"]


def test_each_exit_status_is_documented_as_it_is_meant() -> None:
    table = re.findall(r"^(\d+) +(\S.*)$", errors.__doc__ or "", re.MULTILINE)
    rows = re.findall(
        r"^\| (\d+) \| (.*) \|$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE
    )
    assert len(table) > 10
    assert rows == table
