"""The kit with which workflows are tested: virtual time, stubs, crashes, replays, exploration."""

from stepflow.testing.clock import VirtualClock
from stepflow.testing.exploring import Exploration, ExploreError, Outcome, explore
from stepflow.testing.kit import DivergedError, StuckError, WorkflowTest
from stepflow.testing.seen import SeenStep
from stepflow.testing.stubs import Attempt

__all__ = ["Attempt", "DivergedError", "Exploration", "ExploreError", "Outcome", "SeenStep"]
__all__ += ["StuckError", "VirtualClock", "WorkflowTest", "explore"]
