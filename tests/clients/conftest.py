from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepflow import Settings
from tests.clients.service import KEY, Service

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def service(tmp_path, monkeypatch) -> Generator[Service]:
    monkeypatch.setenv("STEPFLOW_API_KEYS", KEY)
    # A browser's second is too long for a test that restarts the server.
    service = Service(tmp_path / "data", Settings(stream_retry_ms=2))
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def url(service: Service) -> str:
    return service.url
