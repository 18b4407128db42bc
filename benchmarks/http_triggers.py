"""Durable triggers a second over HTTP, as a ratio to a bare Starlette JSON echo.

Both are asked by the same client with the same body, in turn, in one run. Behind each trigger a
whole run of three steps is executed on the same core, so the load goes on after the last answer:
`runs_per_s` counts until the last of them has ended. `…_cpu_us` is the server's processor time a
request, with the runs behind it: a machine that is shared changes it less than the rates.
"""

from __future__ import annotations

import json
import time
from typing import Any

from benchmarks import load
from benchmarks.report import arguments, data_directory, finish, ratios, spread
from benchmarks.servers import ask, cpu_s, product, yardstick
from benchmarks.workload import INPUT

BODY = json.dumps(INPUT, separators=(",", ":"))
CONNECTIONS = 64


class Figures:
    """One list a figure, one value a repeat."""

    def __init__(self) -> None:
        self.rates: dict[str, list[float]] = {}
        self.p50: dict[str, list[float]] = {}
        self.p99: dict[str, list[float]] = {}
        self.runs: list[float] = []
        self.cpu_us: dict[str, list[float]] = {}

    def take(self, name: str, seen: load.Measured) -> None:
        self.rates.setdefault(name, []).append(seen.rate)
        self.p50.setdefault(name, []).append(seen.p50_ms)
        self.p99.setdefault(name, []).append(seen.p99_ms)

    def shown(self) -> dict[str, Any]:
        rates = self.rates
        shown = {
            f"{name}_per_s": spread(values)
            | {"p50_ms": spread(self.p50[name], 2)}
            | {"p99_ms": spread(self.p99[name], 2)}
            for name, values in rates.items()
        }
        return shown | {
            "runs_per_s": spread(self.runs),
            **{f"{name}_cpu_us": spread(values, 1) for name, values in self.cpu_us.items()},
            "echo_cpu_to_trigger": ratios(self.cpu_us["echo"], self.cpu_us["trigger"]),
            "plain_get_cpu_to_get_run": ratios(self.cpu_us["plain_get"], self.cpu_us["get_run"]),
            "trigger_to_echo": ratios(rates["trigger"], rates["echo"]),
            "get_run_to_plain_get": ratios(rates["get_run"], rates["plain_get"]),
        }


def finished_run(port: int) -> str:
    """Trigger one run and return its path once it has ended."""
    status, body = ask(port, "POST", "/trigger/w1", BODY.encode())
    if status != 200:
        raise RuntimeError(f"trigger gives {status} {body!r}")
    until_idle(port)
    return f"/runs/{json.loads(body)['runId']}"


def until_idle(port: int) -> None:
    """Wait until no run is under way."""
    while json.loads(ask(port, "GET", "/runs?status=running&limit=1")[1])["runs"]:
        time.sleep(0.02)


def measure(product_port: int, echo_port: int, repeats: int, seconds: float) -> Figures:
    figures = Figures()

    def put(name: str, port: int, method: str, path: str, body: str = "") -> load.Measured:
        before_s = cpu_s(port)
        seen = load.run(load.Load(port, method, path, body, CONNECTIONS, seconds))
        figures.take(name, seen)
        if name == "trigger":
            until_idle(port)  # the runs behind it are a part of what it costs
        used_us = (cpu_s(port) - before_s) / seen.requests * 1e6
        figures.cpu_us.setdefault(name, []).append(used_us)
        return seen

    path = finished_run(product_port)
    load.run(load.Load(product_port, "POST", "/trigger/w1", BODY, CONNECTIONS, 1))
    load.run(load.Load(echo_port, "POST", "/echo", BODY, CONNECTIONS, 1))
    until_idle(product_port)
    for _ in range(repeats):
        put("echo", echo_port, "POST", "/echo", BODY)
        began = time.perf_counter()
        triggers = put("trigger", product_port, "POST", "/trigger/w1", BODY)
        figures.runs.append(triggers.requests / (time.perf_counter() - began))
        put("plain_get", echo_port, "GET", "/plain")
        put("get_run", product_port, "GET", path)
    return figures


def main() -> None:
    options = arguments("Durable triggers over HTTP beside a bare JSON echo")
    seconds = 1.0 if options.quick else 8.0
    with data_directory() as data, product(data) as port, yardstick("echo") as echo_port:
        figures = measure(port, echo_port, options.repeats, seconds)
    facts = {
        "client": load.client_name(),
        "connections": CONNECTIONS,
        "seconds_each": seconds,
        "body_bytes": len(BODY),
        "credentials": "X-API-Key",
        "gc": "both servers: thresholds (100000, 20, 50), objects of the start frozen",
    }
    finish(facts | figures.shown(), options.json)


if __name__ == "__main__":
    main()
