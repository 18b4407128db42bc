"""A client with many hands that writes down what it was told: `load.py URL_FILE LEDGER SEED HANDS`.

It knows the HTTP API and nothing else of Stepflow. Each line of the ledger is one fact, written
after the answer that it rests on had arrived whole. Where the outcome is unknown it asks again with
the same idempotency key, until it is told. It works until its standard input ends.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.faults.ledger import KEY

PAUSE_S = 0.05
BATCH = 25
LETTERS = 30


class Stopped(Exception):
    """The load shall end, and the call is not made again."""


class Hand:
    """One connection, one thread, one call after the other."""

    def __init__(self, url_file: Path, ledger: int, rng: random.Random, number: int) -> None:
        self._url_file = url_file
        self._ledger = ledger
        self.rng = rng
        self.number = number
        self.stopping = threading.Event()
        self.refused = 0
        self._connection: http.client.HTTPConnection | None = None
        self._url = ""
        self._mine: list[Any] = []

    def run(self) -> None:
        """Work until told to stop."""
        work = (self.triggers, self.mails)[self.number % 3 == 2]
        try:
            while True:
                work()
        except Stopped:
            pass

    def triggers(self) -> None:
        """Start a run, or many at once; now and then look at one, or cancel one."""
        n = self.rng.randrange(1_000_000)
        dice = self.rng.random()
        if dice < 0.15:
            values = list(range(n, n + BATCH))
            status, told = self.once("POST", "/trigger/tiny/batch", values)
            if status == 200:
                rows = [[row["runId"], value] for row, value in zip(told, values, strict=True)]
                self.note("started", rows)
                self._mine += [run for run, _ in rows]
        elif dice < 0.2:
            told = self.sure("/trigger/nap", 3600)
            self.sure(f"/runs/{told['runId']}/cancel", None)
            self.note("cancelled", told["runId"])
        elif dice < 0.4 and self._mine:
            run = self.rng.choice(self._mine[-100:])
            status, told = self.once("GET", f"/runs/{run}", None)
            if status == 200 and told["status"] == "completed":
                self.note("seen", [run, told["result"]])
        else:
            key = f"k{self.number}-{n}-{dice}"
            told = self.sure("/trigger/tiny", n, key)
            self.note("keyed", [told["runId"], n, key])
            self._mine.append(told["runId"])

    def mails(self) -> None:
        """Send numbered letters to a run, each after the answer to the one before."""
        box = f"{self.number}-{self.rng.randrange(10**9)}"
        told = self.sure("/trigger/inbox", {"id": box}, f"box-{box}")
        self.note("box", [told["runId"], box])
        for letter in [*range(LETTERS), "end"]:
            self.sure(f"/notify/mail-{box}", letter)
            self.note("letter", [told["runId"], letter])

    def note(self, fact: str, what: Any) -> None:
        """Write one line, whole: the file is opened for appending."""
        os.write(self._ledger, f"{json.dumps([fact, what])}\n".encode())

    def sure(self, path: str, body: Any, key: str = "") -> Any:
        """Ask until the answer says what happened."""
        while True:
            status, told = self.once("POST", path, body, key)
            if status == 200:
                return told
            # An answer was lost, and the letter that ended the run had arrived; or the run was
            # cancelled by the call whose answer was lost.
            if status in {404, 409} and ("/notify/" in path or "/cancel" in path):
                return told
            if status not in {0, 503}:
                self.note("wrong", [path, status, told])
                raise Stopped
            time.sleep(PAUSE_S)

    def once(self, method: str, path: str, body: Any, key: str = "") -> tuple[int, Any]:
        """Ask once; status 0 when there was no whole answer."""
        if self.stopping.is_set():
            raise Stopped
        try:
            return self._ask(method, path, body, key)
        except (OSError, http.client.HTTPException, ValueError):
            self.refused += 1
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            time.sleep(PAUSE_S)
            return 0, None

    def _ask(self, method: str, path: str, body: Any, key: str) -> tuple[int, Any]:
        if self._connection is None:
            place = urlsplit(self._url_file.read_text()).netloc
            self._connection = http.client.HTTPConnection(place, timeout=60)
        headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        text = None if method == "GET" else json.dumps(body)
        self._connection.request(method, path, text, headers)
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        return answer.status, told


def main() -> None:
    url_file, ledger, seed, count = sys.argv[1:]
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    hands = [
        Hand(Path(url_file), descriptor, random.Random(f"{seed}-{number}"), number)
        for number in range(int(count))
    ]
    threads = [threading.Thread(target=hand.run, daemon=True) for hand in hands]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    for hand in hands:
        hand.stopping.set()
    for thread in threads:
        thread.join(70)


if __name__ == "__main__":
    main()
