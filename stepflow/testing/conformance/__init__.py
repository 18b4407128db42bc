"""What every engine must do: claims that a test class inherits (docs/conformance.md).

An engine has read `engine.protocol.Engine`; this is how it shows that it has understood. There are
four kinds of claims, each a class to inherit and a fixture to give:

==================== ============ ==================================================================
`EngineConformance`  `caller`     what an engine does: called directly (`EngineCaller`), or behind
                                  HTTP (`stepflow.client.Client` is a `Caller`)
`HttpConformance`    `door`       what is on the wire: every route, stream and refusal (`Door`)
`RestartConformance` `deployment` what is so still when a process has been killed (`Deployment`)
`SpareConformance`   `deployment` what others do before a killed process comes back
==================== ============ ==================================================================

::

    @pytest.mark.asyncio
    class TestMyEngine(EngineConformance):
        @pytest_asyncio.fixture
        async def caller(self):
            flow = Stepflow(engine=MyEngine(…))
            register(flow)
            async with flow:
                yield EngineCaller(flow.engine)

They use real time and hardly any of it, and share an engine and its store without harm. What an
engine declares that it cannot do is claimed to be clearly refused (claims/base.py).
"""

from stepflow.testing.conformance import asserting
from stepflow.testing.conformance.callers import Awaited, Caller, EngineCaller, Started
from stepflow.testing.conformance.deployment import Deployment
from stepflow.testing.conformance.door import Door
from stepflow.testing.conformance.suite import (
    EngineConformance,
    HttpConformance,
    RestartConformance,
    SpareConformance,
)
from stepflow.testing.conformance.workflows import register

__all__ = ["Awaited", "Caller", "Deployment", "Door", "EngineCaller", "EngineConformance"]
__all__ += ["HttpConformance", "RestartConformance", "SpareConformance", "Started", "asserting"]
__all__ += ["register"]
