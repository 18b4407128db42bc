"""The service of the conformance suite: `stepflow serve tests/conformance/app.py`."""

from stepflow import Stepflow
from stepflow.testing.conformance import register

flow = Stepflow()
register(flow)
