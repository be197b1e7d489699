"""The page that Prometheus reads: counters, gauges and histograms, rendered by prometheus-client at
each scrape.

Nothing is registered globally and nothing of prometheus-client stands on the hot path: a `Page`
knows where the numbers are, and asks for them when it is rendered. Gauges are functions, so what is
true now (entries queued, connections open) is not counted a second time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mta.metrics.counts import PREFIX, Counts, describe_counts
from mta.metrics.histogram import Histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST

# A plain number, or one for each value of the gauge's label.
Reading = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that is true now: `read` is called at each scrape, on the thread that renders."""

    name: str
    help: str
    read: Callable[[], Reading]
    label: str = ""


class Page:
    """All numbers of one process. Build it once; `render` as often as somebody asks."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._counts: list[tuple[str, Counts]] = []
        self._gauges: list[Gauge] = []
        self._histograms: list[tuple[str, str, Histogram]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(self._collect))

    def add_counts(self, worker: str, counts: Counts) -> None:
        """Show these counters with the label `worker`."""
        self._counts.append((worker, counts))

    def add_gauge(self, gauge: Gauge) -> None:
        """Show this number; its name is without the prefix."""
        self._gauges.append(gauge)

    def add_histogram(self, name: str, help_text: str, histogram: Histogram) -> None:
        """Show these buckets; the name is without the prefix and ends in its unit (`_seconds`)."""
        self._histograms.append((name, help_text, histogram))

    def render(self) -> bytes:
        """The whole page in the text format; send it as `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily(
            f"{PREFIX}build_info", "Which release this is.", labels=["version"]
        )
        info.add_metric([self._version], 1)
        yield info
        yield from self._collect_counts()
        for gauge in self._gauges:
            yield _gauge_family(gauge)
        for name, help_text, histogram in self._histograms:
            yield _histogram_family(PREFIX + name, help_text, histogram)

    def _collect_counts(self) -> Iterable[Metric]:
        for one in describe_counts():
            labels = ["worker", one.label] if one.label else ["worker"]
            family = CounterMetricFamily(PREFIX + one.name, one.help, labels=labels)
            for worker, counts in self._counts:
                value = getattr(counts, one.name)
                if one.label:
                    for label, number in tuple(value.items()):
                        family.add_metric([worker, label], number)
                else:
                    family.add_metric([worker], value)
            yield family


class _Scrape(Collector):
    """What prometheus-client wants of a collector: to be asked."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def _gauge_family(gauge: Gauge) -> GaugeMetricFamily:
    labels = [gauge.label] if gauge.label else []
    family = GaugeMetricFamily(PREFIX + gauge.name, gauge.help, labels=labels)
    reading = gauge.read()
    if isinstance(reading, Mapping):
        for label, number in reading.items():
            family.add_metric([label], number)
    else:
        family.add_metric([], reading)
    return family


def _histogram_family(name: str, help_text: str, histogram: Histogram) -> HistogramMetricFamily:
    buckets = []
    below = 0
    for edge, count in zip((*histogram.edges, None), tuple(histogram.counts), strict=True):
        below += count
        buckets.append(("+Inf" if edge is None else str(edge), float(below)))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], buckets=buckets, sum_value=histogram.sum)
    return family
