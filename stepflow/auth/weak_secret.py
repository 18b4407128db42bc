"""Which HMAC secrets anyone would try: nothing in them but words of manuals, runs and repetitions.

Length alone says little: `a-string-secret-at-least-256-bits-long` is what a well-known web page
offers, `secretsecretsecretsecretsecretsecret` is what is typed when the start asks for more. One
token is enough to try millions of such texts a second without asking the server. So a secret has to
hold something beside such words; how much a text is really worth nobody can compute.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

__all__ = ["why_guessable"]

_PERIOD_MIN: Final = 16
_DIFFERENT_MIN: Final = 8
_OWN_CHARS_MIN: Final = 8
_TOKENS: Final = re.compile(r"[^\W_]+")
_DIGITS: Final = re.compile(r"[0-9]+")
_RUNS: Final = (
    "01234567890123456789",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz" * 2,
    "zyxwvutsrqponmlkjihgfedcba",
    "qwertyuiopasdfghjklzxcvbnm",
)
# What manuals, tutorials, templates and impatience put there.
_WORDS: Final = frozenset(
    re.findall(
        r"\w+",
        """
    a access admin an and api app application at auth bearer bit bits bytes byte change changeit
    changeme changethis char character characters chars code content data db default demo dev
    development dont example fake fixme foo bar baz for from generate have here hello hmac hs256 i
    iloveyou in insecure insert is it jwt keep key keyboard least less letmein local long longer
    master me min minimum more must my need new no not of one only or our p4ssw0rd pass passphrase
    passw0rd password please private prod production public put qwerty random replace safe sample
    sandbox secret secrets secretkey secure server service session sha sha256 shared should sign
    signature signed signing staging stepflow store string super supersecret test testing than that
    the there this to todo token tokens top unsafe use user value very welcome with word world you
    your
    """,
    )
)
_PIECE_CHARS_MAX: Final = 26


def why_guessable(text: str) -> str | None:
    """Return what is wrong with the secret, for a message that does not show it; None: nothing."""
    if len(set(text)) < _DIFFERENT_MIN:
        return f"has fewer than {_DIFFERENT_MIN} different characters"
    if 2 * (period := _period(text)) <= len(text) and period < _PERIOD_MIN:
        return "repeats one short text"
    own = sum(len(token) for token in _TOKENS.findall(text.lower()) if not _is_common(token))
    return "is made of words that everybody tries" if own < _OWN_CHARS_MIN else None


def _period(text: str) -> int:
    """Return the length of the shortest text of which `text` is a repetition, the last cut off."""
    return next(n for n in range(1, len(text) + 1) if text.startswith(text[n:]))


def _is_common(token: str) -> bool:
    """Say whether the token can be read as common words, runs and numbers, one behind the other."""

    @cache
    def readable(start: int) -> bool:
        if start == len(token):
            return True
        if digits := _DIGITS.match(token, start):
            return _is_common_number(digits[0]) and readable(digits.end())
        longest = min(len(token) - start, _PIECE_CHARS_MAX)
        return any(
            _is_common_word(token[start : start + size]) and readable(start + size)
            for size in range(longest, 0, -1)
        )

    # Longer than any sentence of a manual; and the recursion is bounded.
    return len(token) <= 256 and readable(0)


def _is_common_word(piece: str) -> bool:
    return piece in _WORDS or (len(piece) > 2 and any(piece in run for run in _RUNS))


def _is_common_number(digits: str) -> bool:
    return len(digits) <= 4 or any(digits in run for run in _RUNS)
