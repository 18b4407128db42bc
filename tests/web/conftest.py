"""One application over the fake engine, and two ways to call it: whole, and message by message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import CREATED_MS, FakeEngine
from web_harness import ManualClock

from stepflow.auth.api_key import ApiKey, KeyRing, digest_of
from stepflow.auth.chain import AuthChain
from stepflow.auth.public_token import TokenSigner
from stepflow.config import Settings
from stepflow.web.app import build_app
from stepflow.web.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

KEY = "test-key-0123456789"
READER = "reader-key-0123456789"
OPERATOR = "operator-key-0123456789"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(CREATED_MS)


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def signer() -> TokenSigner:
    return TokenSigner(b"k" * 32)


@pytest.fixture
def engine(signer: TokenSigner) -> FakeEngine:
    return FakeEngine(signer, "welcome-user", "checkout")


@pytest.fixture
def chain(clock: ManualClock, settings: Settings, signer: TokenSigner) -> AuthChain:
    keys = KeyRing(
        [
            ApiKey("ops", digest_of(KEY)),
            ApiKey("reader", digest_of(READER), frozenset({"read"})),
            ApiKey("operator", digest_of(OPERATOR), frozenset({"read", "control"})),
        ]
    )
    return AuthChain(clock=clock, settings=settings, signer=signer, keys=keys)


@pytest.fixture
def make_app(
    engine: FakeEngine, chain: AuthChain, clock: ManualClock, settings: Settings
) -> Callable[..., Starlette]:
    def make(
        auth: Any = None, on_auth_failure: Any = None, settings: Settings = settings, **more: Any
    ) -> Starlette:
        policy = Policy(lambda: chain, clock, auth, on_auth_failure)
        return build_app(engine, policy, settings, clock, **more)

    return make


@pytest.fixture
def app(make_app: Callable[..., Starlette]) -> Starlette:
    return make_app()


def client_of(app: Any, key: str | None = KEY) -> httpx.AsyncClient:
    headers = {} if key is None else {"X-API-Key": key}
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    return httpx.AsyncClient(transport=transport, base_url="http://stepflow", headers=headers)


@pytest.fixture
def client(app: Starlette) -> httpx.AsyncClient:
    return client_of(app)


@pytest.fixture
def stranger(app: Starlette) -> httpx.AsyncClient:
    return client_of(app, None)


@pytest.fixture
def call_with() -> Callable[..., httpx.AsyncClient]:
    return client_of
