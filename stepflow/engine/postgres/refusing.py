"""What this engine does not do: refused by name, and listed in docs/cluster.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.engine.protocol import CAPABILITIES
from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from stepflow.authoring.registry import Registry

__all__ = ["HAS", "LACKS", "check_workflows"]

LACKS: Final = frozenset({"limits"})
HAS: Final = frozenset(CAPABILITIES) - LACKS


def check_workflows(registry: Registry) -> None:
    """Raise `ConfigurationError` for a workflow that asks for what this engine does not do."""
    for workflow in registry.all():
        options = workflow.options
        asked = ""
        if options.limits:
            asked = "concurrency= or rate_limit="
        elif any(each.schedule.overlap in {"queue", "cancel"} for each in options.schedules):
            asked = 'a schedule with overlap="queue" or "cancel"'
        if asked:
            raise ConfigurationError(
                f"workflow {workflow.id!r} has {asked}, which the PostgreSQL engine does not do "
                f"(limits): see docs/cluster.md; leave it out, or run it on the local engine"
            )
