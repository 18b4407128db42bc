"""A client that trusts nothing, in a process of its own: `python -m tests.recovery.checker MODE …`.

It knows Stepflow by its HTTP API alone, imports nothing of it, and keeps a ledger of what it was
told (ledger.py), on disk before it goes on.

- `live`: load on a server that may die and come back, until standard input ends; then everything
  is let finish and the ledger is checked.
- `load`: the same load without a check; what is in flight at the end of standard input is dropped.
- `check`: compare a server with the ledger, or with its first `--ledger-bytes`: what was promised
  before a cut, read before the cut.

`live` and `check` print a report as one line of JSON and exit with 1 when a promise is broken. All
three end by themselves: `--limit-s` after standard input, which is a pipe, has ended at the latest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

from tests.recovery.ledger import Ledger, read_ledger
from tests.recovery.ledger_check import check
from tests.recovery.load_client import LoadClient


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    main = argparse.ArgumentParser(prog="checker", description=__doc__)
    modes = main.add_subparsers(dest="mode", required=True)
    for mode in ("live", "load", "check"):
        sub = modes.add_parser(mode)
        sub.add_argument("--url", required=True)
        sub.add_argument("--key", required=True)
        sub.add_argument("--ledger", type=Path, required=True)
        if mode != "check":
            sub.add_argument("--in-flight", type=int, default=100)
            sub.add_argument("--subscribers", type=int, default=50)
            sub.add_argument("--seed", type=int, default=1)
        if mode != "load":
            sub.add_argument("--step-log", type=Path)
            sub.add_argument("--limit-s", type=float, default=240 if mode == "live" else 120)
        if mode == "check":
            sub.add_argument("--ledger-bytes", type=int)
            sub.add_argument("--no-finish", action="store_true")
    return main


async def load(options: argparse.Namespace, *, finish_s: float) -> tuple[dict[str, int], list[str]]:
    """Drive load until standard input ends, then for `finish_s` at most until all is finished."""
    ledger = Ledger(options.ledger)
    client = LoadClient(options.url, options.key, random.Random(options.seed), ledger)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    # No reader in a thread: one that blocks would outlive what it waits for.
    loop.add_reader(sys.stdin.fileno(), _stop_at_end, client, over)
    loading = asyncio.ensure_future(client.load(options.in_flight, options.subscribers))
    faults: list[str] = []
    try:
        await asyncio.wait(
            {loading, asyncio.ensure_future(over.wait())}, return_when="FIRST_COMPLETED"
        )
        await asyncio.wait({loading}, timeout=finish_s)
        if loading.done():
            loading.result()
        elif finish_s:
            faults.append(f"what was in flight did not finish within {finish_s} s")
    finally:
        loop.remove_reader(sys.stdin.fileno())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(BaseException):
                await task
        await client.http.aclose()
        await ledger.close()
    return client.counts, faults


def _stop_at_end(client: LoadClient, over: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        client.stopping = True
        over.set()


async def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    counts: dict[str, int] = {}
    faults: list[str] = []
    if options.mode != "check":
        finish_s = options.limit_s if options.mode == "live" else 0.0
        counts, faults = await load(options, finish_s=finish_s)
        if options.mode == "load":
            return 0
    report: dict[str, Any] = await check(
        options.url,
        options.key,
        read_ledger(options.ledger, getattr(options, "ledger_bytes", None)),
        step_log=options.step_log,
        finish=not getattr(options, "no_finish", False),
        limit_s=options.limit_s,
    )
    report = {**counts, **report, "faults": faults + report["faults"]}
    print(json.dumps(report), flush=True)  # noqa: T201  its one output
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
