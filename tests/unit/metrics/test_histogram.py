"""Durations in buckets, and a loop's lag that a blocked loop cannot hide."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.metrics.histogram import LAG_EDGES, Histogram, LoopLag, Summary


class FakeLoop:
    """A loop whose time is moved by hand, and whose callbacks run when they are due or later."""

    def __init__(self) -> None:
        self.time = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.timers.append((self.time + delay_s, callback))

    def run_one(self, late_s: float = 0.0) -> None:
        due, callback = self.timers.pop(0)
        self.time = due + late_s
        callback()


def test_without_observations_all_is_nothing() -> None:
    assert Histogram(LAG_EDGES).summary() == Summary(0, 0.0, 0.0, 0.0)


def test_quantiles_are_exact_to_a_bucket_and_never_above_the_maximum() -> None:
    histogram = Histogram(LAG_EDGES)
    for _ in range(98):
        histogram.observe(0.0011)
    histogram.observe(0.044)
    histogram.observe(0.3)
    assert histogram.summary() == Summary(100, 0.002, 0.05, 0.3)


def test_a_duration_above_every_edge_is_the_maximum() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(50)
    assert histogram.quantile(0.5) == 50


def test_after_a_reset_it_begins_again() -> None:
    histogram = Histogram(LAG_EDGES)
    histogram.observe(1)
    histogram.reset()
    assert histogram.summary() == Summary(0, 0.0, 0.0, 0.0)


@given(st.lists(st.floats(0, 20), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_no_less_than_the_true_one_and_at_most_its_bucket_more(
    seconds: list[float], share: float
) -> None:
    histogram = Histogram(LAG_EDGES)
    for one in seconds:
        histogram.observe(one)
    wanted = max(1, -int(-share * len(seconds) // 1))
    true = sorted(seconds)[min(wanted, len(seconds)) - 1]
    found = histogram.quantile(share)
    edge = min((one for one in LAG_EDGES if one >= true), default=max(seconds))
    assert true <= found <= edge or found == max(seconds)


def test_a_loop_on_time_shows_no_lag() -> None:
    loop = FakeLoop()
    lag = LoopLag(loop.call_later, lambda: loop.time)
    lag.start()
    for _ in range(10):
        loop.run_one()
    assert lag.histogram.summary().count == 10
    assert lag.histogram.max == pytest.approx(0, abs=1e-9)


def test_a_blocked_second_counts_for_each_tick_it_swallowed() -> None:
    loop = FakeLoop()
    lag = LoopLag(loop.call_later, lambda: loop.time, interval_s=0.05)
    lag.start()
    loop.run_one(late_s=0.999)
    assert lag.histogram.count == 20
    assert lag.histogram.max == pytest.approx(0.999)
    for _ in range(20):
        loop.run_one()
    assert lag.histogram.quantile(0.75) > 0.4


def test_an_hour_of_sleep_is_bounded_work() -> None:
    loop = FakeLoop()
    lag = LoopLag(loop.call_later, lambda: loop.time)
    lag.start()
    loop.run_one(late_s=3600)
    assert lag.histogram.count < 500


def test_a_stopped_measurement_sets_no_timer() -> None:
    loop = FakeLoop()
    lag = LoopLag(loop.call_later, lambda: loop.time)
    lag.start()
    lag.start()
    lag.stop()
    loop.run_one()
    assert not loop.timers
    assert lag.histogram.count == 0
