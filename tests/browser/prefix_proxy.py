"""A proxy that takes a prefix away and tells nobody, as many do: the upstream's name in `Host`."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PrefixProxy:
    """Everything below `prefix` is passed on to `port` on this machine, without it."""

    def __init__(self, port: int, prefix: str) -> None:
        handler = type("Handler", (_Handler,), {"port": port, "prefix": prefix})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    port = 0
    prefix = ""
    protocol_version = "HTTP/1.0"  # the end of the connection is the end of an answer

    def _pass_on(self) -> None:
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: text for name, text in self.headers.items() if name != "Connection"}
        headers["Host"] = f"127.0.0.1:{self.port}"
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            upstream.request(self.command, self.path.removeprefix(self.prefix), body, headers)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, text)
            self.end_headers()
            while part := answer.read1(65536):
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            self.close_connection = True
        finally:
            upstream.close()

    do_GET = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815  as the base class wants them

    def log_message(self, format: str, *args: object) -> None:
        pass
