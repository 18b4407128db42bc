"""Run every host on every server, print the table, and write it: `make hosts`.

    python -m tests.hosts [--write] [NAME…]

Exit status 1 when anything is not as it must be; what it was is printed below the table.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.hosts.front import NGINX, fronted
from tests.hosts.hosts import HOSTS, SERVERS, Host, started
from tests.hosts.suite import NAMES, run_checks, run_host

PAGE: Final = Path(__file__).parents[2] / "docs" / "hosts.md"
PLACE: Final = re.compile(r"(<!-- made by make hosts -->\n).*?(<!-- end -->)", re.DOTALL)
PACKAGES: Final = (
    *("starlette", "fastapi", "litestar", "django", "flask", "a2wsgi", "quart"),
    *("uvicorn", "granian"),
)


def behind_nginx(host: Host, directory: Path) -> dict[str, dict[str, str]]:
    """Return what is wrong behind nginx, by way and check."""
    with (
        started(host, directory / "told", "--root-path", "/gw") as told,
        started(host, directory / "kept") as kept,
        fronted(directory / "nginx", told=told.url, kept=kept.url) as nginx,
    ):
        return {
            f"{host.name}, behind nginx, prefix {way}": run_checks(host, root)
            for way, root in (("stripped", f"{nginx.url}/gw"), ("kept", nginx.url))
        }


def table(found: dict[str, dict[str, str]]) -> str:
    rows = [f"| host | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for name, wrong in found.items():
        cells = [("✓" if not wrong[key] else "✗") if key in wrong else "–" for key in NAMES]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return "\n".join([*rows, "", f"With {versions}."])


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if not name.startswith("-")]
    found: dict[str, dict[str, str]] = {}
    for host in (*HOSTS, *SERVERS):
        if not names or any(name in host.name for name in names):
            with tempfile.TemporaryDirectory() as directory:
                found[host.name] = run_host(host, Path(directory))
    for host in HOSTS:
        if host.prefix and NGINX is not None and (not names or "nginx" in names):
            with tempfile.TemporaryDirectory() as directory:
                found |= behind_nginx(host, Path(directory))
    made = table(found)
    print(made)
    wrong = [(h, k, text) for h, all_ in found.items() for k, text in all_.items() if text]
    for host_name, check, text in wrong:
        print(f"\n{host_name}: {check}\n{text}")
    if "--write" in arguments:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{made}\n{m[2]}", page), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
