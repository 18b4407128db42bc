"""`/keys`: the keys of `keys.json` over HTTP, for who has the scope `admin`.

What `stepflow keys` does on the server's machine. Each key says in the file who asked for it and
who revoked it, and when; so does `GET /audit` of what was done here, also when the key has gone.
Nobody gives a scope that they have not.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from stepflow.auth.principal import known_scopes
from stepflow.clock import rfc3339
from stepflow.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    OperatorError,
    PayloadTooLargeError,
    UnavailableError,
)
from stepflow.model.durations import parse_duration_ms
from stepflow.web.asgi import read_json
from stepflow.web.endpoints import encode
from stepflow.web.operations import AnswerEndpoint, Content, Operation
from stepflow.web.policy import require_whole
from stepflow.web.problems import json_answer
from stepflow.web.schemas import KeyList, KeyRequest, KeyView, MadeKey
from stepflow.web.sessions import in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive
    from starlette.types import Scope as AsgiScope

    from stepflow.auth.keys_file import KeyFollower, KeyRow
    from stepflow.auth.principal import Principal, Scope
    from stepflow.web.problems import Answer

__all__ = ["CreateKey", "ListKeys", "RevokeKey"]

_BODY_MAX: Final = 4096
_KEY_ID: Final = re.compile(r"[0-9A-Za-z]{8}")
_NO_FILE: Final = ConflictError(
    "This server keeps no keys: it has no data directory, or the host decides who may call"
)
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "Ab3dEf9h",
    "name": "deploy",
    "scopes": ["trigger", "read"],
    "createdAt": "2024-01-15T10:30:00.000Z",
    "expiresAt": None,
    "revokedAt": None,
    "createdBy": "key:ops",
    "revokedBy": "",
}

_T = TypeVar("_T")

logger = logging.getLogger("stepflow.auth")


class _KeysEndpoint(AnswerEndpoint):
    async def admin(self, scope: AsgiScope) -> tuple[Principal, KeyFollower]:
        """Return who calls and the keys that are followed. Raises the error that is the answer."""
        principal = await self.principal(scope)
        require_whole(principal, "admin")
        follower = self.service.policy.follower
        if follower is None:
            raise _NO_FILE
        return principal, follower


class ListKeys(_KeysEndpoint):
    """List the keys."""

    operation = Operation(
        id="listKeys",
        method="GET",
        path="/keys",
        switch="keys",
        tag="Keys",
        summary="List API keys",
        description="Those that were made here; keys of the environment are not listed.",
        scope="admin",
        replies={
            200: Content(
                description="The keys, oldest first", schema=KeyList, example={"keys": [_EXAMPLE]}
            )
        },
        errors=(ForbiddenError, ConflictError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        _, follower = await self.admin(scope)
        rows = await _in_thread(follower.file.rows)
        return json_answer(encode(KeyList(keys=[KeyView(**_shown(row)) for row in rows])))


class CreateKey(_KeysEndpoint):
    """Make a key."""

    operation = Operation(
        id="createKey",
        method="POST",
        path="/keys",
        switch="keys",
        tag="Keys",
        summary="Make an API key",
        description=(
            "The answer holds the key, this once. Without `scopes` it may do what the caller may, "
            "but `admin`; a scope that the caller has not is 403. `ttl` is a duration; without it "
            "the key is good until it is revoked."
        ),
        scope="admin",
        body=Content(
            description="The key's name, scopes and life",
            schema=KeyRequest,
            required=True,
            example={"name": "deploy", "scopes": ["trigger", "read"], "ttl": "90d"},
        ),
        replies={
            200: Content(
                description="The key",
                schema=MadeKey,
                example={**_EXAMPLE, "key": "sf_Ab3dEf9h_…"},
            )
        },
        errors=(InvalidInputError, ForbiddenError, ConflictError, PayloadTooLargeError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:
        principal, follower = await self.admin(scope)
        wanted = _wanted(await read_json(scope, receive, _BODY_MAX))
        scopes = _scopes(wanted, principal)
        # Before it is made: a key that the audit could not tell of is none.
        self.engine.check_key_act()
        now_ms = self.service.clock.wall_ms()
        expires_ms = None if wanted.ttl is None else now_ms + parse_duration_ms(wanted.ttl)
        text, row = await _in_thread(
            lambda: follower.file.create(wanted.name, scopes, now_ms, expires_ms, by=principal.id)
        )
        follower.look()
        logger.info("the API key %s (%s) was made by %s", row.id, row.name, principal.id)
        await self.engine.note_key_act("make", row.id, name=row.name, by=principal.id)
        return json_answer(encode(MadeKey(**_shown(row), key=text)))


class RevokeKey(_KeysEndpoint):
    """End a key."""

    operation = Operation(
        id="revokeKey",
        method="DELETE",
        path="/keys/{keyId}",
        switch="keys",
        tag="Keys",
        summary="Revoke an API key",
        description=(
            "It is refused from now on; its sessions and streams end. "
            "A second time changes nothing."
        ),
        scope="admin",
        replies={200: Content(description="The key", schema=KeyView, example=_EXAMPLE)},
        errors=(NotFoundError, ForbiddenError, ConflictError),
    )

    async def answer(self, scope: AsgiScope, receive: Receive) -> Answer:  # noqa: ARG002
        principal, follower = await self.admin(scope)
        key_id: str = scope["path_params"]["keyId"]
        if not _KEY_ID.fullmatch(key_id):
            raise NotFoundError("There is no such key")
        now_ms = self.service.clock.wall_ms()
        file = follower.file

        def revoke() -> tuple[bool, KeyRow | None]:
            good = any(row.id == key_id and row.revoked_ms is None for row in file.rows())
            return good, file.revoke(key_id, now_ms, principal.id)

        was_good, row = await _in_thread(revoke)
        if row is None:
            raise NotFoundError("There is no such key")
        follower.look()
        logger.info("the API key %s (%s) was revoked by %s", row.id, row.name, row.revoked_by)
        if was_good:
            await self._note_revoked(row, principal.id)
        return json_answer(encode(KeyView(**_shown(row))))

    async def _note_revoked(self, row: KeyRow, by: str) -> None:
        """It is revoked, whatever the journal says: a full disk must not let a key live on."""
        try:
            await self.engine.note_key_act("revoke", row.id, name=row.name, by=by)
        except UnavailableError as error:
            logger.error(  # noqa: TRY400
                "the audit does not tell that the API key %s was revoked by %s: %s; keys.json does",
                row.id,
                by,
                error.message,
            )


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Return what work on the file returns: it waits for the disk, and perhaps for a lock.

    Raises `ConflictError` for what the file does not allow, `UnavailableError` for the disk.
    """
    try:
        return await asyncio.to_thread(work)
    except ConfigurationError as error:
        raise ConflictError(str(error)) from None
    except OperatorError as error:
        logger.error("the API keys cannot be changed: %s", error)  # noqa: TRY400
        raise UnavailableError("The keys could not be kept: the disk does not take them") from None


def _wanted(body: bytes) -> KeyRequest:
    try:
        wanted = msgspec.json.decode(body, type=KeyRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the key: {error}") from None
    if not wanted.name.isprintable():
        raise InvalidInputError("name: 1 to 64 printable characters")
    return wanted


def _scopes(wanted: KeyRequest, principal: Principal) -> frozenset[Scope]:
    if wanted.scopes is UNSET:
        return principal.scopes - {"admin"}
    scopes = known_scopes(wanted.scopes)
    for scope in in_order(scopes - principal.scopes):
        raise ForbiddenError(f"You have no scope {scope!r}, so you cannot give it")
    return scopes


def _shown(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scopes": in_order(row.scopes),
        "created_at": rfc3339(row.created_ms),
        "expires_at": None if row.expires_ms is None else rfc3339(row.expires_ms),
        "revoked_at": None if row.revoked_ms is None else rfc3339(row.revoked_ms),
        "created_by": row.created_by,
        "revoked_by": row.revoked_by,
    }
