"""The dashboard in a tab, and the service of `dashboard_app.py` behind it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.browser_kit import KEY, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.browser_kit import Browser, Page

APP = Path(__file__).parent / "dashboard_app.py"
ORDER = {"id": "o-1042", "email": "ada@example.com", "items": ["tea", "cup"]}


class Dashboard:
    """One tab of it, signed in."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def go(self, to: str) -> None:
        """Follow a link to `to`, an address behind the `#`."""
        self.page.eval(f"location.hash = {json.dumps(to)}")

    def sees(self, text: str, where: str = "main") -> None:
        """Wait until the page shows a text."""
        self.page.until(
            f"document.querySelector({json.dumps(where)})?.innerText.includes({json.dumps(text)})"
        )

    def count(self, selector: str) -> int:
        found: int = self.page.eval(f"document.querySelectorAll({json.dumps(selector)}).length")
        return found

    def press(self, key: str) -> None:
        """Press a key wherever the focus is."""
        self.page.press(key)

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.page.type(text)

    def trouble(self) -> list[str]:
        """Return errors that nobody caught, and violations of the page's policies."""
        heard = self.page.heard()
        return heard["violations"] + [line for line in heard["console"] if "uncaught" in line]

    def click(self, text: str, where: str = "main") -> None:
        """Click the button or link in `where` that says so, once it is there."""
        code = (
            f"[...document.querySelectorAll({json.dumps(where + ' :is(button, a, summary)')})]"
            f".find((each) => each.innerText.trim().startsWith({json.dumps(text)}))"
        )
        self.page.until(f"Boolean({code})")
        self.page.eval(f"{code}.click()")

    def fill(self, label: str, value: Any) -> None:
        """Enter a value into the field with that label, as a person does."""
        find = (
            "[...document.querySelectorAll('label')]"
            f".find((each) => each.innerText.trim().startsWith({json.dumps(label)}))"
            "?.querySelector('input, textarea, select')"
        )
        self.page.until(f"Boolean({find})")
        self.page.eval(
            f"(() => {{ const field = {find}; field.focus(); field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', { bubbles: true }));"
            " field.dispatchEvent(new Event('change', { bubbles: true })); })()"
        )

    def badge(self) -> str:
        """Return the status that the run's page shows."""
        text: str = self.page.eval("document.querySelector('.run-title .badge')?.innerText ?? ''")
        return text


@contextmanager
def dashboard_service(data: Path, *more: str, base_path: str = "", **env: str) -> Iterator[Service]:
    service = Service(data, *more, app=APP, base_path=base_path, **env)
    try:
        yield service
    finally:
        service.close()


def sign_in(browser: Browser, service: Service, to: str = "", **how: Any) -> Dashboard:
    """Open the dashboard and enter the key, where there is no session yet."""
    page = browser.open(f"{service.url}/ui/{to}", **how)
    page.until("document.querySelector('#key') || document.querySelector('.top nav')")
    if page.eval("Boolean(document.querySelector('#key'))"):
        page.eval(
            f"(() => {{ const key = document.querySelector('#key'); key.value = {json.dumps(KEY)};"
            " key.form.requestSubmit(); })()"
        )
    page.until("document.querySelector('.top nav') && document.querySelector('main section')")
    return Dashboard(page)
