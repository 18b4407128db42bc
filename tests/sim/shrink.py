"""From a plan that fails to a shorter one that still does: leave out whatever is not needed.

Greedy and in passes: lives, accidents, actions, ops, knobs; again while a pass helped. A candidate
counts when it fails in any way. Bounded by a number of runs, so that a failure is told soon.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final, TypeVar

from tests.sim.plan import Action, Ending, Life, Op, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["shorten", "tell"]

T = TypeVar("T")

RUNS_MAX: Final = 400


def shorten(plan: Plan, fails: Callable[[Plan], bool], runs_max: int = RUNS_MAX) -> Plan:
    """Return the shortest failing plan found within `runs_max` runs."""
    left = runs_max
    helped = True
    while helped:
        helped = False
        for ways in _WAYS:
            again = True
            while again:
                again = False
                for candidate in ways(plan):
                    if candidate == plan:
                        continue
                    if left <= 0:
                        return plan
                    left -= 1
                    if fails(candidate):
                        plan, again, helped = candidate, True, True
                        break
    return plan


def _fewer_lives(plan: Plan) -> Iterator[Plan]:
    for index in range(len(plan.lives)):
        yield replace(plan, lives=_without(plan.lives, index))


def _fewer_accidents(plan: Plan) -> Iterator[Plan]:
    yield replace(plan, latencies=(0.0,))
    yield replace(plan, short_writes=0.0)
    for index, life in enumerate(plan.lives):
        ending = life.ending
        for simpler in (
            replace(life, fail_operation=0),
            replace(life, full=False),
            replace(life, pause=0.0),
            replace(life, jump_ms=0),
            replace(life, ending=Ending("cut", ending.at, chance=0.0)),
            replace(life, ending=replace(ending, chance=0.0)),
            replace(life, ending=replace(ending, when="before")),
            replace(life, ending=replace(ending, operation=0)),
        ):
            yield _with_life(plan, index, simpler)


def _fewer_actions(plan: Plan) -> Iterator[Plan]:
    for index, life in enumerate(plan.lives):
        count = len(life.actions)
        half = count // 2
        if half > 1:
            yield _with_life(plan, index, replace(life, actions=life.actions[:half]))
            yield _with_life(plan, index, replace(life, actions=life.actions[half:]))
        for at in reversed(range(count)):
            yield _with_life(plan, index, replace(life, actions=_without(life.actions, at)))


def _fewer_ops(plan: Plan) -> Iterator[Plan]:
    for index, ops in enumerate(plan.programs):
        for shorter in _shorter(ops):
            programs = (*plan.programs[:index], shorter, *plan.programs[index + 1 :])
            yield replace(plan, programs=programs)


def _shorter(ops: tuple[Op, ...]) -> Iterator[tuple[Op, ...]]:
    for at, op in enumerate(ops):
        yield _without(ops, at)
        for part_at, part in enumerate(op.parts):
            if op.kind in {"gather", "race"} and len(op.parts) > 1:
                yield _put(ops, at, replace(op, parts=_without(op.parts, part_at)))
            for shorter in _shorter(part):
                parts = (*op.parts[:part_at], shorter, *op.parts[part_at + 1 :])
                yield _put(ops, at, replace(op, parts=parts))
        for simpler in (replace(op, ms=0), replace(op, fails=0), replace(op, flags="")):
            yield _put(ops, at, simpler)


def _fewer_knobs(plan: Plan) -> Iterator[Plan]:
    for name in plan.knobs:
        yield replace(plan, knobs={k: v for k, v in plan.knobs.items() if k != name})


_WAYS: Final = (_fewer_lives, _fewer_actions, _fewer_accidents, _fewer_ops, _fewer_knobs)


def _without(items: tuple[T, ...], index: int) -> tuple[T, ...]:
    return (*items[:index], *items[index + 1 :])


def _put(ops: tuple[Op, ...], at: int, op: Op) -> tuple[Op, ...]:
    return (*ops[:at], op, *ops[at + 1 :])


def _with_life(plan: Plan, index: int, life: Life) -> Plan:
    return replace(plan, lives=(*plan.lives[:index], life, *plan.lives[index + 1 :]))


def tell(plan: Plan) -> str:
    """Return the plan as lines that a person can read."""
    lines = [f"seed {plan.seed}, latencies {plan.latencies}, short writes {plan.short_writes}"]
    lines += [f"  {name} = {value}" for name, value in plan.knobs.items()]
    for number, ops in enumerate(plan.programs):
        lines.append(f"program {number}:")
        lines += _tell_ops(ops, "  ")
    for number, life in enumerate(plan.lives, 1):
        begins = "begins on a full disk, " if life.full else ""
        fails = f"EIO at operation {life.fail_operation}, " if life.fail_operation else ""
        lines.append(
            f"life {number}: {begins}{fails}ends with {life.ending}; then {life.pause} s, "
            f"wall clock {life.jump_ms:+} ms"
        )
        lines += [f"  {_short(action)}" for action in life.actions]
    return "\n".join(lines)


def _tell_ops(ops: Sequence[Op], indent: str) -> list[str]:
    lines: list[str] = []
    for number, op in enumerate(ops):
        lines.append(f"{indent}{number}: {_short(replace(op, parts=()))}")
        for part in op.parts:
            lines += [f"{indent}  -", *_tell_ops(part, f"{indent}    ")]
    return lines


def _short(thing: Op | Action) -> str:
    """Return what `repr` says, without what is zero or empty."""
    values = ((part.name, getattr(thing, part.name)) for part in fields(thing))
    said = [f"{name}={value!r}" for name, value in values if value and name != "kind"]
    return f"{thing.kind} {', '.join(said)}"
