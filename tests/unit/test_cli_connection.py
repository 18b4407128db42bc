"""Which server a command talks to, and who gets to see the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import create_default_key
from stepflow.cli.access import prepare_access
from stepflow.cli.banner import banner, curl_of
from stepflow.cli.connection import default_data_dir, find_key, is_loopback, server_url
from stepflow.cli.errors import Failure, failing
from stepflow.errors import ConfigurationError, DiskFailedError, api_error

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, dict[str, str]]:
    key = create_default_key(tmp_path / "api.key")
    return key, {"STEPFLOW_DATA_DIR": str(tmp_path)}


@pytest.mark.parametrize("url", [LOCAL, "http://localhost/api", "http://[::1]:8000"])
def test_the_key_of_the_first_start_goes_to_this_machine(data, url) -> None:
    key, environ = data
    assert find_key(url, environ) == key


@pytest.mark.parametrize(
    "url", ["https://stepflow.example", "http://10.0.0.1:8000", "http://127.0.0.1.evil.example"]
)
def test_a_key_that_was_found_goes_nowhere_else(data, url) -> None:
    assert find_key(url, data[1]) is None


def test_a_key_that_was_given_goes_where_it_was_told(data) -> None:
    environ = data[1] | {"STEPFLOW_API_KEY": "given"}
    assert find_key("https://stepflow.example", environ) == "given"


def test_a_key_file_that_others_may_read_is_left_alone(data, tmp_path) -> None:
    (tmp_path / "api.key").chmod(0o644)
    assert find_key(LOCAL, data[1]) is None


def test_the_defaults_are_those_of_serve() -> None:
    assert (server_url({}), default_data_dir({})) == (LOCAL, "stepflow-data")


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("", False)],  # noqa: S104
)
def test_loopback_is_told_by_the_address(host, local) -> None:
    assert is_loopback(host) is local


# ------------------------------------------------------------ access


def test_a_key_is_made_once(tmp_path) -> None:
    first = prepare_access(str(tmp_path / "d"), {}, no_auth=False)
    second = prepare_access(str(tmp_path / "d"), {}, no_auth=False)
    assert first.made is not None
    assert (second.made, second.key_file) == (None, first.key_file)


@pytest.mark.parametrize("name", ["STEPFLOW_API_KEYS", "STEPFLOW_JWT_SECRET", "STEPFLOW_JWT_JWKS"])
def test_no_key_is_made_where_credentials_are_configured(tmp_path, name) -> None:
    access = prepare_access(str(tmp_path), {name: "x" * 40}, no_auth=False)
    assert (access.made, list(tmp_path.iterdir())) == (None, [])
    assert name in access.said


def test_no_key_is_made_without_authentication(tmp_path) -> None:
    access = prepare_access(str(tmp_path), {}, no_auth=True)
    assert (access.open_to_all, list(tmp_path.iterdir())) == (True, [])
    assert "no-auth" in banner(LOCAL, access, [], data_dir="d", recovered="")
    assert "X-API-Key" not in banner(LOCAL, access, [], data_dir="d", recovered="")


def test_a_directory_that_cannot_be_made_is_the_disks_failure(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailedError, match="cannot make the data directory"):
        prepare_access(str(tmp_path / "file" / "d"), {}, no_auth=False)


def test_the_copied_command_holds_no_key(tmp_path) -> None:
    from stepflow import Context, Stepflow

    flow = Stepflow()

    @flow.workflow()
    async def shop(ctx: Context, name: str) -> None: ...

    access = prepare_access(str(tmp_path / "with space"), {}, no_auth=False)
    command = curl_of(LOCAL, access, flow.registry.all()[0].view())
    assert access.made is not None
    assert access.made not in command
    assert f"$(cat '{tmp_path}/with space/api.key')" in command


# ------------------------------------------------------------ exit codes


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_INPUT", 2),
        ("UNAVAILABLE", 3),
        ("UNAUTHORIZED", 4),
        ("FORBIDDEN", 4),
        ("OUTCOME_UNKNOWN", 5),
        ("RUN_NOT_FOUND", 6),
        ("CONFLICT", 1),
        ("INTERNAL", 1),
    ],
)
def test_an_answer_has_its_exit_status(code, status) -> None:
    with pytest.raises(Failure) as caught, failing():
        raise api_error(code, "what happened")
    assert (caught.value.exit_code, caught.value.message) == (status, "what happened")


def test_the_operators_errors_keep_their_status() -> None:
    with pytest.raises(Failure) as caught, failing():
        raise ConfigurationError("a bad setting")
    assert caught.value.exit_code == 64
