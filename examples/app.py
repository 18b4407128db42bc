"""Four examples in one service: what `make run` serves."""

from __future__ import annotations

import approval
import fan_out
import shop
import welcome

from stepflow import Stepflow

flow = Stepflow()

for example in (welcome, shop, approval, fan_out):
    for workflow in example.flow.registry.all():
        flow.registry.add(workflow.function, workflow.options)
