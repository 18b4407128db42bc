"""What a run needs to begin, as the database is asked for it (gate.sql). PURE.

A run that has limits begins held, without a task. When it is let in it gets one, and a letter,
`admitted`: its worker then records that it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from stepflow.authoring.limits import Limit, priority_of
from stepflow.engine.postgres.inbox import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepflow.authoring.registry import Registry, Workflow
    from stepflow.model.records import RunStarted
    from stepflow.model.run import RunState

__all__ = ["ENTER", "asked", "first_ask", "later_ask", "limit_of", "limits_of", "shape_of"]

ENTER: Final = b"select stepflow.enter(%s::jsonb)"

Ask = dict[str, Any]


def asked(asks: Iterable[Ask]) -> str:
    """Return asks as the database reads them."""
    return orjson.dumps(list(asks)).decode()


def limits_of(limits: Sequence[Limit], value: Any) -> list[dict[str, Any]]:
    """Return limits with their keys in that input."""
    return [
        {
            "kind": limit.kind,
            "id": text(limit.id),
            "count": limit.count,
            "per": limit.per_ms,
            "path": "" if limit.path is None else ".".join(("input", *limit.path)),
            "key": limit.key(value),
        }
        for limit in limits
    ]


def limit_of(kind: str, limit_id: str, count: int, per_ms: int, path: str) -> Limit:
    """Return the limit of a row."""
    parts = tuple(path.split(".")[1:]) if path else None
    return Limit("rate" if kind == "rate" else "concurrency", limit_id, count, parts, per_ms)


def shape_of(workflow: Workflow) -> list[Any]:
    """Return what the place of its runs depends on: all but the numbers."""
    options = workflow.options
    limits = [(limit.kind, limit.id, limit.path) for limit in options.limits]
    return [limits, options.priority]


def _ask(workflow: Workflow, run_id: str, data: bytes, start: RunStarted) -> Ask:
    options = workflow.options
    value = orjson.loads(data)
    limits = list(options.limits)
    if start.exclusive:
        limits.append(Limit("concurrency", start.exclusive, 1, None))
    return {
        "run": run_id,
        "workflow": text(workflow.id),
        "limits": limits_of(limits, value),
        "priority": 0 if options.priority is None else priority_of(options.priority, value),
        "parent": start.parent if start.parent_key else "",
    }


def first_ask(registry: Registry, record: RunStarted, most: int | None = None) -> Ask | None:
    """Return what a new run asks for; None for one that begins at once, or after its delay."""
    workflow = registry.get(record.workflow)
    if workflow is None or record.due or not (workflow.options.limits or record.exclusive):
        return None
    ask = _ask(workflow, record.r, bytes(record.input), record)
    if most is not None:
        ask["most"] = most
    return ask


def later_ask(workflow: Workflow, state: RunState, eligible_ms: int) -> Ask | None:
    """Return what a run asks for that could begin since then; None where nothing limits it."""
    start = state.started
    if start is None or not (workflow.options.limits or start.exclusive):
        return None
    return _ask(workflow, state.id, state.first_input, start) | {"eligible": eligible_ms}
