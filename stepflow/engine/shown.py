"""Views of the runs that were asked for within the last second.

Pages that watch ask for the same run over and over, and a run at rest is kept as bytes that have to
be opened for each view. What a view shows follows from the run's last record and from what only the
supervisor knows, so it is good as long as these are the same. Forgotten at each turn of the
housekeeping: nothing of a purged run stays, and a service that nobody asks keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stepflow.model.views import run_view

if TYPE_CHECKING:
    from stepflow.model.views import RunView, RunViewState
    from stepflow.runtime.actor import RunActor

__all__ = ["Shown"]

_VIEWS_MAX: Final = 1_000
_BYTES_MAX: Final = 8 * 1024
"""Larger runs are not kept: rendering them costs more than opening them."""


class Shown:
    """Views by run id, each with what it rests on."""

    __slots__ = ("_views",)

    def __init__(self) -> None:
        self._views: dict[str, tuple[int, RunViewState | None, str, RunView]] = {}

    def view(self, actor: RunActor) -> RunView:
        """Return the run with its steps as it is now. Nobody may change what is returned."""
        lsn, condition, reason = actor.lsn, actor.condition, actor.reason
        known = self._views.get(actor.id)
        if known is not None and known[0] == lsn and known[1] == condition and known[2] == reason:
            return known[3]
        state = actor.peek()
        view = run_view(state, condition, reason=reason)
        if state.nbytes <= _BYTES_MAX and len(self._views) < _VIEWS_MAX:
            self._views[actor.id] = lsn, condition, reason, view
        return view

    def forget(self) -> None:
        """Keep nothing."""
        self._views.clear()
