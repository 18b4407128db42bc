"""The kit with which workflows are tested: virtual time, stubs, crashes, replays."""

from stepflow.testing.clock import VirtualClock
from stepflow.testing.kit import DivergedError, StuckError, WorkflowTest

__all__ = ["DivergedError", "StuckError", "VirtualClock", "WorkflowTest"]
