"""The kit with which workflows are tested: virtual time, stubs, crashes, replays."""

from stepflow.testing.clock import VirtualClock
from stepflow.testing.kit import DivergedError, StuckError, WorkflowTest
from stepflow.testing.seen import SeenStep
from stepflow.testing.stubs import Attempt

__all__ = ["Attempt", "DivergedError", "SeenStep", "StuckError", "VirtualClock", "WorkflowTest"]
