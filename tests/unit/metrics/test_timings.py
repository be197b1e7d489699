"""The histograms of a worker: every one has a help text, and those of several spools add up."""

from mta.metrics.histogram import Histogram
from mta.metrics.timings import COMMITS_HELP, TIMINGS_HELP, Commits, Timings, sum_of


def test_every_histogram_is_told_by_its_name_and_help() -> None:
    assert Timings().by_name().keys() == TIMINGS_HELP.keys()
    assert Commits().by_name().keys() == COMMITS_HELP.keys()


def test_the_sum_of_histograms_has_what_each_of_them_has() -> None:
    one, two = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    for seconds in (0.5, 1.5, 7.0):
        one.observe(seconds)
    two.observe(1.5)
    total = sum_of([one, two])
    assert total.counts == [1, 2, 1] and total.sum == 10.5 and total.max == 7.0
    assert one.counts == [1, 1, 1]  # untouched
