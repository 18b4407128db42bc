"""What this engine does not do: refused by name, and listed in docs/cluster.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from stepflow.engine.postgres.part import ClusterPart
from stepflow.engine.protocol import CAPABILITIES
from stepflow.errors import ConfigurationError, NotFoundError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepflow.authoring.registry import Registry
    from stepflow.engine.protocol import BulkAction, BulkReport, KeyAction, RunFilter
    from stepflow.model.audit import AuditPage
    from stepflow.model.schedules import BackfillView, ScheduleView

__all__ = ["HAS", "LACKS", "Refusing", "check_workflows"]

LACKS: Final = frozenset(
    {"audit", "bulk", "event-types", "fork", "limits", "passing-emits", "schedules"}
)
HAS: Final = frozenset(CAPABILITIES) - LACKS


def check_workflows(registry: Registry) -> None:
    """Raise `ConfigurationError` for a workflow that asks for what this engine does not do."""
    for workflow in registry.all():
        options = workflow.options
        asked = "limits" if options.limits else ""
        option = "concurrency= or rate_limit="
        if any(planned.workflow == workflow.id for planned in registry.schedules.values()):
            asked, option = "schedules", "schedule="
        if asked:
            raise ConfigurationError(
                f"workflow {workflow.id!r} has {option}, which the PostgreSQL engine does not do "
                f"({asked}): see docs/cluster.md; leave it out, or run it on the local engine"
            )


def _refuse(name: str) -> NoReturn:
    raise NotSupportedError(f"The PostgreSQL engine does not do this ({name})")


class Refusing(ClusterPart):
    """Each raises `NotSupportedError`, naming the capability."""

    async def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        body: bytes | None = None,
        results: Mapping[str, bytes] | None = None,
        by: str = "",
        reason: str = "",
    ) -> str:
        del run_id, from_step, body, results, by, reason
        _refuse("fork")

    async def bulk(
        self,
        action: BulkAction,
        where: RunFilter,
        *,
        dry_run: bool = False,
        force: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
        by: str = "",
        reason: str = "",
    ) -> BulkReport:
        del action, where, dry_run, force, limit, cursor, by, reason
        _refuse("bulk")

    async def audit(
        self, *, run_id: str = "", limit: int = 50, cursor: str | None = None
    ) -> AuditPage:
        del run_id, limit, cursor
        _refuse("audit")

    def check_key_act(self) -> None:
        _refuse("audit")

    async def note_key_act(self, action: KeyAction, key_id: str, *, name: str, by: str) -> None:
        del action, key_id, name, by
        _refuse("audit")

    async def list_schedules(self) -> list[ScheduleView]:
        return []

    async def get_schedule(self, schedule_id: str, *, times: int = 0) -> ScheduleView:
        del times
        raise NotFoundError(f"No schedule {schedule_id!r}")

    async def pause_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        del schedule_id, by
        _refuse("schedules")

    async def resume_schedule(self, schedule_id: str, *, by: str = "") -> ScheduleView:
        del schedule_id, by
        _refuse("schedules")

    async def trigger_schedule(self, schedule_id: str, *, by: str = "") -> str:
        del schedule_id, by
        _refuse("schedules")

    async def backfill_schedule(
        self, schedule_id: str, begin_ms: int, end_ms: int, *, dry_run: bool = False, by: str = ""
    ) -> BackfillView:
        del schedule_id, begin_ms, end_ms, dry_run, by
        _refuse("schedules")
