"""A connection that dies without a word, as in a laptop's sleep or behind a forgetful router."""

from __future__ import annotations

import contextlib
import socket
import threading


class SilentProxy:
    """Passes bytes on to `port` on this machine, until it is told to be silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def fall_silent(self, asked: bytes) -> int:
        """Pass on nothing more where that was asked for, and close nothing; return how many."""
        with self._lock:
            living = [
                pair for pair in self._pairs if not pair.over and pair.asked.startswith(asked)
            ]
            for pair in living:
                pair.silent = True
        return len(living)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        with self._lock:
            for pair in self._pairs:
                pair.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    client.close()
                    continue
                pair = _Pair(client, server)
                with self._lock:
                    self._pairs.append(pair)


class _Pair:
    """One connection, and the one behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.silent = self.over = False
        self.asked = b""
        """The last request."""
        self._sockets = (client, server)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source is self._sockets[0]:
                    self.asked = data
                if not self.silent:
                    sink.sendall(data)
        if not self.silent:
            self.close()

    def close(self) -> None:
        self.over = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
