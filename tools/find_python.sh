#!/usr/bin/env bash
# Print a Python that is 3.11 or newer and can make a virtual environment, or say what to install.
set -euo pipefail

for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
    path="$(command -v "$name" 2>/dev/null)" || continue
    if "$path" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$path"
        exit 0
    fi
done

cat >&2 <<'TEXT'
Stepflow needs Python 3.11 or newer with its venv module, and found none on PATH.
  Debian, Ubuntu:  apt-get install python3 python3-venv
  Fedora:          dnf install python3
  macOS:           brew install python
or name one: make PYTHON=/path/to/python3.12 …
TEXT
exit 1
