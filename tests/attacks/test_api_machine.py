"""The HTTP API does what a model says, whatever calls come in whatever order."""

from __future__ import annotations

import pytest

from tests.attacks.api_machine import run_machine


@pytest.mark.timeout(300)
def test_the_api_does_what_its_model_says() -> None:
    run_machine(examples=40, steps=40)


def test_the_machine_notices_a_lost_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break one rule: a purge that forgets nothing."""

    async def purge(*_args: object, **_more: object) -> None:
        """Purge nothing."""

    monkeypatch.setattr("stepflow.engine.local.LocalEngine.purge", purge)
    with pytest.raises(AssertionError):
        run_machine(examples=40, steps=40, shorten=False)
