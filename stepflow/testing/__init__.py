"""The kit with which workflows are tested: virtual time, stubs, crashes, replays, exploration."""

from stepflow.testing.clock import VirtualClock
from stepflow.testing.exploring import Exploration, ExploreError, Outcome, explore
from stepflow.testing.kit import DivergedError, StuckError, WorkflowTest
from stepflow.testing.replaying import Asked, Replay, replay
from stepflow.testing.seen import SeenStep
from stepflow.testing.stubs import Attempt

__all__ = ["Asked", "Attempt", "DivergedError", "Exploration", "ExploreError", "Outcome", "Replay"]
__all__ += ["SeenStep", "StuckError", "VirtualClock", "WorkflowTest", "explore", "replay"]
