"""What every engine must do: claims that a test class inherits.

An engine has read `engine.protocol.Engine`; this is how it shows that it has understood. The claims
speak to a `Caller`, so that the same ones hold for an engine called directly (`EngineCaller`) and
for one behind HTTP (`stepflow.client.Client` is a `Caller`)::

    @pytest.mark.asyncio
    class TestMyEngine(EngineConformance):
        @pytest_asyncio.fixture
        async def caller(self):
            flow = Stepflow(engine=MyEngine(…))
            register(flow)
            async with flow:
                yield EngineCaller(flow.engine)

They use real time and no sleeps, and share an engine without harm.
"""

from stepflow.testing.conformance import asserting
from stepflow.testing.conformance.callers import Awaited, Caller, EngineCaller, Started
from stepflow.testing.conformance.suite import EngineConformance
from stepflow.testing.conformance.workflows import register

__all__ = ["Awaited", "Caller", "EngineCaller", "EngineConformance", "Started", "asserting"]
__all__ += ["register"]
