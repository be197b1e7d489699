"""The page that Prometheus reads, rendered by prometheus-client from the snapshots of all workers.

Nothing is registered globally and nothing of prometheus-client stands on the hot path: what is counted are plain integers, and
names and labels are put to them here, at each scrape. What no worker knows is not shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from mta.metrics.catalogue import SERVER_METRICS, WORKER_METRICS, Kind, Metric, Snapshot
from mta.metrics.counts import PREFIX

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render(server: Snapshot, workers: Mapping[int, Snapshot | None]) -> bytes:
    """The whole page in the text format; send it as `CONTENT_TYPE`. A worker without a snapshot did not answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(server, workers))
    return generate_latest(registry)


class _Scrape(Collector):
    """What prometheus-client wants of a collector: to be asked, once."""

    def __init__(self, server: Snapshot, workers: Mapping[int, Snapshot | None]) -> None:
        up = {str(number): int(each is not None) for number, each in workers.items()}
        self._server = {**server, "worker_up": up}
        self._workers = {
            str(number): each for number, each in sorted(workers.items()) if each is not None
        }

    def collect(self) -> Iterable[Family]:
        for metric in SERVER_METRICS:
            yield _family(metric, [([], self._server.get(metric.name))], [])
        for metric in WORKER_METRICS:
            values = [([name], each.get(metric.name)) for name, each in self._workers.items()]
            yield _family(metric, values, ["worker"])


def _family(metric: Metric, values: list[tuple[list[str], Any]], labels: list[str]) -> Family:
    """One name with its samples; `values`: the values of `labels`, and what the snapshot says."""
    labels = [*labels, *metric.labels]
    name = PREFIX + metric.name
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(name, metric.help, labels=labels)
        for of, value in values:
            if value is not None:
                histogram.add_metric(of, buckets=_buckets(value), sum_value=value["sum"])
        return histogram
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(name, metric.help, labels=labels)
    for of, value in values:
        for inner, number in _samples(of, value):
            family.add_metric(inner, number)
    return family


def _samples(of: list[str], value: Any) -> Iterator[tuple[list[str], float]]:
    """What stands under these labels' values, and under those of the labels below."""
    if isinstance(value, Mapping):
        for label, inner in value.items():
            yield from _samples([*of, label], inner)
    elif value is not None:
        yield of, value


def _buckets(value: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    buckets = []
    below = 0
    for edge, count in zip((*value["edges"], None), value["counts"], strict=True):
        below += count
        buckets.append(("+Inf" if edge is None else str(edge), float(below)))
    return buckets
