"""Published corpora, read from `CORPUS_DIR` and never kept here.

==================================== ===========================================================
found below `CORPUS_DIR`              what it is
==================================== ===========================================================
`…/test_parsing/[yni]_*.json`         nst/JSONTestSuite: taken, refused, or either
`…/json_web_signature_test.json`      C2SP/wycheproof: keys, and signatures good and bad
==================================== ===========================================================
"""

from __future__ import annotations

import base64
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepflow.auth.jwks import Jwks, VerifyKey, keys_of_set
from stepflow.auth.jwt_bearer import ClaimRules, JwtBearer
from stepflow.clock import SystemClock
from stepflow.config import Settings
from stepflow.errors import ConfigurationError
from tests.attacks.door import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.door import Door

__all__ = ["JsonVerdict", "corpus_files", "json_verdicts", "signature_verdicts"]

# What the log says of a token whose signature was good, and whose claims are none.
SIGNATURE_WAS_GOOD = ("the payload is not JSON", "the payload is not an object")


def corpus_files(pattern: str) -> list[Path]:
    """Return the files that match; skip the test, loudly, where there is no corpus."""
    where = os.environ.get("CORPUS_DIR", "")
    if not where:
        pytest.skip("platform: CORPUS_DIR names no directory with the published corpora")
    found = sorted(Path(where).rglob(pattern))
    if not found:
        pytest.skip(f"platform: nothing in CORPUS_DIR={where} matches {pattern}")
    return found


@dataclass(frozen=True)
class JsonVerdict:
    """What the suite says of a text (`y`, `n`, `i`) and what the server answered."""

    name: str
    wanted: str
    status: int

    @property
    def is_right(self) -> bool:
        return self.status in {"y": (200,), "n": (400,), "i": (200, 400)}[self.wanted]


def json_verdicts(door: Door, files: list[Path]) -> list[JsonVerdict]:
    """Send each file as the input of a run."""
    return [
        JsonVerdict(path.name, path.name[0], door.ask(_trigger(door, path.read_bytes())).status)
        for path in files
    ]


def _trigger(door: Door, body: bytes) -> Request:
    return Request("POST", "/trigger/echo", door.as_admin(), body)


@dataclass(frozen=True)
class SignatureVerdict:
    """What the suite says of a signature, and whether we took it for good."""

    name: str
    wanted: str
    taken: bool


async def signature_verdicts(document: dict[str, Any]) -> list[SignatureVerdict]:
    """Try every vector against a server that has its group's key and nothing else."""
    verdicts: list[SignatureVerdict] = []
    for group in document["testGroups"]:
        bearer = _bearer(group)
        for test in group["tests"]:
            taken = bearer is not None and await _is_taken(bearer, test["jws"])
            name = f"{test['tcId']} {group.get('comment', '')} {test['comment']}"
            verdicts.append(SignatureVerdict(name, test["result"], taken))
    return verdicts


def _bearer(group: dict[str, Any]) -> JwtBearer | None:
    """Return a server's view of the group's key; None for a key that no server of ours takes."""
    key: dict[str, Any] = group.get("public") or group.get("key") or group["private"]
    if key.get("kty") == "oct":
        if key.get("alg") != "HS256" or key.get("use", "sig") != "sig":
            return None
        if "verify" not in key.get("key_ops", ["verify"]):
            return None
        padded = key["k"] + "=" * (-len(key["k"]) % 4)
        keys = [VerifyKey(None, "HS256", base64.urlsafe_b64decode(padded))]
    else:
        try:
            keys = keys_of_set(json.dumps({"keys": [key]}).encode())
        except ConfigurationError:
            return None
    clock, settings = SystemClock(), Settings()
    # A secret of the environment has no id of its own; a key of a set has the one it says.
    return JwtBearer(_AnyId(keys, clock, settings), clock, ClaimRules())


class _AnyId(Jwks):
    """The one key, whatever id a token names: the suite is about signatures."""

    async def find(self, kid: object) -> VerifyKey | None:
        return await super().find(kid) or await super().find(None)


async def _is_taken(bearer: JwtBearer, token: str) -> bool:
    said: list[str] = []
    log = logging.getLogger("stepflow.auth")
    handler = _Hears(said)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        principal = await bearer.verify(token)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return principal is not None or any(reason in said[-1] for reason in SIGNATURE_WAS_GOOD)


class _Hears(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def vectors(rows: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Return groups in the published shape, for a corpus of our own."""
    return {"testGroups": list(rows)}
