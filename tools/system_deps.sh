#!/usr/bin/env bash
# Install the programs that some tests use, if they are missing and apt-get may install them.
# Quiet and harmless to repeat. Without them those tests are skipped, and under CI they fail.
# `system_deps.sh peers` installs what the benchmarks' other engines use instead.
set -euo pipefail

missing=()

# need PACKAGE PROGRAM...: the package is missing unless one of the programs is there.
need() {
    local package="$1" program
    shift
    for program in "$@"; do
        # Users who are not root have no sbin in their PATH.
        PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null && return
    done
    missing+=("$package")
}

# need_file PACKAGE PATTERN: the same for what brings no program.
need_file() {
    compgen -G "$2" >/dev/null || missing+=("$1")
}

if [ "${1:-}" = peers ]; then
    need_file postgresql '/usr/lib/postgresql/*/bin/initdb'
    need npm npm
else
    need chromium chromium google-chrome
    need nodejs node
    need npm npm
    # In front of the hosts of tests/hosts.
    need nginx-light nginx
    # The database of the second engine.
    need_file postgresql '/usr/lib/postgresql/*/bin/initdb'
    need_file fonts-dejavu-core /usr/share/fonts/truetype/dejavu
    # Faults: system calls that fail, clocks that jump, file systems that lose their power.
    if [ "$(uname -s)" = Linux ]; then
        need strace strace
        need util-linux setpriv
        need util-linux prlimit
        need mount losetup
        need e2fsprogs mkfs.ext4
        need xfsprogs mkfs.xfs
        need_file libfaketime '/usr/lib/*/faketime/libfaketimeMT.so.1'
    fi
fi

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "missing: ${missing[*]} (install them to run everything; here what needs them is left out)"
    exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
# Another apt-get may be at work on the machine: its lock is waited for.
if ! { apt-get update -qq -o Acquire::Retries=3 &&
    apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "${missing[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
