"""What `/metrics` shows of the server: counts and times, no names of customers."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)


class Numbers:
    """The counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sluice_license_server_requests",
            "Requests answered, by what was asked and the status",
            ("what", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "sluice_license_server_request_seconds",
            "From the whole request to the answer, its commit included",
            ("what",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # `labels` looks a child up under a lock each time; there are few.
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, what: str, status: int, seconds: float) -> None:
        """One request was answered."""
        found = self._children.get((what, status))
        if found is None:
            found = self._requests.labels(what, str(status)), self._seconds.labels(what)
            self._children[what, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A number that is read when the page is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def page(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self._registry)
