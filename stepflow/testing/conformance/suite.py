"""The claims on an engine, gathered: a test class inherits them and gives them a `caller`."""

from __future__ import annotations

from stepflow.testing.conformance.claims.cancelling import CancellingClaims
from stepflow.testing.conformance.claims.composing import ComposingClaims
from stepflow.testing.conformance.claims.control import ControlClaims
from stepflow.testing.conformance.claims.endings import EndingClaims
from stepflow.testing.conformance.claims.events import EventClaims
from stepflow.testing.conformance.claims.families import FamilyClaims
from stepflow.testing.conformance.claims.http.bodies import BodyClaims
from stepflow.testing.conformance.claims.http.credentials import CredentialClaims
from stepflow.testing.conformance.claims.http.lists import HttpListClaims
from stepflow.testing.conformance.claims.http.many import ManyClaims
from stepflow.testing.conformance.claims.http.operating import OperatingClaims
from stepflow.testing.conformance.claims.http.published import PublishedClaims
from stepflow.testing.conformance.claims.http.streams import HttpStreamClaims
from stepflow.testing.conformance.claims.idempotency import IdempotencyClaims
from stepflow.testing.conformance.claims.limits import LimitClaims
from stepflow.testing.conformance.claims.lists import ListClaims
from stepflow.testing.conformance.claims.restarts import RestartClaims
from stepflow.testing.conformance.claims.runs import RunClaims
from stepflow.testing.conformance.claims.spares import SpareClaims
from stepflow.testing.conformance.claims.steps import StepClaims
from stepflow.testing.conformance.claims.streams import StreamClaims
from stepflow.testing.conformance.claims.waits import WaitClaims

__all__ = ["EngineConformance", "HttpConformance", "RestartConformance", "SpareConformance"]


class EngineConformance(
    RunClaims,
    StepClaims,
    WaitClaims,
    EventClaims,
    FamilyClaims,
    ComposingClaims,
    CancellingClaims,
    EndingClaims,
    ControlClaims,
    LimitClaims,
    IdempotencyClaims,
    ListClaims,
    StreamClaims,
):
    """The claims. Inherit them and give them a fixture `caller`, whose flow has `register`ed."""


class HttpConformance(
    PublishedClaims,
    BodyClaims,
    CredentialClaims,
    HttpStreamClaims,
    HttpListClaims,
    OperatingClaims,
    ManyClaims,
):
    """The claims on the HTTP API. Inherit them and give them a fixture `door`."""


class RestartConformance(RestartClaims):
    """The claims on a deployment whose processes are killed. They need a fixture `deployment`."""


class SpareConformance(SpareClaims):
    """The claims on a deployment that goes on without some of its processes; likewise."""
