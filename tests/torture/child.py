"""One part in a process of its own: `python -m tests.torture.child MODULE SECONDS SEED FD`.

What it has to say goes to the file descriptor, a JSON object a line: `{"say": …}`, then one of
`{"counts": …}` and `{"failed": …}`. SIGUSR1 writes the stacks of all threads to standard error. All
that the part starts stays below this process; what outlives it is told as `{"left": …}` and killed.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback

from tools import processes


def main(module: str, seconds: float, seed: int, fd: int) -> int:
    """Run the part; return 0 if it passed."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.set_inheritable(fd, False)
    processes.adopt_orphans()

    def tell(**message: object) -> None:
        os.write(fd, json.dumps(message).encode() + b"\n")

    def say(text: str) -> None:
        tell(say=text[:500])

    try:
        counts = importlib.import_module(module).torture(seconds, seed, say)
        tell(counts={str(name): int(count) for name, count in counts.items()})
    except BaseException as error:  # noqa: BLE001  whatever ended it is its result
        traceback.print_exc()
        first = "".join(traceback.format_exception_only(error)).strip()
        tell(failed=first[:4000])
        return 1
    finally:
        left = processes.below(os.getpid())
        tell(left=[str(process) for process in left])
        processes.end(left)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
