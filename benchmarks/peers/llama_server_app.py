"""W1 served by llama-agents-server with its SQLite store: `llama_server_app.py PORT FILE`.

What it keeps is each event that a handler sends, so a run goes on from its last one after a crash.
"""

from __future__ import annotations

import asyncio
import sys

from llama_agents.server import SqliteWorkflowStore, WorkflowServer
from llama_app import W1


async def main() -> None:
    server = WorkflowServer(workflow_store=SqliteWorkflowStore(sys.argv[2]))
    server.add_workflow("w1", W1(timeout=None))
    quiet = {"log_level": "critical", "access_log": False}
    await server.serve("127.0.0.1", int(sys.argv[1]), uvicorn_config=quiet)


asyncio.run(main())
