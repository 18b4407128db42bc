"""Run every host on every server, print the table, and write it: `make hosts`.

    python -m tests.hosts [--write] [NAME…]

NAME chooses hosts by a part of their name; `nginx` the rows behind it. Exit status 1 when anything
is not as it must be, or could not be tried; what it was is printed below the table, which is
written only when everything was tried.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts import hosts, javascript
from tests.hosts.front import NGINX, fronted
from tests.hosts.suite import run_checks, run_host
from tests.hosts.table import WAYS, name_of, rows, table, versions, write

if TYPE_CHECKING:
    from tests.hosts.hosts import Host
    from tests.hosts.suite import Found


def behind_nginx(host: Host, directory: Path) -> dict[str, Found]:
    """Return what is wrong behind nginx, by way and check."""
    with ExitStack() as stack:
        if host.speaks == "Python":
            told = stack.enter_context(
                hosts.started(host, directory / "told", "--root-path", "/gw")
            )
            kept = stack.enter_context(hosts.started(host, directory / "kept"))
        else:
            service = stack.enter_context(javascript.service(directory / "data"))
            told = kept = stack.enter_context(javascript.started(host, service))
        front = fronted(directory / "nginx", told=told.url, kept=kept.url)
        nginx = stack.enter_context(front)
        roots = {"stripped": f"{nginx.url}/gw", "kept": nginx.url}
        return {way: run_checks(host, roots[way], way) for way in WAYS}


def why_not(host: Host, way: str) -> str | None:
    if way and NGINX is None:
        return "no nginx on this machine: make system-deps"
    return javascript.missing(host) if host.speaks == "JavaScript" else None


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if not name.startswith("-")]
    found: dict[tuple[str, str], Found] = {}
    untried: list[str] = []
    for host, way in rows():
        row = name_of(host, way)
        if (names and not any(name in row for name in names)) or (host.name, way) in found:
            continue
        if reason := why_not(host, way):
            untried.append(f"{row}: not tried: {reason}")
            continue
        began = time.monotonic()
        # In the project's own folder: what Next.js builds is large.
        with tempfile.TemporaryDirectory() as directory:
            if way:
                for each, wrong in behind_nginx(host, Path(directory)).items():
                    found[host.name, each] = wrong
            else:
                found[host.name, ""] = run_host(host, Path(directory))
        print(f"{row}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    made = f"{table(found)}\n\n{versions()}"
    print(made)
    wrongs = [
        f"{name_of_key(key)}: {check}\n{text}"
        for key, all_ in found.items()
        for check, text in all_.items()
        if text
    ]
    if not names and not untried and "?" in made:
        wrongs.append("a cell of the table was neither tried nor said not to apply")
    for text in (*wrongs, *untried):
        print(f"\n{text}")
    if "--write" in arguments and not names and "?" not in made:
        write(made)
    return 1 if wrongs or untried else 0


def name_of_key(key: tuple[str, str]) -> str:
    name, way = key
    return f"{name}, behind nginx, prefix {way}" if way else name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
