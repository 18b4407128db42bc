"""Who calls, and what they may do.

Every credential, of whatever kind, ends as one `Principal`. Routes ask it two questions and know
nothing else: `has(scope)`, else 403, and `may_read(run_id)`, else 404 as if there were no run.

======== ============================================================
scope    allows
======== ============================================================
trigger  start runs
read     read runs, streams, workflows, events, schedules, metrics
notify   deliver events
control  cancel, retry, pause, resume, fork, purge, mint public tokens
admin    what touches other callers; never given without being named
======== ============================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["ALL_SCOPES", "ANONYMOUS", "DEFAULT_SCOPES", "READ_ONLY", "Kind", "Principal", "Scope"]
__all__ += ["known_scopes"]

Scope = Literal["trigger", "read", "notify", "control", "admin"]
Kind = Literal["key", "jwt", "token", "user", "anonymous"]

_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

ALL_SCOPES: Final[frozenset[Scope]] = frozenset(_SCOPES)
DEFAULT_SCOPES: Final[frozenset[Scope]] = ALL_SCOPES - {"admin"}
READ_ONLY: Final[frozenset[Scope]] = frozenset[Scope]({"read"})


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credential was good: `Principal("ada")` is the host's own user.

    `run_ids` and `tag` narrow what `read` reaches; both None: every run. `expires_ms` is when the
    credential ends, so that a stream can end with it. `key_id` is the id of a key in `keys.json`,
    `session` the hash of the id of the session that stood for it. `one_run` marks the token of a
    single run, which reads that and its own stream alone.
    """

    name: str
    kind: Kind = "user"
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    run_ids: frozenset[str] | None = None
    tag: str | None = None
    expires_ms: int | None = None
    key_id: str | None = field(default=None, compare=False)
    one_run: bool = False
    session: str | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """`key:deploy`: the name, apart from equal names of another kind."""
        return f"{self.kind}:{self.name}"

    @property
    def reads_everything(self) -> bool:
        """Say whether no run is hidden from it."""
        return self.run_ids is None and self.tag is None

    def has(self, scope: Scope) -> bool:
        """Say whether it holds `scope`; no scope implies another."""
        return scope in self.scopes

    def may_read(self, run_id: str, tags: Collection[str] = ()) -> bool:
        """Say whether it may read that run, which bears `tags`."""
        if "read" not in self.scopes:
            return False
        if self.run_ids is not None and run_id not in self.run_ids:
            return False
        return self.tag is None or self.tag in tags


ANONYMOUS: Final = Principal("anonymous", "anonymous", ALL_SCOPES)
"""Who calls where the host has opened the door on purpose (`auth=allow_all`)."""


def known_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return those of `names` that are scopes; others mean something to someone else."""
    wanted = set(names)
    return frozenset(scope for scope in _SCOPES if scope in wanted)
