"""Where others stand in for a process that was killed, they go on before it comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from stepflow.testing.conformance.claims.base import Claims
from stepflow.testing.conformance.claims.restarts import patient
from stepflow.testing.conformance.reading import decoded, fresh, until_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from stepflow.testing.conformance.deployment import Deployment

__all__ = ["SpareClaims"]

_STEPS = 6


class SpareClaims(Claims):
    """The claims. `spare` are the processes that the deployment can be without."""

    spare: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make each claim for every such process."""
        if "spare_process" in metafunc.fixturenames:
            metafunc.parametrize("spare_process", self.spare)

    async def test_the_others_go_on_without_it(
        self, deployment: Deployment, spare_process: str, tmp_path: Path
    ) -> None:
        log = tmp_path / "steps"
        async with patient(deployment) as client:
            plan = {"id": fresh(), "steps": _STEPS, "log": str(log)}
            before = [(await client.trigger("conformance-plodding", plan)).id for _ in range(8)]
            await until_event(client, before[0], lambda event: event.event == "step")
            await asyncio.to_thread(deployment.kill, spare_process)
            try:
                after = [(await client.trigger("conformance-plodding", plan)).id for _ in range(4)]
                ends = [await client.wait(run_id) for run_id in [*before, *after]]
            finally:
                await asyncio.to_thread(deployment.revive, spare_process)
        assert {(end.status, decoded(end.result)) for end in ends} == {("completed", _STEPS)}
