"""Every host keeps every promise: the table of docs/hosts.md, as one test a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.hosts import HOSTS, SERVERS
from tests.hosts.suite import NAMES, run_host

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hosts.hosts import Host


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", [*HOSTS, *SERVERS], ids=lambda host: f"{host.app}-{host.server}")
def test_a_host_keeps_every_promise(host: Host, tmp_path: Path) -> None:
    wrong = run_host(host, tmp_path)
    assert set(wrong) == set(NAMES) or host in SERVERS
    assert "\n".join(f"{name}: {text}" for name, text in wrong.items() if text) == ""
