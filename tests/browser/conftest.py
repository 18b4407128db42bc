"""A browser for each test, and one test at a time: a browser wants the whole machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.browser_kit import HERE, Browser, Service, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKS = (
    pytest.mark.browser,
    pytest.mark.tool("chromium"),
    pytest.mark.tool("node"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(300),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            for mark in MARKS:
                item.add_marker(mark)


@pytest.fixture
def browser(tool_path: dict[str, str], tmp_path: Path) -> Iterator[Browser]:
    if not (HERE / "node_modules" / "playwright-core").exists():
        pytest.skip("no playwright-core here: make node-deps")
    browser = Browser(tool_path["node"], tool_path["chromium"], tmp_path / "profile")
    yield browser
    browser.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with pages of its own."""
    service = Service(tmp_path / "data")
    yield service
    service.close()


@pytest.fixture
def site() -> Iterator[Site]:
    """The pages on another origin."""
    site = Site()
    yield site
    site.close()
