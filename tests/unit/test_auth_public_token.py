"""Public access tokens: what they open, how they are forged in vain, and their exact bytes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stat
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.public_token import (
    TokenSigner,
    load_or_create_token_key,
    token_keys_from_env,
)
from stepflow.errors import ConfigurationError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
RUN = "run_0123456789ABCDEFabcdef"
OTHER = "run_zzzzzzzzzzzzzzzzzzzzzz"
END_MS = 1_700_000_000_000
SIGNER = TokenSigner(KEY)
GOLDEN = (
    "pat_AQGTPZdPAYvP5WgAcnVuXzAxMjM0NTY3ODlBQkNERUZhYm"
    "NkZWZ9xhxxySRKsMOEasqhKcbaH6IaF6yKPuPof07Z5f3Bug"
)


def raw(token: str) -> bytes:
    text = token.removeprefix("pat_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def text(content: bytes) -> str:
    return "pat_" + base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed(body: bytes, key: bytes = KEY, domain: bytes = b"stepflow-pat-v1\0") -> str:
    return text(body + hmac.digest(key, domain + body, "sha256"))


def test_a_token_reads_its_run_and_no_other_and_nothing_else():
    principal = SIGNER.verify(SIGNER.sign_run(RUN, END_MS), END_MS - 1)
    assert principal is not None
    assert principal.kind == "token"
    assert principal.scopes == {"read"}
    assert principal.may_read(RUN)
    assert not principal.may_read(OTHER)
    assert not principal.reads_everything
    assert principal.expires_ms == END_MS


def test_a_token_for_several_runs_reads_those():
    principal = SIGNER.verify(SIGNER.sign_runs([RUN, OTHER, RUN], END_MS), 0)
    assert principal is not None
    assert principal.run_ids == {RUN, OTHER}


def test_a_token_for_a_tag_reads_the_runs_that_bear_it():
    principal = SIGNER.verify(SIGNER.sign_tag("kunde:é", END_MS), 0)
    assert principal is not None
    assert principal.may_read(RUN, ["other", "kunde:é"])
    assert not principal.may_read(RUN, ["other"])
    assert not principal.may_read(RUN)
    assert not principal.reads_everything


@pytest.mark.parametrize("count", [0, 101])
def test_a_token_names_at_least_one_run_and_not_too_many(count):
    with pytest.raises(InvalidInputError, match="1 to 100 runs"):
        SIGNER.sign_runs([f"run_{n:022}" for n in range(count)], END_MS)


def test_the_bytes_of_a_token_are_the_documented_ones():
    key_id = hashlib.sha256(b"stepflow-pat-key-id\0" + KEY).digest()[:4]
    body = b"\x01\x01" + key_id + END_MS.to_bytes(6, "big") + RUN.encode()
    assert SIGNER.sign_run(RUN, END_MS) == signed(body)


def test_a_token_of_format_1_stays_good():
    assert SIGNER.sign_run(RUN, END_MS) == GOLDEN
    assert SIGNER.verify(GOLDEN, END_MS - 1) is not None


def test_a_token_ends_with_its_last_millisecond():
    token = SIGNER.sign_run(RUN, END_MS)
    assert SIGNER.verify(token, END_MS - 1) is not None
    assert SIGNER.verify(token, END_MS) is None


@pytest.mark.parametrize("length", range(8, 14))
def test_any_flipped_bit_of_the_bytes_is_refused(length):
    content = raw(SIGNER.sign_run("run_" + "a" * length, END_MS))
    for bit in range(8 * len(content)):
        forged = bytearray(content)
        forged[bit // 8] ^= 1 << bit % 8
        assert SIGNER.verify(text(bytes(forged)), 0) is None


@pytest.mark.parametrize("length", range(8, 14))
def test_any_flipped_bit_of_the_text_is_refused(length):
    token = SIGNER.sign_run("run_" + "a" * length, END_MS)
    for bit in range(8 * len(token)):
        forged = bytearray(token.encode())
        forged[bit // 8] ^= 1 << bit % 8
        assert SIGNER.verify(forged.decode("latin-1"), 0) is None


def test_every_piece_of_a_token_is_refused():
    token = SIGNER.sign_run(RUN, END_MS)
    for length in range(len(token)):
        assert SIGNER.verify(token[:length], 0) is None
        assert SIGNER.verify(token[length + 1 :], 0) is None


BODY = raw(GOLDEN)[:-32]
TOKENS = (SIGNER.sign_run(RUN, END_MS + n) for n in range(1000))
DASHED = next(token for token in TOKENS if "-" in token)
FORGERIES = {
    "another server's key": TokenSigner(bytes(32)).sign_run(RUN, END_MS),
    "another domain": signed(BODY, domain=b"stepflow-session-v1\0"),
    "no domain": signed(BODY, domain=b""),
    "another version": signed(b"\x02" + BODY[1:]),
    "a foreign key under our key id": signed(BODY, key=b"x" * 32),
    "another run": text(BODY.replace(b"cdef", b"cdeg") + raw(GOLDEN)[-32:]),
    "a later end": text(BODY[:6] + b"\x7f" * 6 + BODY[12:] + raw(GOLDEN)[-32:]),
    "a shorter mac": text(BODY + hmac.digest(KEY, b"stepflow-pat-v1\0" + BODY, "sha256")[:16]),
    "no subject": signed(BODY[:12]),
    "upper case": GOLDEN.upper(),
    "no prefix": GOLDEN.removeprefix("pat_"),
    "padding": GOLDEN + "=",
    "a line feed": GOLDEN + "\n",
    "a space": " " + GOLDEN,
    "a stray character that decoders skip": GOLDEN[:20] + "!" + GOLDEN[20:],
    "the standard alphabet": "pat_" + base64.b64encode(raw(DASHED)).rstrip(b"=").decode(),
    "not ASCII": GOLDEN[:-1] + "é",
    "empty": "",
    "a prefix alone": "pat_",
    "10 MB": "pat_" + "A" * 10_000_000,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_is_nobodys(name):
    assert SIGNER.verify(FORGERIES[name], 0) is None


def test_an_older_key_verifies_and_the_first_one_signs():
    new = TokenSigner(b"n" * 32, KEY)
    assert new.verify(GOLDEN, 0) is not None
    assert SIGNER.verify(new.sign_run(RUN, END_MS), 0) is None
    assert TokenSigner(b"n" * 32).verify(new.sign_run(RUN, END_MS), 0) is not None


def test_the_key_is_made_once_private_and_stays(tmp_path: Path):
    path = tmp_path / "token.key"
    key = load_or_create_token_key(path)
    assert len(key) == 32
    assert path.read_text() == key.hex() + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_token_key(path) == key
    assert [each.name for each in tmp_path.iterdir()] == ["token.key"]


@pytest.mark.parametrize("content", ["", "zz" * 32, "00" * 31, "\xff" * 64])
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content):
    path = tmp_path / "token.key"
    path.touch(0o600)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match="openssl rand -hex 32"):
        load_or_create_token_key(path)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path):
    path = tmp_path / "token.key"
    load_or_create_token_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_or_create_token_key(path)


def test_the_environment_names_the_signing_key_first():
    keys = token_keys_from_env({"STEPFLOW_TOKEN_KEY": "aa" * 32 + ", " + KEY.hex()})
    assert keys == (b"\xaa" * 32, KEY)
    assert token_keys_from_env({}) == ()
    with pytest.raises(ConfigurationError) as caught:
        token_keys_from_env({"STEPFLOW_TOKEN_KEY": "my-secret-words"})
    assert "my-secret-words" not in str(caught.value)


def test_a_signer_does_not_show_its_key():
    assert KEY.hex() not in repr(SIGNER)
    assert repr(KEY) not in repr(SIGNER)
