"""The claims on an engine, gathered: a test class inherits them and gives them a `caller`."""

from __future__ import annotations

from stepflow.testing.conformance.claims.cancelling import CancellingClaims
from stepflow.testing.conformance.claims.control import ControlClaims
from stepflow.testing.conformance.claims.endings import EndingClaims
from stepflow.testing.conformance.claims.events import EventClaims
from stepflow.testing.conformance.claims.families import FamilyClaims
from stepflow.testing.conformance.claims.idempotency import IdempotencyClaims
from stepflow.testing.conformance.claims.lists import ListClaims
from stepflow.testing.conformance.claims.runs import RunClaims
from stepflow.testing.conformance.claims.steps import StepClaims
from stepflow.testing.conformance.claims.streams import StreamClaims
from stepflow.testing.conformance.claims.waits import WaitClaims

__all__ = ["EngineConformance"]


class EngineConformance(
    RunClaims,
    StepClaims,
    WaitClaims,
    EventClaims,
    FamilyClaims,
    CancellingClaims,
    EndingClaims,
    ControlClaims,
    IdempotencyClaims,
    ListClaims,
    StreamClaims,
):
    """The claims. Inherit them and give them a fixture `caller`, whose flow has `register`ed."""
