"""Everything random about a seed, drawn before anything runs: a plain value that can be shrunk.

A `Plan` has programs (what workflow bodies do), lives (what clients do in each, and how it ends)
and the knobs of the engine. While it runs, only latencies, the order of timers and the sectors that
survive are drawn, from the seed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Action", "Ending", "Life", "Op", "Plan", "draw"]

EVENTS: Final = 3
KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Op:
    """One thing a body does; what the fields mean depends on `kind`. See `program`."""

    kind: str
    n: int = 0
    ms: int = 0
    fails: int = 0
    flags: str = ""
    parts: tuple[tuple[Op, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What a client does at a moment of a life, some passes of the loop later."""

    kind: str
    at: float
    passes: int = 0
    n: int = 0
    """The program, event or run (in order of acknowledgement) it is about."""
    ms: int = 0
    key: int = 0
    flags: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life ends: at a moment, or earlier, at an operation of the disk."""

    kind: str
    """`cut` (power), `kill` or `stop` (in order, then the process is gone)."""
    at: float
    operation: int = 0
    on: str = ""
    """Which operations count: all, unless one is named."""
    when: str = "before"
    chance: float = 0.5
    """Of each unsynced sector and entry to be there after a power cut."""


@dataclass(frozen=True, slots=True)
class Life:
    """From a start to the next end."""

    actions: tuple[Action, ...]
    ending: Ending
    fail_operation: int = 0
    """The disk operation that fails with `EIO`; 0: none."""
    full: bool = False
    """Whether the disk is full when the service starts."""
    pause: float = 0.0
    """Seconds until the next start."""
    jump_ms: int = 0
    """How far the wall clock is set meanwhile."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole seed."""

    seed: int
    programs: tuple[tuple[Op, ...], ...]
    lives: tuple[Life, ...]
    knobs: dict[str, Any] = field(default_factory=dict[str, Any])
    latencies: tuple[float, ...] = (0.0,)
    short_writes: float = 0.0


FOCUS: Final[dict[str, dict[str, int]]] = {
    "": {},
    "answers": {"read": 6, "list": 6, "cancel": 3, "look": 3},
    "keys": {"trigger": 6},
    "purge": {"purge": 12, "fail": 6, "wait": 0, "sleep": 0, "read": 4},
    "snapshot": {"snapshot": 8, "notify": 4},
    "cancel": {"cancel": 12, "guard": 6, "sleep": 3},
    "failing disk": {},
    "full disk": {"snapshot": 6},
    "events": {"wait": 6, "notify": 6},
    "streams": {"stream": 8},
    "values": {"value": 8},
}
"""What a seed may be about, with the weights that it gives to ops and actions."""


class _Draw:
    """The dice of one plan."""

    def __init__(self, seed: int, focus: str) -> None:
        self.dice = random.Random(f"plan {seed} {focus}")
        self.seed = seed
        self.focus = focus
        self._factors: dict[str, int] = {"step": 1, "trigger": 1} | FOCUS[focus]

    def weights(self, kinds: dict[str, int]) -> dict[str, int]:
        """Return the weights as this seed has them: some are left out, some are frequent."""
        found = {kind: weight * self._of_seed(kind) for kind, weight in kinds.items()}
        return found if any(found.values()) else kinds

    def _of_seed(self, kind: str) -> int:
        if kind not in self._factors:
            self._factors[kind] = self.pick(0, 1, 1, 4)
        return self._factors[kind]

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def pick(self, *options: Any) -> Any:
        return self.dice.choice(options)

    # ------------------------------------------------------------ programs

    def programs(self) -> tuple[tuple[Op, ...], ...]:
        count = self.dice.randrange(2, 5)
        # The first one waits until the end of the world: a live run at every moment.
        anchor = (*self.ops(count, 0, 1), Op("anchor"), Op("step"))
        return (anchor, *(self.ops(count, index, 2) for index in range(1, count)))

    def ops(self, programs: int, index: int, depth: int) -> tuple[Op, ...]:
        size = self.dice.choices((1, 2, 3, 4, 5), (1, 3, 4, 3, 1))[0]
        ops: list[Op] = []
        for _ in range(size):
            ops.append(self.op(programs, index, depth))
            if ops[-1].kind == "value":
                # What is done upon a value must not outlive it.
                ops.append(Op("step", ms=self.pick(0, 2, 40)))
        return tuple(ops)

    def op(self, programs: int, index: int, depth: int) -> Op:
        kinds = {"step": 10, "sleep": 4, "wait": 5, "notify": 2, "emit": 1, "value": 2, "map": 2}
        if depth:
            kinds |= {"gather": 3, "race": 2, "guard": 2, "repeat": 1}
        if index + 1 < programs:
            kinds |= {"call": 2, "start": 1}
        if index and not depth:
            kinds |= {"fail": 1}
        kinds = self.weights(kinds)
        kind = self.dice.choices(list(kinds), list(kinds.values()))[0]
        return self._make(kind, programs, index, depth)

    def _make(self, kind: str, programs: int, index: int, depth: int) -> Op:
        dice = self.dice
        if kind == "step":
            return self.step()
        if kind == "sleep":
            return Op("sleep", ms=self.pick(5, 20, 200, 1500, 7000))
        if kind == "wait":
            flags = self.pick("", "", "kept", "default")
            n = dice.randrange(KEPT if flags == "kept" else EVENTS)
            return Op("wait", n=n, ms=self.pick(0, 30, 700, 5000, 20_000), flags=flags)
        if kind == "notify":
            return Op("notify", n=dice.randrange(EVENTS))
        if kind in {"call", "start"}:
            return Op(kind, n=dice.randrange(index + 1, programs))
        if kind == "map":
            fails, flags = self.pick(0, 0, 0, 1, 99), self.pick("", "limit")
            return Op(kind, n=dice.randrange(1, 5), ms=self.pick(0, 3), fails=fails, flags=flags)
        if kind in {"gather", "race"}:
            parts = tuple(
                self.ops(programs, index, depth - 1)[:3] for _ in range(dice.randrange(2, 4))
            )
            return Op(kind, parts=parts)
        if kind == "guard":
            inner = self.ops(programs, index, depth - 1)[:3]
            return Op("guard", parts=(inner, (self.step(),)))
        if kind == "repeat":
            return Op("repeat", n=dice.randrange(2, 4), parts=((self.step(),),))
        return Op(kind)

    def step(self) -> Op:
        fails = self.dice.choices((0, 1, 2, 99), (12, 3, 1, 1))[0]
        flags = self.dice.choices(
            ("", "thread", "relaxed", "once", "undo", "emit", "key", "timeout"),
            (8, 4, 2, 2, 2, 1, 1, 1),
        )[0]
        if flags == "timeout":
            return Op("step", ms=self.pick(20, 600), flags=flags)
        return Op("step", ms=self.pick(0, 0, 0, 2, 40, 600), fails=fails, flags=flags)

    # ------------------------------------------------------------ lives

    def lives(self, programs: int) -> tuple[Life, ...]:
        count = self.dice.choices((1, 2, 3, 4), (2, 4, 3, 2))[0]
        return tuple(self.life(programs, number) for number in range(count))

    def life(self, programs: int, number: int) -> Life:
        dice = self.dice
        length = self.pick(0.02, 0.3, 2.0, 9.0, 30.0)
        actions = sorted(
            (self.action(programs, length) for _ in range(dice.randrange(4, 14))),
            key=lambda action: action.at,
        )
        if not number:
            actions.insert(0, Action("trigger", 0.0, n=0))
        failing = self.focus == "failing disk"
        full = bool(number) and self.chance(0.04)
        if full:
            actions.append(Action("room", dice.uniform(0, length)))
        if self.chance(0.9 if self.focus == "full disk" else 0.15):
            begin = self.pick(0.0, dice.uniform(0, length))
            actions += [Action("full", begin), Action("room", begin + dice.uniform(0, length))]
        return Life(
            tuple(actions),
            self.ending(length),
            fail_operation=dice.randrange(1, 160) if self.chance(0.9 if failing else 0.1) else 0,
            full=full,
            pause=self.pick(0.0, 0.0, 0.5, 6.0),
            jump_ms=self.pick(0, 0, 0, -3_600_000, -5000, 5000, 3_600_000),
        )

    def ending(self, length: float) -> Ending:
        dice = self.dice
        weights = {
            "": (5, 1, 1, 1, 2),
            "snapshot": (1, 4, 2, 2, 1),
            "failing disk": (1, 0, 0, 0, 0),
            "full disk": (1, 0, 0, 0, 0),
        }
        on = dice.choices(
            ("", "unlink", "rename", "sync_dir", "fdatasync"),
            weights.get(self.focus, (1, 0, 0, 0, 8)) if self.focus else weights[""],
        )[0]
        mean = 12 if on else 45
        return Ending(
            dice.choices(("cut", "kill", "stop"), (6, 2, 1))[0],
            dice.uniform(0.3, 1.0) * length,
            operation=int(dice.expovariate(1 / mean)) + 1 if self.chance(0.6) else 0,
            on=on,
            when=self.pick("before", "after", "half"),
            chance=self.pick(0.0, 0.0, 0.3, 0.7, 1.0),
        )

    def action(self, programs: int, length: float) -> Action:
        dice = self.dice
        kinds = {
            "trigger": 9,
            "many": 1,
            "notify": 6,
            "begin": 1,
            "cancel": 2,
            "read": 3,
            "list": 1,
            "stream": 4,
            "wait": 2,
            "purge": 1,
            "look": 1,
            "snapshot": 2,
            "jump": 1,
        }
        kinds = self.weights(kinds)
        kind = dice.choices(list(kinds), list(kinds.values()))[0]
        # Many at one moment, and many while a sync is under way.
        moment = self.pick(0.0, round(dice.uniform(0, length), 2), dice.uniform(0, length))
        n = dice.randrange(programs) if kind in {"trigger", "many"} else dice.randrange(8)
        flags = ""
        if kind == "trigger":
            weights = (1, 1, 6, 0, 0) if self.focus == "keys" else (8, 3, 2, 2, 1)
            flags = dice.choices(("", "idem", "twice", "id", "delay"), weights)[0]
        elif kind == "notify":
            flags = dice.choices(("", "kept", "to"), (5, 3, 2))[0]
        elif kind == "stream":
            flags = self.pick("", "resume", "beyond")
        ms = self.pick(-3_600_000, -4000, 4000, 60_000) if kind == "jump" else 700
        return Action(
            kind, moment, dice.randrange(12), n=n, ms=ms, key=dice.randrange(3), flags=flags
        )

    # ------------------------------------------------------------ knobs

    def knobs(self) -> dict[str, Any]:
        return {
            "segment_bytes_first": self.pick(4096, 8192),
            "segment_bytes_max": self.pick(8192, 32_768),
            "frame_bytes_max": self.pick(200, 1024, 4096),
            "snapshot_wal_bytes": 600
            if self.focus == "snapshot"
            else self.pick(1500, 5000, 1 << 30),
            "snapshot_slice_runs": self.pick(1, 2, 200),
            "passivate_after_s": self.pick(0.1, 0.6, 5.0),
            "cancel_grace_s": self.pick(0.2, 3.0, 30.0),
            "threads": self.pick(1, 4),
            "wakes_per_second": self.pick(40, 1000),
            "timers_per_second": self.pick(40, 1000),
            "finished_bytes_max": self.pick(3000, 1 << 28, 1 << 28),
            "kept_events_max": self.pick(2, 1000),
            "notify_frame_waiters": self.pick(1, 10_000),
        }


def draw(seed: int, focus: str | None = None) -> Plan:
    """Return the plan of a seed, always the same.

    With a focus, it is about that. Without one every second seed is about everything, and each of
    the others about one thing.
    """
    if focus is None:
        foci = list(FOCUS)
        focus = foci[seed // 2 % len(foci)] if seed % 2 else ""
    dice = _Draw(seed, focus)
    programs = dice.programs()
    return Plan(
        seed,
        programs,
        dice.lives(len(programs)),
        dice.knobs(),
        latencies=dice.pick((0.0,), (0.0, 0.0004), (0.0002, 0.001, 0.03)),
        short_writes=dice.pick(0.0, 0.0, 0.2),
    )
