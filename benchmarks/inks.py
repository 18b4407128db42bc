"""The plots' colours, on a light page and on a dark one."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Inks:
    """What a page is written with; no two of one page are the same colour."""

    paper: str
    ink: str
    grid: str

    def all(self) -> tuple[str, ...]:
        return astuple(self)


LIGHT: Final = Inks("#ffffff", "#1f2328", "#d8dee4")
DARK: Final = Inks("#0d1117", "#e6edf3", "#30363d")
SERIES: Final = ("#2079b5", "#d55e00", "#00875f", "#9a5fc0", "#8f6f1a", "#c2478a", "#6b7580")
"""Blue, vermillion, green, violet, ochre, rose, grey: the first three are apart for those who see
few colours, the others by their markers too; all have 3 : 1 on both papers."""


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 has it, from 1 to 21."""
    a, b = sorted((_luminance(one), _luminance(other)))
    return (b + 0.05) / (a + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
