"""The claims on an engine, gathered: a test class inherits them and gives them a `caller`."""

from __future__ import annotations

from stepflow.testing.conformance.claims.endings import EndingClaims
from stepflow.testing.conformance.claims.events import EventClaims
from stepflow.testing.conformance.claims.idempotency import IdempotencyClaims
from stepflow.testing.conformance.claims.lists import ListClaims
from stepflow.testing.conformance.claims.runs import RunClaims
from stepflow.testing.conformance.claims.streams import StreamClaims

__all__ = ["EngineConformance"]


class EngineConformance(
    RunClaims, IdempotencyClaims, EventClaims, ListClaims, EndingClaims, StreamClaims
):
    """The claims. Inherit them and give them a fixture `caller`, whose flow has `register`ed."""
