"""`GET /docs`: the document as one page that needs nothing from anywhere else.

Style, script and document are in the page itself, and the Content-Security-Policy names the first
two by their hash, so nothing else can run there. The script writes text only, never markup.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

import msgspec

from stepflow.web.operations import AnswerEndpoint, Content, Operation
from stepflow.web.problems import text_answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

    from stepflow.web.problems import Answer

__all__ = ["GetDocs", "page"]

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="dark light">
<title>Stepflow API</title>
<style>{style}</style>
</head>
<body>
<noscript>A script draws this page. The document: <a href="openapi.yaml">openapi.yaml</a></noscript>
<script type="application/json" id="document">{document}</script>
<script>{script}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("stepflow.web").joinpath("docs").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def page() -> tuple[bytes, bytes]:
    """Return the page and its Content-Security-Policy."""
    # Imported here: only who looks at the page needs the document as an object.
    from stepflow.web.openapi import document  # noqa: PLC0415

    style, script = _asset("docs.css"), _asset("docs.js")
    # JSON in a script element ends at the first "</", wherever it stands.
    data = msgspec.json.encode(document()).decode().replace("<", "\\u003c")
    html = _PAGE.format(style=style, document=data, script=script)
    policy = (
        f"default-src 'none'; script-src 'sha256-{_hash(script)}'; "
        f"style-src 'sha256-{_hash(style)}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return html.encode(), policy.encode()


class GetDocs(AnswerEndpoint):
    """Serve the page."""

    operation = Operation(
        id="getDocs",
        method="GET",
        path="/docs",
        switch="docs",
        tag="Service",
        summary="This document as a page",
        replies={
            200: Content(
                description="A page that works offline",
                schema={"type": "string"},
                media="text/html",
            )
        },
    )

    async def answer(self, scope: Scope, receive: Receive) -> Answer:  # noqa: ARG002
        html, policy = page()
        return text_answer(b"text/html; charset=utf-8", html, (b"content-security-policy", policy))
