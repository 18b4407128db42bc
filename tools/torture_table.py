"""Write the table of the last long run into docs/faults.md: `python -m tools.torture_table [JSON]`.

It comes from build/torture.json, as `make torture` leaves it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tests.torture.report import Report, markdown

ROOT: Final = Path(__file__).resolve().parents[1]
PLACE: Final = re.compile(r"(<!-- torture -->\n).*?(\n<!-- end -->)", re.DOTALL)


def filled(document: str, report: Report) -> str:
    """Return the document with the report in its place."""
    text, count = PLACE.subn(lambda match: f"{match[1]}{markdown(report)}{match[2]}", document)
    if count != 1:
        raise ValueError(f"the document has {count} places <!-- torture --> … <!-- end -->, not 1")
    return text


def main(source: Path) -> int:
    page = ROOT / "docs" / "faults.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), Report.load(source)), encoding="utf-8")
    print(f"{page.relative_to(ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "torture.json"))
