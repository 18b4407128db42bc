"""Make every claim on every engine and write the table of docs/conformance.md: `make conformance`.

    python -m tests.conformance [PYTEST ARGUMENT…]

Exit status 1 when a claim does not hold; the table is written all the same, and says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "conformance.md"
PLACE: Final = re.compile(r"(<!-- made by make conformance -->\n).*?(<!-- end -->)", re.DOTALL)
ALL: Final = "STEPFLOW_CONFORMANCE"


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "table.md"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/conformance"),
                f"--stepflow-conformance-table={table}",
                *arguments,
            ],
            cwd=ROOT,
            env=os.environ | {ALL: "all"},
            check=False,
        )
        made = table.read_text(encoding="utf-8") if table.exists() else ""
    # A part of the claims makes no table.
    if made and not arguments:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{made}{m[2]}", page), encoding="utf-8")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
