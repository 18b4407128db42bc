"""`GET /ui`: the dashboard's files. No credentials: they hold nothing but code.

A file's answer is a 304 when the browser's copy is the same. What a browser may do with the page is
said in headers on every one of them, because an SVG that is opened by itself is a document too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stepflow.dashboard.assets import CONTENT_SECURITY_POLICY, assets
from stepflow.errors import NotFoundError
from stepflow.web.asgi import header
from stepflow.web.operations import AnswerEndpoint, Content, Operation
from stepflow.web.problems import SAFE_HEADERS, Answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from stepflow.dashboard.assets import Asset
    from stepflow.web.problems import Header

__all__ = ["GetPage", "GetPageFile", "GetRoot"]

_SAFE: Final[tuple[Header, ...]] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_ASK_AGAIN: Final = (b"cache-control", b"no-cache")
_FOR_EVER: Final = (b"cache-control", b"public, max-age=31536000, immutable")
_ETAG: Final = re.compile(rb'(?:W/)?("[^"]*")')


class GetPage(AnswerEndpoint):
    """Serve the page where its address has no slash at the end."""

    operation = Operation(
        id="getDashboard",
        method="GET",
        path="/ui",
        switch="ui",
        tag="Service",
        summary="The dashboard",
        description="A page that talks this API. It asks for credentials by itself.",
        replies={
            200: Content(
                description="The page",
                schema={"type": "string"},
                media="text/html",
                headers={"ETag": '"0f4c"', "Cache-Control": "no-cache"},
            ),
            304: Content(description="The browser has it already"),
        },
    )

    async def answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        return _answer(scope, assets().bare_page, _ASK_AGAIN)


class GetPageFile(AnswerEndpoint):
    """Serve what the page is made of."""

    operation = Operation(
        id="getDashboardFile",
        method="GET",
        path="/ui/{file}",
        switch="ui",
        tag="Service",
        summary="A file of the dashboard",
        replies={200: Content(description="The file", schema={"type": "string"})},
        errors=(NotFoundError,),
        documented=False,
    )

    async def answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        found = assets().find(scope["path_params"]["file"])
        if found is None:
            raise NotFoundError
        asset, is_fixed = found
        return _answer(scope, asset, _FOR_EVER if is_fixed else _ASK_AGAIN)


class GetRoot(AnswerEndpoint):
    """Send a browser that comes without a path to the page."""

    operation = Operation(
        id="getRoot",
        method="GET",
        path="/",
        switch="ui",
        tag="Service",
        summary="Where a browser begins",
        replies={307: Content(description="To the page", headers={"Location": "ui/"})},
        errors=(NotFoundError,),
        documented=False,
    )

    async def answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        if b"text/html" not in (header(scope, b"accept") or b""):
            raise NotFoundError
        # Relative, so that it is right under any prefix, also one that a proxy takes away.
        headers = ((b"location", b"ui/"), (b"content-length", b"0"), *SAFE_HEADERS)
        return Answer(307, headers, b"")


def _answer(scope: Scope, asset: Asset, keep: Header) -> Answer:
    headers = ((b"etag", asset.etag), keep, *_SAFE)
    if _has(scope, asset.etag):
        return Answer(304, headers, b"")
    length = (b"content-length", b"%d" % len(asset.body))
    return Answer(200, ((b"content-type", asset.media), length, *headers), asset.body)


def _has(scope: Scope, etag: bytes) -> bool:
    """Say whether `If-None-Match` names what we would send."""
    known = header(scope, b"if-none-match")
    return known is not None and (known.strip() == b"*" or etag in _ETAG.findall(known))
