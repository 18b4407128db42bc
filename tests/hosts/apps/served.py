"""`flow.asgi()` by itself."""

from hosted import ENDPOINTS, flow

app = flow.asgi(endpoints=ENDPOINTS)
