"""Counters: plain integers, each with its help; the page tells all of them."""

from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mta.metrics.counts import Counts, add_to, describe_counts
from mta.metrics.histogram import Histogram
from mta.metrics.render import CONTENT_TYPE, Gauge, Page


def samples(page: Page) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(page.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_are_slotted_so_that_a_misspelt_one_is_an_error() -> None:
    counts = Counts()
    with pytest.raises(AttributeError):
        counts.delivred = 1  # type: ignore[attr-defined]


def test_every_count_begins_at_nothing_and_has_a_sentence_of_help() -> None:
    counts = Counts()
    for one in describe_counts():
        assert getattr(counts, one.name) in (0, {})
        assert one.help[0].isupper() and one.help.endswith(".")
    assert len(describe_counts()) == len(fields(Counts))


def test_the_page_shows_each_worker_and_each_category() -> None:
    first, second = Counts(), Counts()
    first.delivered += 3
    second.delivered += 4
    add_to(first.bounces_by_category, "bad-mailbox")
    add_to(first.bounces_by_category, "bad-mailbox")
    page = Page("1.2.3")
    page.add_counts("0", first)
    page.add_counts("1", second)
    found = samples(page)
    assert found["sluice_delivered_total", (("worker", "0"),)] == 3
    assert found["sluice_delivered_total", (("worker", "1"),)] == 4
    labels = (("category", "bad-mailbox"), ("worker", "0"))
    assert found["sluice_bounces_by_category_total", labels] == 2
    assert found["sluice_build_info", (("version", "1.2.3"),)] == 1


def test_a_gauge_is_read_at_each_scrape_plain_or_by_label() -> None:
    numbers = [5.0, 6.0]
    page = Page("1")
    page.add_gauge(Gauge("connections_open", "Open now.", numbers.pop))
    page.add_gauge(Gauge("entries", "Queued now.", lambda: {"due": 2.0, "held": 1.0}, "state"))
    assert samples(page)["sluice_connections_open", ()] == 6
    found = samples(page)
    assert found["sluice_connections_open", ()] == 5
    assert found["sluice_entries", (("state", "held"),)] == 1


def test_a_histogram_is_shown_with_cumulative_buckets() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    page = Page("1")
    page.add_histogram("loop_lag_seconds", "How late.", histogram)
    found = samples(page)
    assert found["sluice_loop_lag_seconds_bucket", (("le", "0.1"),)] == 2
    assert found["sluice_loop_lag_seconds_bucket", (("le", "1.0"),)] == 3
    assert found["sluice_loop_lag_seconds_bucket", (("le", "+Inf"),)] == 4
    assert found["sluice_loop_lag_seconds_count", ()] == 4
    assert found["sluice_loop_lag_seconds_sum", ()] == pytest.approx(7.65)


def test_two_pages_do_not_know_of_each_other() -> None:
    Page("1").add_counts("0", Counts())
    assert ("sluice_delivered_total", (("worker", "0"),)) not in samples(Page("1"))
    assert CONTENT_TYPE.startswith("text/plain")
