"""`/session`: log in, who am I, log out. For browsers; programs send their key each time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from stepflow.auth.principal import Scope
from stepflow.clock import rfc3339
from stepflow.errors import (
    DiskFailedError,
    ForbiddenError,
    InvalidInputError,
    PayloadTooLargeError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
)
from stepflow.web.asgi import read_json
from stepflow.web.cookies import clearing_cookie, setting_cookie
from stepflow.web.endpoints import encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation, serving
from stepflow.web.problems import Answer, json_answer
from stepflow.web.schemas import LoginRequest, SessionView, Success

if TYPE_CHECKING:
    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.principal import Principal
    from stepflow.web.problems import Header

__all__ = ["GetSession", "LogIn", "LogOut", "in_order"]

_BODY_MAX: Final = 16 * 1024
_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_EXAMPLE: Final[dict[str, Any]] = {
    "name": "ops",
    "kind": "key",
    "scopes": ["trigger", "read", "notify", "control"],
    "session": True,
    "expiresAt": "2024-01-15T22:30:00.000Z",
}
_DISK: Final = UnavailableError("The session could not be kept: the disk does not take it")

logger = logging.getLogger("stepflow.auth")


class GetSession(AnswerEndpoint):
    """Say who calls."""

    operation = Operation(
        id="getSession",
        method="GET",
        path="/session",
        switch="ui",
        tag="Service",
        summary="Who am I?",
        description=(
            "The caller's name and scopes, whatever credential it came with. A server that asks "
            "for no credentials says `anonymous`, with all scopes."
        ),
        any_scope=True,
        replies={200: Content(description="You", schema=SessionView, example=_EXAMPLE)},
        errors=(ForbiddenError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = _whole(await self.principal(scope))
        return json_answer(encode(_view(principal)))


class LogIn(AnswerEndpoint):
    """Begin a session."""

    operation = Operation(
        id="createSession",
        method="POST",
        path="/session",
        switch="ui",
        tag="Service",
        summary="Log in with a key",
        description=(
            "Takes an API key or a JWT and sets a cookie that stands for it on requests of pages "
            "of this origin: `HttpOnly`, `SameSite=Strict`. It ends after 12 hours, at logout, "
            "and with what was logged in with."
        ),
        body=Content(
            description="The key",
            schema=LoginRequest,
            required=True,
            example={"key": "sf_Ab3dEf9h_…"},
        ),
        replies={
            200: Content(
                description="You are in",
                schema=SessionView,
                example=_EXAMPLE,
                headers={"Set-Cookie": "stepflow_session=ses_…; HttpOnly; SameSite=Strict"},
            )
        },
        errors=(
            InvalidInputError,
            UnauthorizedError,
            ForbiddenError,
            PayloadTooLargeError,
            RateLimitedError,
            UnavailableError,
        ),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        serving(self.engine)
        body = await read_json(scope, receive, _BODY_MAX)
        try:
            wanted = msgspec.json.decode(body, type=LoginRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # What the decoder says of it might show a part of the key.
            raise InvalidInputError('send {"key": "…"} with an API key or a JWT') from None
        policy = self.service.policy
        try:
            text, session = await policy.log_in(scope, wanted.key)
        except DiskFailedError as error:
            logger.error("nobody can log in: %s", error)  # noqa: TRY400
            raise _DISK from None
        view = SessionView(
            name=session.principal.name,
            kind=_kind(session.principal),
            scopes=in_order(session.principal.scopes),
            session=True,
            expires_at=rfc3339(session.expires_ms),
        )
        return _with(json_answer(encode(view)), setting_cookie(scope, text))


class LogOut(AnswerEndpoint):
    """End the session."""

    operation = Operation(
        id="deleteSession",
        method="DELETE",
        path="/session",
        switch="ui",
        tag="Service",
        summary="Log out",
        description="The cookie stands for nobody any more, and streams that it opened end.",
        any_scope=True,
        replies={
            200: Content(description="You are out", schema=Success, example={"success": True})
        },
        errors=(ForbiddenError,),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal = _whole(await self.principal(scope))
        try:
            await self.service.policy.log_out(principal)
        except DiskFailedError as error:
            logger.error("a logout is not on disk: %s", error)  # noqa: TRY400
            raise _DISK from None
        return _with(json_answer(b'{"success":true}'), clearing_cookie())


def _whole(principal: Principal) -> Principal:
    if not principal.reads_everything:
        raise ForbiddenError("A public access token reads its own run and nothing else")
    return principal


def _view(principal: Principal) -> SessionView:
    ends_ms = principal.expires_ms
    return SessionView(
        name=principal.name,
        kind=_kind(principal),
        scopes=in_order(principal.scopes),
        session=principal.session is not None,
        expires_at=None if ends_ms is None else rfc3339(ends_ms),
    )


def _kind(principal: Principal) -> Any:
    return principal.kind


def in_order(scopes: frozenset[Scope]) -> list[Scope]:
    """Return the scopes in the order in which they are always listed."""
    return [scope for scope in _SCOPES if scope in scopes]


def _with(answer: Answer, header: Header) -> Answer:
    return answer._replace(headers=(*answer.headers, header))
