"""`flow.asgi()` by itself."""

from hosted import flow

app = flow.asgi()
