"""The tables by name, and how one is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.attacks import tables_of_credentials as credentials
from tests.attacks import tables_of_requests as requests
from tests.attacks import tables_of_sessions as logins
from tests.attacks.attack import mistakes
from tests.attacks.door import ORIGIN, Door
from tests.attacks.tables_of_key_sets import key_set, key_set_jwts

if TYPE_CHECKING:
    from tests.attacks.attack import Table

__all__ = ["TABLES", "door_for", "run_table"]


@dataclass(frozen=True)
class Row:
    """One table: what it is about, and whether it wants a server with public keys."""

    what: str
    table: Table
    with_key_set: bool = False


TABLES: Final[dict[str, Row]] = {
    "keys": Row("texts that are no good API key", credentials.api_keys),
    "jwt": Row("forged JWTs, one secret", credentials.hmac_jwts),
    "jwks": Row("forged JWTs, a set of public keys", key_set_jwts, with_key_set=True),
    "tokens": Row("forged public access tokens", credentials.public_tokens),
    "tokens-elsewhere": Row("good tokens where they are not for", credentials.tokens_elsewhere),
    "scopes": Row("good keys for what they may not do", credentials.scopes),
    "ids": Row("texts that are no run id", requests.run_ids),
    "strangers": Row("what is there and what is not, without a credential", requests.strangers),
    "other-sites": Row("pages of other sites", requests.other_sites),
    "headers": Row("what a header's text may do", requests.header_texts),
    "sessions": Row("cookies that are no session, and logins that are none", logins.sessions),
    "page-files": Row("paths that lead out of the dashboard's files", logins.page_files),
    "bodies": Row("JSON, and what is none", requests.bodies),
}


def door_for(name: str) -> Door:
    """Return the server that a table wants."""
    return Door(jwks=key_set() if TABLES[name].with_key_set else None, cors=(ORIGIN,))


def run_table(name: str) -> tuple[int, list[str]]:
    """Return how many attacks there were, and which were not answered as they should be."""
    with door_for(name) as door:
        return mistakes(door, TABLES[name].table(door))
