"""The HTTP API as typed methods, for asyncio and for threads."""

from stepflow.client.aio import Client
from stepflow.client.in_process import BlockingInProcess, InProcess
from stepflow.client.runs import ClientRun, SyncClientRun
from stepflow.client.sync import SyncClient
from stepflow.client.wire import ApiKey, AwaitedEvent, Health, MadeApiKey, TokenGrant
from stepflow.model.all_event import AllEvent

__all__ = [
    "AllEvent",
    "ApiKey",
    "AwaitedEvent",
    "BlockingInProcess",
    "Client",
    "ClientRun",
    "Health",
    "InProcess",
    "MadeApiKey",
    "SyncClient",
    "SyncClientRun",
    "TokenGrant",
]
