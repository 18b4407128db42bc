"""Every host keeps every promise: the table of docs/hosts.md, as one test a host.

Those that need packages of hundreds of megabytes (Next.js, Deno, Bun) are run by `make hosts`
alone, and are named here as skipped for their size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.hosts import HOSTS, SERVERS
from tests.hosts.javascript import JS_HOSTS, missing
from tests.hosts.suite import NAMES, absent, run_host
from tests.hosts.table import rows, table, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.hosts import Host


def holds(host: Host, directory: Path) -> None:
    wrong = run_host(host, directory)
    assert set(wrong) == {name for name in NAMES if absent(host, name) is None}
    assert "\n".join(f"{name}: {text}" for name, text in wrong.items() if text) == ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", [*HOSTS, *SERVERS], ids=lambda host: f"{host.app}-{host.server}")
def test_a_host_keeps_every_promise(host: Host, tmp_path: Path) -> None:
    holds(host, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.tool("node")
@pytest.mark.tool("npm")
# What is built is built once, by whoever of these comes first.
@pytest.mark.xdist_group("js-client")
@pytest.mark.parametrize("host", JS_HOSTS, ids=lambda host: f"{host.app}-{host.server}")
def test_a_javascript_host_keeps_every_promise(host: Host, tmp_path: Path) -> None:
    if host.heavy:
        pytest.skip("size: its packages are half a gigabyte; make hosts tries it")
    if reason := missing(host):
        pytest.skip(reason)
    holds(host, tmp_path)


def test_the_table_in_the_docs_has_every_host_and_check_and_nothing_but_good() -> None:
    """It is what a run of this very suite makes where nothing is wrong; else: `make hosts`."""
    good = {
        (host.name, way): {name: "" for name in NAMES if absent(host, name, way=way) is None}
        for host, way in rows()
    }
    wanted = table(good)
    assert "?" not in wanted
    assert "✗" not in wanted
    shown, _, versions = written().partition("\n\nWith ")
    assert shown == wanted, "docs/hosts.md is older than the suite: run make hosts"
    # The last paragraph says what it was made with.
    for package in ("starlette", "uvicorn", "hono", "express", "fastify", "next", "deno", "bun"):
        assert f"{package} " in versions
