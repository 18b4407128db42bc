"""One process or many: W1 on both engines and on two others, and what a run costs each of them.

In turn, each alone on the machine, with a PostgreSQL of its own where it needs one: the local
engine; the engine on PostgreSQL in one process; the same with 1, 2, 4 and 8 worker processes behind
one that only calls; Absurd and DBOS on PostgreSQL. Rates and latency at 1 and at 64 in flight, and
at 64 the costs of a run: processor time of workers, caller and database, transactions, bytes of
log, connections, memory. Longer runs say what one more step costs, and a rest what idle workers do.
Workers are measured with 32 in flight for each of them, too: fewer share fewer commits.

All processes share this machine's cores, so more workers are not faster here than the cores are.
What a run costs is what travels: `capacity.py` computes larger deployments from it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg

from benchmarks.capacity import (
    ABSURD,
    COSTS_AT,
    DBOS,
    IN_FLIGHT_EACH,
    LOCAL,
    ONE,
    WORKERS,
    with_workers,
)
from benchmarks.meters import Meter
from benchmarks.peers.__main__ import (
    PYTHON,
    absurd,
    dbos_postgres,
    first_line,
    started,
    tell,
    versions,
)
from benchmarks.peers.postgres import postgres
from benchmarks.report import arguments, data_directory, finish, ratios, spread
from benchmarks.servers import worker

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

IN_FLIGHT: Final = (1, 64)
STEPS: Final = 3
MORE_STEPS: Final = 23
IDLE: Final = ("worker_cpu_s", "database_cpu_s")


@dataclass(frozen=True, slots=True)
class Started:
    """A contestant's command, and the workers beside it, if they are processes of their own."""

    command: list[str]
    workers: Sequence[int] = ()
    database: str = ""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who is measured, and how it is started."""

    name: str
    start: Callable[[Path], contextlib.AbstractContextManager[Started]]
    ours: bool = True
    workers: int = 0
    """Processes beside the one that calls; 0 where that one runs the runs too."""


def _app(directory: Path, url: str = "", role: str = "all") -> list[str]:
    settings = [f"STEPFLOW_DATABASE_URL={url}", f"STEPFLOW_ROLE={role}"] if url else []
    return ["env", *settings, sys.executable, "stepflow_app.py", str(directory / "data")]


@contextlib.contextmanager
def _local(directory: Path) -> Iterator[Started]:
    yield Started(_app(directory))


@contextlib.contextmanager
def _one(directory: Path) -> Iterator[Started]:
    with postgres(directory) as url:
        yield Started(_app(directory, url), database=url)


def _many(count: int) -> Callable[[Path], contextlib.AbstractContextManager[Started]]:
    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Started]:
        with postgres(directory) as url, contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(worker(url, directory / f"worker-{n}")) for n in range(count)
            ]
            yield Started(_app(directory, url, "api"), workers, url)

    return start


def _peer(
    start: Callable[[Path], contextlib.AbstractContextManager[list[str]]],
) -> Callable[[Path], contextlib.AbstractContextManager[Started]]:
    @contextlib.contextmanager
    def its(directory: Path) -> Iterator[Started]:
        with start(directory) as command:
            yield Started(command, database=command[-1])

    return its


CONTESTANTS: Final = (
    Contestant(LOCAL, _local),
    Contestant(ONE, _one),
    *(Contestant(with_workers(n), _many(n), workers=n) for n in WORKERS),
    Contestant(ABSURD, _peer(absurd), ours=False),
    Contestant(DBOS, _peer(dbos_postgres), ours=False),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part of a contestant's turn takes."""

    seconds: float
    warm_s: float
    workers: tuple[int, ...]

    def contestants(self) -> list[Contestant]:
        """Return who takes part."""
        return [who for who in CONTESTANTS if not who.workers or who.workers in self.workers]


FULL: Final = Plan(1.5, 0.5, WORKERS)
QUICK: Final = Plan(0.3, 0.2, (1, 2))


def measured(who: Contestant, plan: Plan) -> dict[str, dict[str, float]]:
    """Start it, measure its rates and costs, stop it."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(data_directory())
        its = stack.enter_context(who.start(directory))
        process = stack.enter_context(started(its.command))
        if not its.database:
            return _measure(who, process, Meter([process.pid]), plan)
        conn = stack.enter_context(psycopg.connect(its.database, autocommit=True))
        postmaster = int((directory / "postgres" / "postmaster.pid").read_text().split()[0])
        workers, api = (its.workers, [process.pid]) if its.workers else ([process.pid], ())
        return _measure(who, process, Meter(workers, api, postmaster, conn), plan)


def _measure(
    who: Contestant, process: subprocess.Popen[str], meter: Meter, plan: Plan
) -> dict[str, dict[str, float]]:
    seen: dict[str, dict[str, float]] = {}
    for n in IN_FLIGHT:
        # One at a time warms nothing up that many would not, and is the steadier of the two.
        tell(process, in_flight=n, seconds=plan.warm_s)
        seen[str(n)] = _used(process, meter, in_flight=n, seconds=plan.seconds)
    seen["held"] = meter.held()
    if who.workers:
        many = IN_FLIGHT_EACH * who.workers
        seen["each"] = _used(process, meter, in_flight=many, seconds=plan.seconds)
        seen["idle"] = _idle(meter, plan.seconds)
    else:
        more = _used(process, meter, in_flight=COSTS_AT, seconds=plan.seconds, steps=MORE_STEPS)
        seen["step"] = {
            name: (more[name] - cost) / (MORE_STEPS - STEPS)
            for name, cost in seen[str(COSTS_AT)].items()
            if name.endswith("_a_run")
        }
    return seen


def _used(process: subprocess.Popen[str], meter: Meter, **order: float) -> dict[str, float]:
    """Measure once; return what was seen, with what each run has used."""
    before = meter.read()
    seen = tell(process, **order)
    used = meter.read().since(before)
    return seen | {f"{name}_a_run": value / seen["runs"] for name, value in used.items()}


def _idle(meter: Meter, seconds: float) -> dict[str, float]:
    """Return what is used in a second in which nothing is asked."""
    time.sleep(min(1.0, seconds))
    before, began = meter.read(), time.perf_counter()
    time.sleep(seconds)
    used, took = meter.read().since(before), time.perf_counter() - began
    # Transactions are told too late for so short a time.
    return {f"{name}_a_second": used[name] / took for name in IDLE}


Seen = dict[str, list[dict[str, dict[str, float]]]]
"""By contestant: each repeat's figures."""


def measure(plan: Plan, repeats: int) -> tuple[Seen, dict[str, str]]:
    """Let all take turns; return what was seen, and who was left out and why."""
    seen: Seen = {}
    left_out: dict[str, str] = {}
    for repeat in range(repeats):
        for who in plan.contestants():
            if who.name in left_out:
                continue
            try:
                figures = measured(who, plan)
            except Exception as error:
                if who.ours:
                    raise
                left_out[who.name] = first_line(error)
                seen.pop(who.name, None)
                print(f"{who.name} is left out: {error}", file=sys.stderr, flush=True)
                continue
            seen.setdefault(who.name, []).append(figures)
            rates = ", ".join(f"{n}: {_rate(figures[str(n)]):,.0f}" for n in IN_FLIGHT)
            print(
                f"{repeat + 1}/{repeats} {who.name:36} runs a second at {rates}",
                file=sys.stderr,
                flush=True,
            )
    return seen, left_out


def _rate(figure: dict[str, float]) -> float:
    return figure["runs"] / figure["seconds"]


def shown(name: str, seen: Seen) -> dict[str, Any]:
    """Return a contestant's figures: rates beside the local engine's and ours, and costs."""
    its = seen[name]
    of: dict[str, Any] = {}
    for n in map(str, IN_FLIGHT):
        rates = [_rate(figures[n]) for figures in its]
        of[n] = _pace([figures[n] for figures in its]) | {
            "to_local": ratios(rates, [_rate(figures[n]) for figures in seen[LOCAL]]),
            "one_process_to_it": ratios([_rate(figures[n]) for figures in seen[ONE]], rates),
        }
    if "each" in its[0]:
        of["each"] = _pace([figures["each"] for figures in its])
    of["held"] = _spreads([figures["held"] for figures in its])
    if "step" in its[0]:
        of["step"] = _costs([figures["step"] for figures in its], "_a_run")
    if "idle" in its[0]:
        of["idle"] = _costs([figures["idle"] for figures in its], "_a_second")
    return of


def _pace(figures: list[dict[str, float]]) -> dict[str, Any]:
    """Return runs a second, how long one took, and what one cost."""
    return spread([_rate(figure) for figure in figures], 1) | {
        "p50_ms": spread([figure["p50_ms"] for figure in figures], 2),
        "p99_ms": spread([figure["p99_ms"] for figure in figures], 2),
        "run": _costs(figures, "_a_run"),
    }


def _spreads(figures: list[dict[str, float]]) -> dict[str, Any]:
    return {name: spread([figure[name] for figure in figures], 1) for name in figures[0]}


def _costs(figures: list[dict[str, float]], unit: str) -> dict[str, Any]:
    """Return the costs, processor time in milliseconds."""
    of = {}
    for name in figures[0]:
        if not name.endswith(unit):
            continue
        values = [figure[name] for figure in figures]
        cost = name.removesuffix(unit)
        if cost.endswith("_s"):
            cost, values = f"{cost.removesuffix('_s')}_ms", [1e3 * value for value in values]
        of[cost] = spread(values, 3)
    return of


def main() -> None:
    options = arguments("The same workflow on one process and on many, and what a run costs")
    plan, repeats = (QUICK, 1) if options.quick else (FULL, options.repeats)
    seen, left_out = measure(plan, repeats)
    facts = {
        "peers": versions() if PYTHON.exists() else {},
        "left_out": left_out,
        "seconds_each": plan.seconds,
        "repeats": repeats,
        "gc": "ours: as serve has it; the peers: as they leave it",
        "costs_at": COSTS_AT,
    }
    contestants = {who.name: shown(who.name, seen) for who in CONTESTANTS if who.name in seen}
    finish(facts | {"contestants": contestants}, options.json)


if __name__ == "__main__":
    main()
