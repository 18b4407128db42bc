"""Put the dashboard's libraries into `stepflow/dashboard/static/vendor`, as its manifest asks.

`manifest.json` names each package with its version and what npm says its archive's hash is; each
file with where it is in the package, what is replaced in it, and the SHA-256 of what came out. To
take another version: write it there, delete the `integrity` beside it, run `make vendor`, read the
diff. `--check` writes nothing and fails where something differs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

VENDOR: Final = Path(__file__).resolve().parents[1] / "stepflow/dashboard/static/vendor"
MANIFEST: Final = VENDOR / "manifest.json"


def main(arguments: list[str]) -> int:
    manifest = json.loads(MANIFEST.read_text())
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as directory:
        for package in manifest["packages"]:
            made.update(_taken(package, _archive(package, Path(directory))))
    made["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    stale = [
        name
        for name, content in made.items()
        if not (VENDOR / name).is_file() or (VENDOR / name).read_bytes() != content
    ]
    if "--check" in arguments:
        print("\n".join(f"{name} is not what the manifest asks for" for name in stale))
        return 1 if stale else 0
    for name in stale:
        (VENDOR / name).write_bytes(made[name])
        print(f"wrote {name}")
    return 0


def _archive(package: dict[str, Any], directory: Path) -> Path:
    """Return the package's archive, with the hash that the manifest knows."""
    wanted = f"{package['name']}@{package['version']}"
    done = subprocess.run(
        ["npm", "pack", "--silent", wanted], cwd=directory, check=True, capture_output=True
    )
    archive = directory / done.stdout.decode().strip()
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if package.setdefault("integrity", f"sha512-{digest}") != f"sha512-{digest}":
        message = f"{wanted} is not the archive that the manifest knows"
        raise SystemExit(message)
    return archive


def _taken(package: dict[str, Any], archive: Path) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for file in package["files"]:
            member = tar.extractfile(f"package/{file['from']}")
            if member is None:
                message = f"{package['name']} has no {file['from']}"
                raise SystemExit(message)
            content = member.read()
            for old, new in file.get("replaced", {}).items():
                if content.count(old.encode()) != 1:
                    message = (
                        f"{file['from']}: {old!r} is there {content.count(old.encode())} times"
                    )
                    raise SystemExit(message)
                content = content.replace(old.encode(), new.encode())
            file["sha256"] = hashlib.sha256(content).hexdigest()
            made[file["path"]] = content
    return made


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
