"""API keys: what is one, what is kept of it, and who it stands for."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from stepflow.auth.api_key import (
    ApiKey,
    KeyRing,
    create_default_key,
    digest_of,
    is_made_key,
    keys_from_env,
    load_default_key,
    make_key,
    plain_key,
)
from stepflow.auth.principal import ALL_SCOPES
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

KEY = "correct-horse-battery-staple"


def test_a_key_of_the_environment_has_all_scopes_and_is_named_after_its_digest():
    (key,) = keys_from_env({"STEPFLOW_API_KEYS": KEY})
    principal = KeyRing([key]).find(KEY, now_ms=0)
    assert principal is not None
    assert principal.name == "key-" + hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert principal.id == "key:" + principal.name
    assert principal.scopes == ALL_SCOPES
    assert principal.reads_everything


def test_several_keys_are_separated_by_commas():
    keys = keys_from_env({"STEPFLOW_API_KEYS": f"{KEY}, {'b' * 16},{'c' * 256}"})
    ring = KeyRing(keys)
    assert len(ring) == 3
    assert all(ring.find(text, 0) for text in (KEY, "b" * 16, "c" * 256))


def test_without_the_variable_there_is_no_key():
    assert keys_from_env({}) == ()
    assert keys_from_env({"STEPFLOW_API_KEYS": "  "}) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("short-key-secret"[:15], "has 15 characters"),
        ("x" * 257, "has 257 characters"),
        (f"{KEY},", "key 2 is empty"),
        ("a key with blanks in it", "not visible ASCII"),
        ("pässword-pässword", "not visible ASCII"),
        ("tab\tin-the-middle-of", "not visible ASCII"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_showing_it(text, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        keys_from_env({"STEPFLOW_API_KEYS": text})
    assert text not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", KEY[:-1], KEY + "x", KEY.upper(), " " + KEY, KEY + "\n", "\ud800" * 20, "x" * 10_000_000],
)
def test_nothing_but_the_key_is_the_key(text):
    assert KeyRing([plain_key(KEY)]).find(text, 0) is None


def test_no_bit_of_a_key_may_change():
    ring = KeyRing([plain_key(KEY)])
    for bit in range(8 * len(KEY)):
        forged = bytearray(KEY.encode())
        forged[bit // 8] ^= 1 << bit % 8
        assert ring.find(forged.decode("latin-1"), 0) is None


def test_an_expired_key_is_nobodys():
    ring = KeyRing([ApiKey("temp", digest_of(KEY), expires_ms=1000)])
    assert ring.find(KEY, 999) is not None
    assert ring.find(KEY, 1000) is None


def test_of_a_key_only_its_digest_is_kept_and_not_even_that_is_shown():
    key = plain_key(KEY)
    ring = KeyRing([key])
    assert KEY not in repr(key) + repr(ring) + repr(ring.find(KEY, 0))
    assert key.digest == hashlib.sha256(KEY.encode()).digest()
    assert repr(key.digest) not in repr(key)


class TestMadeKeys:
    def test_a_made_key_has_id_secret_and_checksum(self):
        text, key_id = make_key(lambda count: bytes(range(count)))
        assert text == f"sf_{key_id}_{text[12:55]}_{text[56:]}"
        assert len(key_id) == 8
        assert len(text) == 62
        assert is_made_key(text)

    def test_the_form_of_a_made_key_does_not_change(self):
        text, key_id = make_key(lambda count: bytes(range(count)))
        assert key_id == "IYT0XLWR"
        assert text == "sf_IYT0XLWR_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_0FvHi5"

    def test_two_made_keys_differ(self):
        assert make_key() != make_key()

    def test_a_typing_error_is_known_without_a_look_up(self):
        text, _ = make_key()
        for place in range(len(text)):
            wrong = "a" if text[place] != "a" else "b"
            assert not is_made_key(text[:place] + wrong + text[place + 1 :])

    @pytest.mark.parametrize("text", ["", "sf_", "sf_a_b_c", KEY, "sf_" + "a" * 59])
    def test_other_texts_are_no_made_keys(self, text):
        assert not is_made_key(text)


class TestDefaultKey:
    def test_it_is_kept_in_a_private_file(self, tmp_path: Path):
        path = tmp_path / "api.key"
        assert load_default_key(path) is None
        text = create_default_key(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert load_default_key(path) == text
        assert is_made_key(text)

    def test_a_file_that_others_may_read_is_refused(self, tmp_path: Path):
        path = tmp_path / "api.key"
        create_default_key(path)
        path.chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            load_default_key(path)

    def test_a_file_that_holds_no_key_is_refused_without_showing_it(self, tmp_path: Path):
        path = tmp_path / "api.key"
        text = create_default_key(path)
        path.write_text(text[:-1])
        with pytest.raises(ConfigurationError, match="holds no key") as caught:
            load_default_key(path)
        assert text[:-1] not in str(caught.value)

    def test_what_is_no_short_plain_file_is_refused(self, tmp_path: Path):
        (tmp_path / "long").touch(0o600)
        (tmp_path / "long").write_text("a" * 2000)
        with pytest.raises(ConfigurationError, match="longer than 1024 bytes"):
            load_default_key(tmp_path / "long")
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe", 0o600)
        for name in ("folder", "pipe"):
            with pytest.raises(ConfigurationError, match="not a plain file"):
                load_default_key(tmp_path / name)
