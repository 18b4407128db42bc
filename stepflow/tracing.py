"""Trace contexts as the W3C writes them, and the one that is current, where OpenTelemetry is used.

Nothing here imports OpenTelemetry: who has a span, or a tracer provider, has imported it. So it
costs nobody a thing who does not trace.
"""

from __future__ import annotations

import re
import sys
from typing import Any, Final

__all__ = ["current_traceparent", "is_traceparent", "provider_is_set"]

_HEADER: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-[!-~]*)?"
)
_LONGEST: Final = 512


def is_traceparent(text: str) -> bool:
    """Say whether the text is a trace context, of version 00 or of a later one that has more."""
    match = _HEADER.fullmatch(text) if len(text) <= _LONGEST else None
    return match is not None and (match["version"] != "00" or match["more"] is None)


def current_traceparent() -> str:
    """Return the context of the current span, or an empty text where there is none."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return ""
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def provider_is_set() -> bool:
    """Say whether somebody has set a tracer provider that makes spans."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return False
    idle = (api.ProxyTracerProvider, api.NoOpTracerProvider)
    return not isinstance(api.get_tracer_provider(), idle)
