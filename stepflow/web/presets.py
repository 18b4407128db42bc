"""Which routes are served: presets and switches. Knows no Starlette: anybody may import it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal

from stepflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EndpointPreset", "Endpoints"]

EndpointPreset = Literal["all", "public", "private", "internal", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Which routes are served. One that is not answers 404, as if it did not exist.

    `runs` covers all that is under `/runs` but the stream, and the lists of workflows and events;
    `trigger` covers batches; `health` covers `/ready`; `docs` the document and its page;
    `ui` the dashboard and its logins; `keys` the keys of `keys.json`.
    """

    trigger: bool = True
    notify: bool = True
    runs: bool = True
    runs_stream: bool = True
    health: bool = True
    docs: bool = True
    metrics: bool = True
    ui: bool = True
    keys: bool = True

    @classmethod
    def of(cls, choice: EndpointPreset | Endpoints) -> Endpoints:
        """Return the choice, or what a preset's name stands for; `ConfigurationError` for none."""
        return choice if isinstance(choice, Endpoints) else cls.named(choice)

    @classmethod
    def named(cls, name: str) -> Endpoints:
        """Return the preset of that name. Raises `ConfigurationError` for no name."""
        preset = _PRESETS.get(name)
        if preset is None:
            raise ConfigurationError(f"endpoints={name!r} is none of {', '.join(_PRESETS)}")
        return preset


_NONE: Final = Endpoints(**{knob.name: False for knob in fields(Endpoints)})
_PRESETS: Final[Mapping[str, Endpoints]] = {
    "all": Endpoints(),
    "public": Endpoints(),
    "private": Endpoints(trigger=False, notify=False),
    "internal": Endpoints(
        trigger=False,
        notify=False,
        runs=False,
        runs_stream=False,
        docs=False,
        metrics=False,
        ui=False,
        keys=False,
    ),
    "none": _NONE,
}
