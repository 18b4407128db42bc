"""Which HMAC secrets are refused as guessable, and that no random one ever is."""

from __future__ import annotations

import base64
import random

import pytest

from stepflow.auth.weak_secret import why_guessable

WORDS = [
    "a-string-secret-at-least-256-bits-long",
    "your-super-secret-jwt-key-that-is-at-least-32-characters-long",
    "your_jwt_secret_key_change_this_in_production",
    "PLEASE_CHANGE_ME_TO_A_LONG_RANDOM_STRING",
    "mysupersecretkey1234567890123456",
    "supersecretsupersecretsupersecret!",
    "abcdefghijklmnopqrstuvwxyz123456",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "0123456789abcdef0123456789abcdef",
    "Password123!Password2024!Passw0rd",
]


@pytest.mark.parametrize("text", WORDS)
def test_words_that_everybody_tries_are_no_secret(text: str) -> None:
    assert why_guessable(text) == "is made of words that everybody tries"


@pytest.mark.parametrize("text", ["x" * 32, "ü" * 16, "secret" * 6, "0" * 64, "abcabcab" * 9])
def test_few_different_characters_are_no_secret(text: str) -> None:
    assert why_guessable(text) == "has fewer than 8 different characters"


@pytest.mark.parametrize(
    "text", ["k7Qz!p3Wv9" * 4, "zX81$kqP" * 4 + "zX81", "12345678901234567890" * 2]
)
def test_a_short_text_again_and_again_is_no_secret(text: str) -> None:
    assert why_guessable(text) == "repeats one short text"


@pytest.mark.parametrize(
    "text",
    [
        "correct horse battery staple, and so on",
        "my secret key is f3a97c1b20d8e645",
        "k7Qz!p3Wv9hT2mXc" * 2,
        "31415926535897932384626433832795028841971",
        "a" * 300 + "k7Qz!p3W",
    ],
)
def test_what_holds_something_of_its_own_is_let_through(text: str) -> None:
    assert why_guessable(text) is None


def test_no_random_secret_is_refused() -> None:
    dice = random.Random(1)
    for _ in range(3000):
        raw = dice.randbytes(32)
        assert why_guessable(raw[:16].hex()) is None
        assert why_guessable(raw.hex()) is None
        assert why_guessable(base64.b64encode(raw).decode()) is None
        assert why_guessable(str(int.from_bytes(raw, "big"))) is None
