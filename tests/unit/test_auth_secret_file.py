"""Secrets from files: which are read, and what refuses the start without showing the secret."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import create_default_key, load_default_key
from stepflow.auth.chain import AuthChain
from stepflow.auth.public_token import load_or_create_token_key
from stepflow.auth.secret_file import SECRET_NAMES, read_secret, with_secret_files, write_secret
from stepflow.cli.access import prepare_access
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.errors import ConfigurationError, DiskFailedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "k7Qz!p3Wv9hT2mXc-k7Qz!p3Wv9hT2mX"


def a_file(directory: Path, content: bytes = SECRET.encode(), mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440])
def test_each_secret_may_stand_in_a_file(tmp_path: Path, name: str, mode: int) -> None:
    path = a_file(tmp_path, f"  {SECRET}\n".encode(), mode)
    found = with_secret_files({f"{name}_FILE": str(path), "A": "b"})
    assert (found[name], found["A"]) == (SECRET, "b")


def test_without_such_a_variable_the_environment_is_itself() -> None:
    environ = {"STEPFLOW_API_KEYS": "a", "STEPFLOW_JWT_JWKS_FILE": "no such variable"}
    assert with_secret_files(environ) is environ


def a_world_readable_one(directory: Path) -> Path:
    return a_file(directory, mode=0o644)


def a_group_writable_one(directory: Path) -> Path:
    return a_file(directory, mode=0o660)


def a_missing_one(directory: Path) -> Path:
    return directory / "none"


def an_empty_one(directory: Path) -> Path:
    return a_file(directory, b" \n")


def one_that_is_no_text(directory: Path) -> Path:
    return a_file(directory, b"\xff" * 40)


def one_that_is_too_long(directory: Path) -> Path:
    return a_file(directory, b"a" * 70_000)


def a_directory(directory: Path) -> Path:
    return directory


def a_pipe(directory: Path) -> Path:
    os.mkfifo(directory / "pipe", 0o600)
    return directory / "pipe"


def one_below_a_file(directory: Path) -> Path:
    return a_file(directory) / "secret"


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (a_world_readable_one, "others may read it"),
        (a_group_writable_one, "others may read it"),
        (a_missing_one, "there is no"),
        (an_empty_one, "nothing is in"),
        (one_that_is_no_text, "no UTF-8"),
        (one_that_is_too_long, "longer than"),
        (a_directory, "not a plain file"),
        (a_pipe, "not a plain file"),
        (one_below_a_file, "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_refuses_the_start(
    tmp_path: Path, name: str, make: Callable[[Path], Path], problem: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        AuthChain.from_env({f"{name}_FILE": str(path)}, None, Settings(), SystemClock())
    assert caught.value.exit_code == 64
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_given_both_ways_refuses_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        with_secret_files({name: SECRET, f"{name}_FILE": str(a_file(tmp_path))})


def test_a_key_of_a_file_opens_the_door(tmp_path: Path) -> None:
    environ = {"STEPFLOW_API_KEYS_FILE": str(a_file(tmp_path))}
    chain = AuthChain.from_env(environ, None, Settings(), SystemClock())
    principal = asyncio.run(chain.authenticate({"x-api-key": SECRET}.get))
    assert principal.kind == "key"


@pytest.mark.parametrize("name", ["STEPFLOW_API_KEYS_FILE", "STEPFLOW_JWT_SECRET_FILE"])
def test_no_key_is_made_where_a_file_holds_one(tmp_path: Path, name: str) -> None:
    access = prepare_access(str(tmp_path / "data"), {name: str(tmp_path)}, no_auth=False)
    assert (access.made, access.handler) == (None, None)
    assert name in access.said


def test_what_is_written_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_secret(path, b"one")
    write_secret(path, b"two")
    assert read_secret(path, 3) == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    with pytest.raises(ConfigurationError, match="longer than 2 bytes"):
        read_secret(path, 2)


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_disk_that_does_not_keep_a_secret_is_told_as_a_failed_disk(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DiskFailedError, match=r"token\.key: Input/output error\. Check the disk"):
        load_or_create_token_key(tmp_path / "token.key")
    with pytest.raises(DiskFailedError, match=r"api\.key"):
        create_default_key(tmp_path / "api.key")


def test_a_secret_that_cannot_be_read_is_told_as_a_failed_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token.key"
    load_or_create_token_key(path)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(DiskFailedError, match=r"token\.key"):
        load_or_create_token_key(path)
    with pytest.raises(DiskFailedError, match=r"token\.key"):
        load_default_key(path)
