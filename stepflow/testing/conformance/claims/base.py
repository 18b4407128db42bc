"""What every class of claims has: what its engine lacks, and that each claim is counted.

A claim that needs a capability is marked so::

    @needs("fork")
    async def test_a_fork_keeps_what_stood_before_its_step(self, caller): ...

Where the engine declares that it lacks it (`lacks`), the same claim is made all the same, and must
come to the **clear refusal**: `NotSupportedError`, 501 `NOT_SUPPORTED`, naming the capability. So
what is declared is what is true: an engine that does it after all fails the claim as one does that
answers anything else. The pytest plugin counts both at the end of the run.

A few capabilities cannot be refused, since nobody asks for them in a call. Their claims name
another that holds where they are lacking (`otherwise`), and are counted as such.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from stepflow.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

__all__ = ["CLAIM", "Claims", "needs"]

CLAIM: Final = "stepflow-claim"
"""The property of a test's report that says what was claimed: `engine|area|capability|outcome`,
of which the last is `held`, `refused` or `otherwise`."""
_NEEDS: Final = "stepflow_needs"
_OTHERWISE: Final = "stepflow_otherwise"


class Claims:
    """Claims on one engine."""

    engine: ClassVar[str] = "engine"
    """What the report calls it."""
    lacks: ClassVar[Collection[str]] = ()
    """The capabilities that it declares it has not."""

    @pytest.fixture(autouse=True)
    def _counted(
        self, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
    ) -> None:
        claim: Any = getattr(request, "function")  # noqa: B009  it has no type before pytest 9.2
        capability: str = getattr(claim, _NEEDS, "")
        area = claim.__qualname__.partition(".")[0].removesuffix("Claims").lower()
        outcome = "held"
        if capability in self.lacks:
            outcome = "otherwise" if getattr(claim, _OTHERWISE, None) else "refused"
        record_property(CLAIM, f"{self.engine}|{area}|{capability}|{outcome}")


def needs(
    capability: str, *, otherwise: Callable[..., Awaitable[None]] | None = None
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Say that a claim rests on a capability, which an engine may lack.

    `otherwise` is what is claimed of one that lacks it, in the place of a clear refusal.
    """

    def mark(claim: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(claim)
        async def made(self: Claims, *args: Any, **kwargs: Any) -> None:
            if capability not in self.lacks:
                await claim(self, *args, **kwargs)
                return
            if otherwise is not None:
                await otherwise(self, *args, **kwargs)
                return
            with pytest.raises(NotSupportedError) as caught:
                await claim(self, *args, **kwargs)
            said = caught.value.message
            assert capability in said, f"it does not say what is lacking: {said}"

        setattr(made, _NEEDS, capability)
        setattr(made, _OTHERWISE, otherwise)
        return made

    return mark
