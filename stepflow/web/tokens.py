"""Public access tokens, made over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

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
from stepflow.web.problems import json_answer
from stepflow.web.schemas import TokenGrant, TokenRequest

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.web.problems import Answer

__all__ = ["MintToken"]

_TOKEN_BODY_MAX: Final = 4096


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
        ttl_s = self._ttl_s(await read_json(scope, receive, _TOKEN_BODY_MAX))
        token, expires_ms = self.engine.public_token(run_id, ttl_s)
        grant = TokenGrant(public_access_token=token, expires_at=rfc3339(expires_ms))
        return json_answer(encode(grant))

    def _ttl_s(self, body: bytes) -> float | None:
        try:
            wanted = msgspec.json.decode(body, type=TokenRequest | None)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(f"ttl: {error}") from None
        if wanted is None or wanted.ttl is None:
            return None
        ttl_s = parse_duration_ms(wanted.ttl) / 1000
        least_s, most_s = self.settings.token_ttl_min_s, self.settings.token_ttl_max_s
        if not least_s <= ttl_s <= most_s:
            raise InvalidInputError(f"ttl: from {least_s:.0f} to {most_s:.0f} seconds")
        return ttl_s
