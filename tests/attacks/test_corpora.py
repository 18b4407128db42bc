"""The published corpora of JSON texts and signatures; and small ones of our own in their shape."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.attacks.corpora import (
    JsonVerdict,
    corpus_files,
    json_verdicts,
    signature_verdicts,
    vectors,
)
from tests.attacks.door import Door
from tests.attacks.json_cases import ACCEPTED, EITHER, REFUSED_JSON
from tests.attacks.jwt_forgeries import b64, signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The one text on which the contract decides otherwise: an empty body is `null`.
DECIDED = {"n_structure_no_data.json"}
SECRET = b"k7Qz!p3Wv9hT2mXc-Yb4Nr8Lf6Gd1Sj5"


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with Door() as opened:
        yield opened


def wrong(verdicts: list[JsonVerdict]) -> list[JsonVerdict]:
    return [each for each in verdicts if not each.is_right and each.name not in DECIDED]


def test_the_published_json_texts(door: Door) -> None:
    verdicts = json_verdicts(door, corpus_files("test_parsing/[yni]_*.json"))
    assert not wrong(verdicts)
    assert len(verdicts) > 300


def test_our_own_json_texts_in_the_published_shape(door: Door, tmp_path: Path) -> None:
    for kind, texts in (("y", ACCEPTED), ("n", REFUSED_JSON), ("i", EITHER)):
        for number, text in enumerate(texts.values()):
            (tmp_path / f"{kind}_{number}.json").write_bytes(text)
    verdicts = json_verdicts(door, sorted(tmp_path.iterdir()))
    assert not wrong(verdicts)
    assert len(verdicts) == len(ACCEPTED) + len(REFUSED_JSON) + len(EITHER)
    assert not JsonVerdict("n_1.json", "n", 200).is_right
    assert not JsonVerdict("y_1.json", "y", 400).is_right
    assert not JsonVerdict("i_1.json", "i", 500).is_right


def test_the_published_signatures() -> None:
    (path, *_) = corpus_files("json_web_signature_test.json")
    verdicts = asyncio.run(signature_verdicts(json.loads(path.read_bytes())))
    assert not [each.name for each in verdicts if each.wanted == "invalid" and each.taken]
    # Algorithms that we do not take are no mistake; that we take none would be one.
    assert sum(each.taken for each in verdicts) >= 10
    assert len(verdicts) > 300


def groups() -> Iterator[dict[str, Any]]:
    """Yield three keys, each with a good signature and bad ones."""
    ec_key, rsa_key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    oct_key = {"kty": "oct", "alg": "HS256", "use": "sig", "k": b64(SECRET)}
    good = signed({"alg": "HS256"}, "foo", SECRET)
    yield group("hs256", oct_key, good, signed({"alg": "HS256"}, "foo", SECRET[:-1]))
    yield group("hs256 for something else", {**oct_key, "use": "enc"}, None, good)
    yield group("hs512", {**oct_key, "alg": "HS512"}, None, good)
    for algorithm, key in (("ES256", ec_key), ("RS256", rsa_key)):
        maker = jwt.get_algorithm_by_name(algorithm)
        row: dict[str, Any] = json.loads(maker.to_jwk(key.public_key())) | {"kid": "k"}
        token = jwt.api_jws.encode(b"foo", key, algorithm, {"kid": "k"})
        yield group(algorithm, row, token, good)
        yield group(f"{algorithm} to encrypt", {**row, "key_ops": ["encrypt"]}, None, token)


def group(comment: str, key: dict[str, Any], good: str | None, bad: str) -> dict[str, Any]:
    rows = [("valid", good)] if good else []
    rows += [("invalid", bad), ("invalid", bad[:-1]), ("invalid", bad + "=")]
    if good:
        rows += [("invalid", good[:-2]), ("invalid", good.replace(".", "=.", 1))]
    tests = [
        {"tcId": number, "comment": "", "jws": text, "result": result}
        for number, (result, text) in enumerate(rows, 1)
    ]
    return {"comment": comment, "public": key, "tests": tests}


def test_our_own_signatures_in_the_published_shape() -> None:
    verdicts = asyncio.run(signature_verdicts(vectors(groups())))
    assert not [each.name for each in verdicts if each.taken != (each.wanted == "valid")]
    assert sum(each.taken for each in verdicts) == 3
