"""Public access tokens, made over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from stepflow.clock import rfc3339
from stepflow.errors import (
    ForbiddenError,
    InvalidInputError,
    PayloadTooLargeError,
    RunNotFoundError,
)
from stepflow.model.durations import parse_duration_ms
from stepflow.web.asgi import read_json
from stepflow.web.control import controlled
from stepflow.web.endpoints import encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation
from stepflow.web.policy import require_whole
from stepflow.web.problems import json_answer
from stepflow.web.schemas import TokenGrant, TokenRequest, WideTokenRequest

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.config import Settings
    from stepflow.web.problems import Answer

__all__ = ["MintToken", "MintWideToken", "ttl_of"]

T = TypeVar("T")
_TOKEN_BODY_MAX: Final = 16 * 1024


class MintToken(AnswerEndpoint):
    """Make a public access token of a run."""

    operation = Operation(
        id="createRunToken",
        method="POST",
        path="/runs/{runId}/token",
        switch="runs",
        tag="Runs",
        summary="Make a public access token",
        description=(
            "It reads this one run and its stream, from a browser, and nothing else. "
            "`ttl` is 24 hours unless given; from one minute to 30 days."
        ),
        scope="control",
        body=Content(
            description="How long it is to be good",
            schema=TokenRequest,
            example={"ttl": "2h"},
        ),
        replies={
            200: Content(
                description="The token",
                schema=TokenGrant,
                example={
                    "publicAccessToken": "pat_AQFd0k…",
                    "expiresAt": "2024-01-15T12:30:00.000Z",
                },
            )
        },
        errors=(InvalidInputError, ForbiddenError, RunNotFoundError, PayloadTooLargeError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        run_id, _ = await controlled(self, scope)
        wanted = _decoded(await read_json(scope, receive, _TOKEN_BODY_MAX), TokenRequest)
        ttl_s = None if wanted is None else ttl_of(wanted.ttl, self.settings)
        token, expires_ms = self.engine.public_token(run_id, ttl_s)
        return _granted(token, expires_ms)


class MintWideToken(AnswerEndpoint):
    """Make a public access token of many runs."""

    operation = Operation(
        id="createToken",
        method="POST",
        path="/tokens",
        switch="runs",
        tag="Runs",
        summary="Make a public access token of many runs",
        description=(
            "It reads every run that bears `tag`, those to come too, or up to 100 by `runIds`, "
            "each run's stream, and `/stream`, which then shows these runs alone. `ttl` is "
            "24 hours unless given; from one minute to 30 days."
        ),
        scope="control",
        body=Content(
            description="Which runs, and for how long",
            schema=WideTokenRequest,
            example={"tag": "customer-7", "ttl": "2h"},
            required=True,
        ),
        replies={
            200: Content(
                description="The token",
                schema=TokenGrant,
                example={
                    "publicAccessToken": "pat_AQNd0k…",
                    "expiresAt": "2024-01-15T12:30:00.000Z",
                },
            )
        },
        errors=(InvalidInputError, ForbiddenError, RunNotFoundError, PayloadTooLargeError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        require_whole(await self.principal(scope), "control")
        body = await read_json(scope, receive, _TOKEN_BODY_MAX)
        wanted = _decoded(body, WideTokenRequest)
        if wanted is None or (wanted.tag is None) == (wanted.run_ids is None):
            raise InvalidInputError("give either tag or runIds: which runs is the token for?")
        ttl_s = ttl_of(wanted.ttl, self.settings)
        life_s = self.settings.token_ttl_s if ttl_s is None else ttl_s
        expires_ms = self.service.clock.wall_ms() + int(life_s * 1000)
        signer = self.service.policy.signer
        if wanted.tag is not None:
            return _granted(signer.sign_tag(wanted.tag, expires_ms), expires_ms)
        run_ids = wanted.run_ids or []
        for run_id in run_ids:
            await self.engine.require_run(run_id)
        return _granted(signer.sign_runs(run_ids, expires_ms), expires_ms)


def _granted(token: str, expires_ms: int) -> Answer:
    grant = TokenGrant(public_access_token=token, expires_at=rfc3339(expires_ms))
    return json_answer(encode(grant))


def _decoded(body: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        name = "ttl" if kind is TokenRequest else "tokens"
        raise InvalidInputError(f"{name}: {error}") from None


def ttl_of(ttl: float | str | None, settings: Settings) -> float | None:
    """Return a lifetime in seconds. Raises `InvalidInputError` for one out of bounds."""
    if ttl is None:
        return None
    ttl_s = parse_duration_ms(ttl) / 1000
    least_s, most_s = settings.token_ttl_min_s, settings.token_ttl_max_s
    if not least_s <= ttl_s <= most_s:
        raise InvalidInputError(f"ttl: from {least_s:.0f} to {most_s:.0f} seconds")
    return ttl_s
