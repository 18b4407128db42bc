"""The service of the conformance suite: `stepflow serve tests/conformance/app.py`.

`CONFORMANCE_LACKS` names the capabilities that its engine has not, with commas.
"""

import os

from stepflow import Stepflow
from stepflow.testing.conformance import register

flow = Stepflow()
register(flow, lacks=os.environ.get("CONFORMANCE_LACKS", "").split(","))
