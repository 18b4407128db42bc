"""What the guard of the HTTP connection costs: requests a second with it and without, side by side.

Both servers are the same application on the same uvicorn, and do next to nothing with a request, so
that the connection is all that is measured. In a service the difference is a part of much more.
`…_cpu_us` is the server's processor time a request: a busy machine changes it less than the rate.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks import load
from benchmarks.report import arguments, finish, ratios, spread
from benchmarks.servers import ask, yardstick

BODY: Final = '{"text": "' + "a" * 1000 + '"}'
# (figure, method, body, connections)
CASES: Final = (
    ("one_connection", "GET", "", 1),
    ("many_connections", "GET", "", 64),
    ("with_body", "POST", BODY, 64),
)


Series = dict[str, dict[str, list[float]]]
"""By case, then by server: one value a repeat."""


def measure(ports: dict[str, int], repeats: int, seconds: float) -> tuple[Series, Series]:
    """Return requests a second and processor microseconds a request; the servers take turns."""
    rates: Series = {name: {server: [] for server in ports} for name, *_ in CASES}
    costs: Series = {name: {server: [] for server in ports} for name, *_ in CASES}
    for port in ports.values():
        load.run(load.Load(port, "GET", "/", seconds=min(1.0, seconds)))
    for turn in range(repeats):
        for name, method, body, connections in CASES:
            # Who goes first has the cooler machine, so they take turns in that too.
            for server in list(ports) if turn % 2 else list(reversed(ports)):
                before_s = cpu_s(ports[server])
                seen = load.run(load.Load(ports[server], method, "/", body, connections, seconds))
                used_s = cpu_s(ports[server]) - before_s
                rates[name][server].append(seen.rate)
                costs[name][server].append(1e6 * used_s / seen.requests)
    return rates, costs


def cpu_s(port: int) -> float:
    """Return the processor time that the server has used."""
    return float(ask(port, "GET", "/cpu")[1])


def shown(rates: Series, costs: Series) -> dict[str, Any]:
    """Return the figures as they are kept."""
    figures: dict[str, Any] = {}
    for name, *_ in CASES:
        rate, cost = rates[name], costs[name]
        figures[f"{name}_per_s"] = spread(rate["guarded"])
        figures[f"{name}_bare_per_s"] = spread(rate["bare"])
        figures[f"{name}_to_bare"] = ratios(rate["guarded"], rate["bare"])
        figures[f"{name}_cpu_us"] = spread(cost["guarded"], 1)
        figures[f"{name}_bare_cpu_us"] = spread(cost["bare"], 1)
        figures[f"{name}_cpu_to_bare"] = ratios(cost["guarded"], cost["bare"])
    return figures


def main() -> None:
    options = arguments("The guard of the HTTP connection beside uvicorn's own protocol")
    seconds = 0.3 if options.quick else 5.0
    with yardstick("guarded") as guarded_port, yardstick("plain") as bare_port:
        ports = {"guarded": guarded_port, "bare": bare_port}
        rates, costs = measure(ports, options.repeats, seconds)
    facts = {"client": load.client_name(), "seconds_each": seconds, "body_bytes": len(BODY)}
    finish(facts | shown(rates, costs), options.json)


if __name__ == "__main__":
    main()
