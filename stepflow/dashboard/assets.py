"""The files of the dashboard, as they are served.

The version is a hash of all files. Below it, `/ui/<version>/app.js`, a file never changes and may
be kept for ever; the modules import one another by relative path, so all of a page is of one
version. Without it, `/ui/app.js` is the same file, to be asked for again by its ETag. The page
itself is at two addresses, and relative ones begin elsewhere at each::

    /ui     ./ui/<version>/app.js
    /ui/    ./<version>/app.js

The page forbids itself more than the published header does: `index.html` has Trusted Types in a
policy of its own, so that no script of ours can make markup or code out of text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

__all__ = ["CONTENT_SECURITY_POLICY", "Asset", "Assets", "assets"]

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""As docs/http-api.md publishes it."""

INDEX: Final = "index.html"
# A file of another kind is not served: nothing that lies there by accident is public.
_MEDIA: Final[Mapping[str, str]] = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}
_ADDRESS: Final = re.compile(rb'(?<=\s)(href|src)="\./')


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, its media type, and what `ETag` says of it."""

    media: bytes
    body: bytes
    etag: bytes


class Assets:
    """All files by name. Names are looked up, never made into paths."""

    __slots__ = ("_by_name", "bare_page", "page", "version")

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: contents by name, `vendor/preact.js`, among them `index.html`."""
        whole = hashlib.sha256()
        for name in sorted(files):
            whole.update(b"%b\0%b" % (name.encode(), hashlib.sha256(files[name]).digest()))
        self.version: Final = whole.hexdigest()[:16]
        self._by_name = {
            name: _asset(name, body) for name, body in files.items() if _suffix(name) in _MEDIA
        }
        self.page: Final = self._page(b"./")
        """The page, for `/ui/`."""
        self.bare_page: Final = self._page(b"./ui/")
        """The page, for `/ui`."""
        self._by_name[INDEX] = self.page

    def find(self, name: str) -> tuple[Asset, bool] | None:
        """Return the file behind `/ui/`, and whether it can never be another one there."""
        version, _, below = name.partition("/")
        if version == self.version and below != INDEX:
            found = self._by_name.get(below)
            return None if found is None else (found, True)
        found = self._by_name.get(name or INDEX)
        return None if found is None else (found, False)

    def _page(self, start: bytes) -> Asset:
        address = rb'\1="%b%b/' % (start, self.version.encode())
        return _asset(INDEX, _ADDRESS.sub(address, self._by_name[INDEX].body))


@cache
def assets() -> Assets:
    """Return the files of the package, read once."""
    return Assets(dict(_files(resources.files("stepflow.dashboard").joinpath("static"))))


def _files(directory: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        name = f"{above}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{name}/")
        else:
            yield name, entry.read_bytes()


def _asset(name: str, body: bytes) -> Asset:
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Asset(_MEDIA[_suffix(name)].encode(), body, b'"%b"' % digest.encode())


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]
