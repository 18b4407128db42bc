"""The table of docs/hosts.md: which rows and columns it must have, how it is written and read."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.hosts.hosts import HOSTS, SERVERS
from tests.hosts.javascript import HEAVY, JS_HOSTS, PACKAGE
from tests.hosts.suite import NAMES, absent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.hosts.hosts import Host
    from tests.hosts.suite import Found

PAGE: Final = Path(__file__).parents[2] / "docs" / "hosts.md"
PLACE: Final = re.compile(r"(<!-- made by make hosts -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WAYS: Final = ("stripped", "kept")
PACKAGES: Final = (
    *("starlette", "fastapi", "litestar", "django", "flask", "a2wsgi", "quart"),
    *("uvicorn", "granian"),
)
NPM: Final = (
    *((PACKAGE, name) for name in ("hono", "express", "fastify")),
    *((HEAVY, name) for name in ("next", "deno", "bun")),
)


def rows() -> Iterator[tuple[Host, str]]:
    """Yield each row that the table must have, in order."""
    for host in (*HOSTS, *SERVERS, *JS_HOSTS):
        yield host, ""
    for host in (*HOSTS, *JS_HOSTS):
        if host.prefix and not host.heavy:
            for way in WAYS:
                yield host, way


def name_of(host: Host, way: str) -> str:
    return f"{host.name}, behind nginx, prefix {way}" if way else host.name


def table(found: Mapping[tuple[str, str], Found]) -> str:
    """Return the table of what was found, by host and way; what was not tried is `?`."""
    reasons: list[str] = []
    lines = [f"| host | {' | '.join(NAMES)} |", "|---" * (len(NAMES) + 1) + "|"]
    for host, way in rows():
        wrong = found.get((host.name, way))
        cells = []
        for name in NAMES:
            reason = absent(host, name, way=way)
            if reason is None:
                cells.append(
                    "?" if wrong is None or name not in wrong else "✗" if wrong[name] else "✓"
                )
                continue
            if reason not in reasons:
                reasons.append(reason)
            cells.append(f"– {reasons.index(reason) + 1}")
        lines.append(f"| {name_of(host, way)} | {' | '.join(cells)} |")
    lines += ["", "What a check says nothing of: "]
    lines[-1] += "; ".join(f"({i}) {reason}" for i, reason in enumerate(reasons, 1)) + "."
    return "\n".join(lines)


def versions() -> str:
    """Return what the table was made with, as it is installed here."""
    told = [f"{name} {version(name)}" for name in PACKAGES]
    for place, name in NPM:
        package = place / "node_modules" / name / "package.json"
        if package.exists():
            told.append(f"{name} {json.loads(package.read_text())['version']}")
    return f"With {', '.join(told)}."


def written() -> str:
    """Return what stands in the page."""
    found = PLACE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return found[2]


def write(text: str) -> None:
    """Put it into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{text}\n{m[3]}", page), encoding="utf-8")
