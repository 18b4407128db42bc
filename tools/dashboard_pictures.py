"""The dashboard's pictures: real runs of `pictures_app.py` on a real server, in Chromium."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from tests.browser.browser_kit import Service
from tests.browser.dashboard_kit import sign_in

if TYPE_CHECKING:
    from tests.browser.browser_kit import Browser
    from tests.browser.dashboard_kit import Dashboard

APP: Final = Path(__file__).with_name("pictures_app.py")
ITEMS: Final = ("tea", "cup", "kettle", "spoon")
HEIGHT: Final = 600
WIDTH: Final = 1000
FRAME_S: Final = 0.2
WAITS_S: Final = 2.5
LAST_MS: Final = 3000
DARK: Final[dict[str, Any]] = {"scheme": "dark", "width": WIDTH, "height": HEIGHT}
# GitHub and mail readers cut bigger ones short, and a clone carries them all for ever.
MOST_BYTES: Final = 400 * 1024

Frame = tuple[float, Path]


def draw_dashboard(browser: Browser, directory: Path, images: Path) -> None:
    """Make the pictures of the list, of a run that waits, light and dark, and the moving one."""
    with closing(Service(directory / "dashboard", app=APP)) as service:
        shop(service)
        tab = sign_in(browser, service, "#/runs", width=WIDTH, height=HEIGHT)
        run = order(service, 1042)
        animate(follow(tab, run, service, directory), images / "dashboard-live.webp")
        waiting = order(service, 1043)
        tab.go(f"#/runs/{waiting}")
        tab.sees("waits for the event")
        rest(tab)
        tab.page.screenshot(images / "dashboard-run.png")
        tab.go("#/runs")
        tab.page.until("document.querySelectorAll('.run-row').length > 8")
        rest(tab)
        tab.page.screenshot(images / "dashboard-runs.png")
        tab.page.shut()
        for name, to, shows, how in (
            ("dark", f"#/runs/{waiting}", ".w-wait", DARK),
            ("runs-dark", "#/runs", ".run-row", DARK),
            ("narrow", f"#/runs/{waiting}", ".w-wait", {"width": 390, "height": 760}),
        ):
            tab = sign_in(browser, service, to, **how)
            tab.page.until(f"document.querySelector({shows!r})")
            rest(tab)
            tab.page.screenshot(images / f"dashboard-{name}.png")
            tab.page.shut()
    for made in images.glob("dashboard-*"):
        size = made.stat().st_size
        assert size <= MOST_BYTES, f"{made.name} has {size} bytes, more than {MOST_BYTES}"


def order(service: Service, number: int) -> str:
    """Order something; return the run."""
    body = {"id": str(number), "email": "ada@example.com", "items": ITEMS}
    run_id: str = service.post("/trigger/checkout", body)["runId"]
    return run_id


def shop(service: Service) -> None:
    """Have runs of every kind: done, failed, asleep, waiting, cancelled."""
    orders = {number: order(service, number) for number in range(1030, 1036)}
    for number in list(orders)[:4]:
        service.post(f"/notify/paid-{number}", {"amount": 42})
    for path, body in {
        "settle": "2026-11-27",
        "trial": "grace@example.com",
        "digest": None,
    }.items():
        service.post(f"/trigger/{path}", body)
    until(service, orders[1030], "completed")
    service.post(f"/runs/{orders[1035]}/cancel", {})


def until(service: Service, run_id: str, status: str) -> None:
    while service.http.get(f"/runs/{run_id}").json()["status"] != status:
        time.sleep(0.05)


def rest(tab: Dashboard) -> None:
    """Wait until nothing moves that ends by itself."""
    tab.page.eval("new Promise((done) => setTimeout(done, 600))")


def follow(tab: Dashboard, run_id: str, service: Service, frames: Path) -> list[Frame]:
    """Look at a run from its start to its end, a few times a second."""
    tab.go(f"#/runs/{run_id}")
    tab.page.until("document.querySelector('.w-row')")
    taken: list[Frame] = []
    waits_since = ended_at = float("inf")
    paid = False
    while time.monotonic() < ended_at + 0.4:
        now = time.monotonic()
        path = frames / f"frame-{len(taken)}.png"
        tab.page.screenshot(path)
        taken.append((now, path))
        if tab.count(".w-wait") and tab.count("[data-key^=payment]"):
            waits_since = min(waits_since, now)
        if now > waits_since + WAITS_S and not paid:
            service.post("/notify/paid-1042", {"amount": 42})
            paid = True
        if tab.badge().lower() == "completed":
            ended_at = min(ended_at, now)
        time.sleep(max(0.0, now + FRAME_S - time.monotonic()))
    return taken


def animate(frames: list[Frame], path: Path) -> None:
    """Put the pictures together, each for as long as it was to be seen; the last one longer."""
    first, *others = [Image.open(file).convert("RGB") for _, file in frames]
    lasts = [round((b - a) * 1000) for (a, _), (b, _) in pairwise(frames)] + [LAST_MS]
    how = {"lossless": True, "quality": 40, "method": 3}
    first.save(path, save_all=True, append_images=others, duration=lasts, loop=0, **how)
