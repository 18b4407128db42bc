"""JWTs: what each attack of the checklist gets, and what a good token gives."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stepflow.auth.jwks import Jwks, VerifyKey, keys_of_set
from stepflow.auth.jwt_bearer import ClaimRules, JwtBearer
from stepflow.auth.principal import DEFAULT_SCOPES
from stepflow.config import Settings
from stepflow.errors import ConfigurationError, UnavailableError
from tests.attacks.jwt_forgeries import b64, forgeries, signed

if TYPE_CHECKING:
    from pathlib import Path

    from stepflow.clock import TimerHandle

SECRET = "a secret of 32 bytes or somewhat more"
NOW_S = 1_700_000_000
SETTINGS = Settings()


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def wall_ms(self) -> int:
        return int((NOW_S + self.now_s) * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: object) -> TimerHandle:
        raise NotImplementedError


CLOCK = ManualClock()


def forge(
    header: dict[str, Any] | str | None = None,
    claims: dict[str, Any] | str | None = None,
    secret: bytes = SECRET.encode(),
    digest: str = "sha256",
) -> str:
    """Return a token whose HMAC is right for `secret`, whatever header and claims say."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    claims = {"sub": "ann", "exp": NOW_S + 60} if claims is None else claims
    return signed(header, claims, secret, digest)


def bearer(**environ: str) -> JwtBearer:
    environ = environ or {"STEPFLOW_JWT_SECRET": SECRET}
    found = JwtBearer.from_env(environ, SETTINGS, CLOCK)
    assert found
    return found


async def name_of(token: str, **environ: str) -> str | None:
    principal = await bearer(**environ).verify(token)
    return None if principal is None else principal.name


class TestGoodTokens:
    @pytest.mark.asyncio
    async def test_a_token_of_another_library_is_good(self):
        token = jwt.encode({"sub": "ann", "exp": NOW_S + 60}, SECRET, "HS256")
        principal = await bearer().verify(token)
        assert principal is not None
        assert (principal.name, principal.kind, principal.id) == ("ann", "jwt", "jwt:ann")
        assert principal.scopes == DEFAULT_SCOPES
        assert not principal.has("admin")
        assert principal.reads_everything
        assert principal.expires_ms == (NOW_S + 60 + 30) * 1000

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            ("read", {"read"}),
            ("trigger read admin", {"trigger", "read", "admin"}),
            ("openid profile read email", {"read"}),
            ("openid", set()),
            ("", set()),
            ("READ", set()),
            ("read  notify", {"read", "notify"}),
        ],
    )
    async def test_the_scope_claim_gives_the_scopes_and_unknown_ones_give_nothing(
        self, scope, expected
    ):
        claims = {"exp": NOW_S + 60, "scope": scope}
        principal = await bearer().verify(forge(claims=claims))
        assert principal is not None
        assert principal.scopes == expected

    @pytest.mark.asyncio
    @pytest.mark.parametrize("claims", [{}, {"sub": ""}])
    async def test_without_a_subject_the_name_is_jwt(self, claims):
        assert await name_of(forge(claims={"exp": NOW_S + 60, **claims})) == "jwt"

    GOOD_CLAIMS: tuple[dict[str, Any], ...] = (
        {"exp": NOW_S - 29},
        {"exp": NOW_S + 60, "nbf": NOW_S + 30},
        {"exp": NOW_S + 60, "iat": NOW_S + 30},
        {"exp": NOW_S + 60, "iat": NOW_S - 10, "nbf": NOW_S - 10.5},
        {"exp": NOW_S + 86_400, "iat": NOW_S},
        {"exp": NOW_S + 10 * 86_400},
        {"exp": NOW_S + 60, "aud": "someone", "iss": "anyone"},
    )

    @pytest.mark.asyncio
    @pytest.mark.parametrize("claims", GOOD_CLAIMS, ids=str)
    async def test_times_within_the_leeway_and_claims_nobody_asked_about_are_good(self, claims):
        assert await name_of(forge(claims=claims)) == "jwt"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
    async def test_the_types_of_access_tokens_are_good(self, typ):
        assert await name_of(forge({"alg": "HS256", "typ": typ})) == "ann"

    @pytest.mark.asyncio
    @pytest.mark.parametrize("aud", ["stepflow", ["other", "stepflow"]])
    async def test_our_audience_alone_or_in_a_list_is_good(self, aud):
        token = forge(claims={"exp": NOW_S + 60, "aud": aud, "iss": "https://id.example"})
        found = await name_of(
            token,
            STEPFLOW_JWT_SECRET=SECRET,
            STEPFLOW_JWT_AUDIENCE="stepflow",
            STEPFLOW_JWT_ISSUER="https://id.example",
        )
        assert found == "jwt"


EXP = {"exp": NOW_S + 60}
BAD_TOKENS = forgeries(NOW_S, SECRET.encode())


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_bad_token_is_nobodys_and_is_not_in_the_log(name, caplog):
    caplog.set_level("DEBUG")
    token = BAD_TOKENS[name]
    assert await name_of(token) is None
    assert "a JWT was refused" in caplog.text
    if len(token) > 20:
        assert token.split(".")[-1][:20] not in caplog.text or not token.split(".")[-1]


@pytest.mark.asyncio
async def test_no_token_makes_us_call_out():
    with socket.create_server(("127.0.0.1", 0)) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/jwks"
        for name in ("jku", "x5u"):
            assert await name_of(forge({"alg": "HS256", name: url})) is None
        assert await name_of(forge(claims={**EXP, "iss": url})) == "jwt"
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()


@pytest.mark.asyncio
async def test_any_flipped_bit_of_a_token_is_refused():
    good, token = bearer(), forge()
    assert await good.verify(token) is not None
    for bit in range(8 * len(token)):
        forged = bytearray(token.encode())
        forged[bit // 8] ^= 1 << bit % 8
        assert await good.verify(forged.decode("latin-1")) is None


BAD_AUDIENCES: dict[str, dict[str, Any]] = {
    "no aud": {},
    "another aud": {"aud": "other"},
    "a list without ours": {"aud": ["other", "more"]},
    "an empty list": {"aud": []},
    "ours within a text": {"aud": "not stepflow"},
    "null": {"aud": None},
    "an object": {"aud": {"stepflow": 1}},
    "no iss": {"aud": "stepflow", "iss": None},
    "another iss": {"aud": "stepflow", "iss": "https://id.example.evil"},
    "a list of iss": {"aud": "stepflow", "iss": ["https://id.example"]},
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_AUDIENCES)
async def test_where_audience_and_issuer_are_set_others_are_refused(name):
    claims = {**EXP, "iss": "https://id.example", **BAD_AUDIENCES[name]}
    found = await name_of(
        forge(claims=claims),
        STEPFLOW_JWT_SECRET=SECRET,
        STEPFLOW_JWT_AUDIENCE="stepflow",
        STEPFLOW_JWT_ISSUER="https://id.example",
    )
    assert found is None


# ---------------------------------------------------------------- key sets

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"RS256": RSA_KEY, "ES256": EC_KEY, "EdDSA": ED_KEY}


def public_jwk(algorithm: str, **more: Any) -> dict[str, Any]:
    maker = jwt.get_algorithm_by_name(algorithm)
    return {**maker.to_jwk(PRIVATE[algorithm].public_key(), as_dict=True), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def with_set(*keys: dict[str, Any]) -> JwtBearer:
    return JwtBearer(Jwks(keys_of_set(key_set(*keys)), CLOCK, SETTINGS), CLOCK, ClaimRules())


def sign(algorithm: str, kid: str | None = None, key: Any = None) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(
        {"sub": "ann", "exp": NOW_S + 60}, key or PRIVATE[algorithm], algorithm, headers
    )


THREE = (
    public_jwk("RS256", kid="r", use="sig", alg="RS256"),
    public_jwk("ES256", kid="e"),
    public_jwk("EdDSA", kid="d", key_ops=["verify"]),
)


class TestKeySets:
    @pytest.mark.asyncio
    @pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "r"), ("ES256", "e"), ("EdDSA", "d")])
    async def test_each_algorithm_works_with_its_key(self, algorithm, kid):
        principal = await with_set(*THREE).verify(sign(algorithm, kid))
        assert principal is not None
        assert principal.name == "ann"

    @pytest.mark.asyncio
    async def test_a_token_without_key_id_is_good_with_exactly_one_key(self):
        token = sign("ES256")
        assert await with_set(THREE[1]).verify(token) is not None
        assert await with_set(*THREE).verify(token) is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "e"), ("ES256", "d"), ("EdDSA", "r")])
    async def test_a_key_is_good_for_its_own_algorithm_only(self, algorithm, kid):
        assert await with_set(*THREE).verify(sign(algorithm, kid)) is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
    async def test_another_algorithm_of_the_same_key_is_refused(self, algorithm):
        assert await with_set(*THREE).verify(sign(algorithm, "r", RSA_KEY)) is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("form", ["PEM", "DER", "JWK"])
    async def test_a_public_key_is_no_hmac_secret(self, form):
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        secret = {
            "PEM": RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, spki),
            "DER": RSA_KEY.public_key().public_bytes(serialization.Encoding.DER, spki),
            "JWK": json.dumps(THREE[0]).encode(),
        }[form]
        for header in ({"alg": "HS256", "kid": "r"}, {"alg": "HS256"}):
            assert await with_set(*THREE).verify(forge(header, secret=secret)) is None
            assert await with_set(THREE[0]).verify(forge(header, secret=secret)) is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kid", ["../../dev/null", "' OR 1=1", "R", "r ", "", "a" * 10_000])
    async def test_a_key_id_is_only_looked_up(self, kid):
        assert await with_set(*THREE).verify(sign("RS256", kid)) is None

    @pytest.mark.parametrize(
        "row",
        [
            {"kty": "oct", "kid": "s", "k": b64(SECRET)},
            public_jwk("RS256", use="enc"),
            public_jwk("RS256", key_ops=["encrypt"]),
            public_jwk("RS256", alg="RS512"),
            public_jwk("RS256", alg="HS256"),
            public_jwk("RS256", kid=7),
            {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "RSA", "e": "AQAB"},
            {"kty": "RSA", "e": "AQAB", "n": b64(b"\xff" * 128)},
            {},
        ],
        ids=lambda row: "-".join(str(row.get(name, "")) for name in ("kty", "crv", "alg", "use")),
    )
    def test_keys_for_something_else_are_left_out(self, row):
        assert [key.kid for key in keys_of_set(key_set(row, THREE[1]))] == ["e"]
        with pytest.raises(ConfigurationError, match="no RSA, P-256 or Ed25519 key"):
            keys_of_set(key_set(row))

    @pytest.mark.parametrize(
        "text",
        [b"", b"[]", b'{"keys": 1}', b'{"keys": {}}', b"{}", b"null", b'{"keys": ["a"]}', b"\xff"],
    )
    def test_what_is_no_key_set_is_refused(self, text):
        with pytest.raises(ConfigurationError, match="JWT key set"):
            keys_of_set(text)

    def test_key_ids_are_unique_and_complete(self):
        for twins in ((THREE[1], {**THREE[0], "kid": "e"}), (THREE[1], public_jwk("RS256"))):
            with pytest.raises(ConfigurationError, match="`kid` of its own"):
                keys_of_set(key_set(*twins))

    def test_of_a_private_key_only_the_public_half_is_kept(self):
        maker = jwt.get_algorithm_by_name("ES256")
        row = {**maker.to_jwk(EC_KEY, as_dict=True), "kid": "e"}
        assert "d" in row
        (key,) = keys_of_set(key_set(row))
        assert isinstance(key.key, ec.EllipticCurvePublicKey)


# ---------------------------------------------------------------- what the environment may say


class TestEnvironment:
    def test_without_settings_there_is_no_jwt(self):
        assert JwtBearer.from_env({}, SETTINGS, CLOCK) is None
        assert JwtBearer.from_env({"STEPFLOW_JWT_AUDIENCE": "a"}, SETTINGS, CLOCK) is None

    PEM = EC_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    SSH = ED_KEY.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )

    @pytest.mark.parametrize(
        ("secret", "problem"),
        [
            ("x" * 31, "31 bytes"),
            ("secret", "6 bytes"),
            (PEM.decode(), "PEM, SSH or JWK"),
            ("\n  " + PEM.decode(), "PEM, SSH or JWK"),
            (SSH.decode(), "PEM, SSH or JWK"),
            (json.dumps(THREE[0]), "PEM, SSH or JWK"),
            (key_set(*THREE).decode(), "PEM, SSH or JWK"),
            ("a-string-secret-at-least-256-bits-long", "everybody tries"),
            ("x" * 32, "different characters"),
        ],
        ids=["31 bytes", "6 bytes", "PEM", "indented PEM", "SSH", "JWK", "JWKS", "words", "x"],
    )
    def test_a_secret_that_is_short_public_or_guessable_refuses_the_start(self, secret, problem):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            bearer(STEPFLOW_JWT_SECRET=secret)
        assert caught.value.exit_code == 64
        assert secret not in str(caught.value)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "secret",
        ["0123456789abcdez" * 2, "äöüÄÖÜßéèê" + "ñ" * 6, '{"a": "text that looks like JSON"}'],
    )
    async def test_a_secret_of_32_bytes_is_enough(self, secret):
        token = forge(secret=secret.encode())
        assert await name_of(token, STEPFLOW_JWT_SECRET=secret) == "ann"

    def test_secret_and_key_set_together_refuse_the_start(self):
        with pytest.raises(ConfigurationError, match="not both"):
            bearer(STEPFLOW_JWT_SECRET=SECRET, STEPFLOW_JWT_JWKS="https://id.example/jwks")

    @pytest.mark.asyncio
    async def test_a_file_of_keys_is_read_at_the_start(self, tmp_path: Path):
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(*THREE))
        assert await name_of(sign("EdDSA", "d"), STEPFLOW_JWT_JWKS=str(path)) == "ann"

    def test_a_file_that_cannot_be_used_refuses_the_start(self, tmp_path: Path):
        path = tmp_path / "jwks.json"
        with pytest.raises(ConfigurationError, match="cannot read"):
            bearer(STEPFLOW_JWT_JWKS=str(path))
        path.write_text("{}")
        with pytest.raises(ConfigurationError, match=r"jwks\.json: the JWT key set is not"):
            bearer(STEPFLOW_JWT_JWKS=str(path))

    def test_without_cryptography_the_start_names_the_extra(self, monkeypatch):
        monkeypatch.setattr("stepflow.auth.jwks.has_crypto", False)
        with pytest.raises(ConfigurationError, match=r"stepflow\[jwks\]"):
            bearer(STEPFLOW_JWT_JWKS="https://id.example/jwks")

    @pytest.mark.parametrize("url", ["http://", "https:///jwks"])
    def test_a_url_without_a_host_refuses_the_start(self, url):
        with pytest.raises(ConfigurationError, match="no host"):
            bearer(STEPFLOW_JWT_JWKS=url)

    @pytest.mark.parametrize(
        ("url", "warns"),
        [
            ("http://id.example/jwks", True),
            ("https://id.example/jwks", False),
            ("http://127.0.0.1:9/jwks", False),
        ],
    )
    def test_plain_http_to_another_machine_is_warned_of(self, url, warns, caplog):
        bearer(STEPFLOW_JWT_JWKS=url)
        assert ("use https" in caplog.text) is warns

    def test_no_secret_is_shown(self):
        key = VerifyKey("a", "HS256", SECRET.encode())
        assert SECRET not in repr(key) + repr(bearer())


@pytest.mark.asyncio
async def test_a_set_that_was_never_fetched_is_503_and_not_401():
    def fail() -> bytes:
        raise OSError("no route to host")

    jwks = Jwks((), CLOCK, SETTINGS, fail)
    with pytest.raises(UnavailableError):
        await JwtBearer(jwks, CLOCK, ClaimRules()).verify(sign("RS256", "r"))


def test_the_hmac_of_the_tests_is_that_of_the_library():
    start, _, mac = forge().rpartition(".")
    assert b64(hmac.new(SECRET.encode(), start.encode(), hashlib.sha256).digest()) == mac
