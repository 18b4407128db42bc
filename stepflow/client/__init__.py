"""The HTTP API as typed methods, for asyncio and for threads."""

from stepflow.client.aio import Client
from stepflow.client.sync import SyncClient
from stepflow.client.wire import AwaitedEvent, Health, TokenGrant, TriggeredRun
from stepflow.model.all_event import AllEvent

__all__ = [
    "AllEvent",
    "AwaitedEvent",
    "Client",
    "Health",
    "SyncClient",
    "TokenGrant",
    "TriggeredRun",
]
