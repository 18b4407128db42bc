"""How soon: `import stepflow`, and `stepflow serve` on an empty directory until it is ready.

Beside them, in turn: `import asyncio, msgspec` (what the package cannot do without), a process that
does nothing (`python -c pass`), and a bare Starlette echo on uvicorn until it answers. Each is a
fresh process with warm caches.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.report import ROOT, arguments, data_directory, finish, ratios, spread
from benchmarks.servers import bare, product

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def import_ms(what: str) -> float:
    """Return the milliseconds of `import what` in a fresh interpreter."""
    code = (
        "import time\nbegan = time.perf_counter()\n"
        f"import {what}\nprint((time.perf_counter() - began) * 1e3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def nothing_ms() -> float:
    """Return the milliseconds of a process that does nothing."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1e3


def ready_ms(server: AbstractContextManager[int]) -> float:
    """Return the milliseconds from starting the process to its first answer."""
    began = time.perf_counter()
    with server:
        return (time.perf_counter() - began) * 1e3


def measure(repeats: int) -> dict[str, Any]:
    import_: list[float] = []
    needed: list[float] = []
    serve: list[float] = []
    echo: list[float] = []
    nothing: list[float] = []
    import_ms("stepflow")
    for _ in range(repeats):
        nothing.append(nothing_ms())
        needed.append(import_ms("asyncio, msgspec"))
        import_.append(import_ms("stepflow"))
        echo.append(ready_ms(bare()))
        with data_directory() as directory:
            serve.append(ready_ms(product(directory / "data")))
    return {
        "import_ms": spread(import_, 1),
        "needed_import_ms": spread(needed, 1),
        "serve_ready_ms": spread(serve),
        "echo_ready_ms": spread(echo),
        "nothing_ms": spread(nothing, 1),
        "serve_to_nothing": ratios(serve, nothing),
        "import_to_needed": ratios(import_, needed),
        "serve_to_echo": ratios(serve, echo),
    }


def main() -> None:
    options = arguments("Import, and serve until ready")
    finish(measure(1 if options.quick else max(5, options.repeats)), options.json)


if __name__ == "__main__":
    main()
