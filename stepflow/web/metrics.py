"""`engine.metrics()` as Prometheus text.

A name that ends in `_total` is a counter; one with `_bucket`, `_count` and `_sum` is a histogram;
every other is a gauge. A name may carry labels, as the text format writes them:
`stepflow_runs{status="running"}`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4.encode()
_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="([^"]*)"')


class _Values(Collector):
    """One moment's values, as prometheus_client wants to be told them."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = values

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        histograms = {n.partition("_bucket{")[0] for n in self._values if "_bucket{" in n}
        parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}
        for name in sorted(histograms):
            families[name] = self._histogram(name)
        for full_name, value in sorted(self._values.items()):
            name, _, text = full_name.partition("{")
            if name in parts:
                continue
            labels = dict(_LABEL.findall(text))
            family = families.get(name)
            if family is None:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family = families[name] = kind(name, _words(name), labels=list(labels))
            family.add_metric(list(labels.values()), value)  # type: ignore[attr-defined]
        return families.values()

    def _histogram(self, name: str) -> Metric:
        begin = f'{name}_bucket{{le="'
        # They come in the order of their bounds, the last one being +Inf.
        buckets = [
            (key.removeprefix(begin).removesuffix('"}'), value)
            for key, value in self._values.items()
            if key.startswith(begin)
        ]
        family = HistogramMetricFamily(name, _words(name))
        family.add_metric([], buckets=buckets, sum_value=self._values[f"{name}_sum"])
        return family


def _words(name: str) -> str:
    return name.removeprefix("stepflow_").replace("_", " ")


def exposition(values: Mapping[str, float]) -> bytes:
    """Return the values in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Values(values))
    return generate_latest(registry)
