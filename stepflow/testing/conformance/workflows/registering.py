"""All workflows that the claims run, given to a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepflow.testing.conformance.workflows.basic import register_basic
from stepflow.testing.conformance.workflows.composing import register_composing
from stepflow.testing.conformance.workflows.ending import register_ending
from stepflow.testing.conformance.workflows.families import register_families
from stepflow.testing.conformance.workflows.logged import register_logged
from stepflow.testing.conformance.workflows.optional import register_optional
from stepflow.testing.conformance.workflows.stepping import register_stepping
from stepflow.testing.conformance.workflows.waiting import register_waiting

if TYPE_CHECKING:
    from collections.abc import Collection

    from stepflow.flow import Stepflow

__all__ = ["register"]


def register(flow: Stepflow, *, lacks: Collection[str] = ()) -> None:
    """Register the workflows that the claims run.

    `lacks` are the capabilities that the engine has not: it refuses to start with a workflow whose
    options ask for one, so those are left out.
    """
    register_basic(flow)
    register_stepping(flow)
    register_waiting(flow)
    register_families(flow)
    register_composing(flow)
    register_ending(flow)
    register_logged(flow)
    register_optional(flow, lacks)
