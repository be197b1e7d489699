"""The page: every number of every worker under its name, kind and help, in a form that Prometheus' own parser takes."""

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mta.metrics.catalogue import (
    SERVER_METRICS,
    WORKER_METRICS,
    Kind,
    Snapshot,
    snapshot_histogram,
)
from mta.metrics.counts import Counts, add_to, add_to_both
from mta.metrics.histogram import Histogram
from mta.metrics.render import CONTENT_TYPE, render

SERVER: Snapshot = {"build_info": {"1.2.3": 1}, "uptime_seconds": 7.0}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(page: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_every_metric_has_a_good_name_and_a_sentence_of_help() -> None:
    every = (*SERVER_METRICS, *WORKER_METRICS)
    names = [each.shown for each in every]
    assert len(set(names)) == len(names)
    for each in every:
        assert re.fullmatch(r"sluice_[a-z][a-z0-9_]*", each.shown)
        assert each.help[0].isupper() or each.help[0].isdigit()
        assert each.help.endswith(".")
        # What `promtool check metrics` holds against names.
        assert each.shown.endswith("_total") == (each.kind is Kind.COUNTER)
        assert not each.name.endswith(("_total", "_count", "_sum", "_bucket"))


def test_numbers_stand_by_worker_and_by_category() -> None:
    counts = Counts()
    add_to(counts.bounces_by_category, "bad-mailbox")
    add_to(counts.bounces_by_category, "bad-mailbox")
    first = {"delivered": 3, "bounces_by_category": counts.bounces_by_category, "queues": 2}
    page = samples(render(SERVER, {0: first, 1: {"delivered": 4}}))
    assert page["sluice_delivered_total", (("worker", "0"),)] == 3
    assert page["sluice_delivered_total", (("worker", "1"),)] == 4
    labels = (("category", "bad-mailbox"), ("worker", "0"))
    assert page["sluice_bounces_by_category_total", labels] == 2
    assert page["sluice_queues", (("worker", "0"),)] == 2
    assert page["sluice_build_info", (("version", "1.2.3"),)] == 1


def test_attempts_stand_by_site_and_outcome() -> None:
    counts = Counts()
    add_to_both(counts.attempts_by_site, "google", "delivered")
    add_to_both(counts.attempts_by_site, "google", "delivered")
    add_to_both(counts.attempts_by_site, "other", "bounced")
    page = samples(render(SERVER, {0: {"attempts_by_site": counts.attempts_by_site}}))
    of = (("outcome", "delivered"), ("site", "google"), ("worker", "0"))
    assert page["sluice_attempts_by_site_total", of] == 2
    of = (("outcome", "bounced"), ("site", "other"), ("worker", "0"))
    assert page["sluice_attempts_by_site_total", of] == 1


def test_what_is_not_known_is_not_shown() -> None:
    page = samples(render(SERVER, {0: {"queues": None}}))
    assert ("sluice_queues", (("worker", "0"),)) not in page


def test_a_worker_that_did_not_answer_is_down_and_shows_nothing_else() -> None:
    page = samples(render(SERVER, {0: {"queues": 1}, 1: None}))
    assert page["sluice_worker_up", (("worker", "0"),)] == 1
    assert page["sluice_worker_up", (("worker", "1"),)] == 0
    assert [name for name, labels in page if ("worker", "1") in labels] == ["sluice_worker_up"]


def test_a_histogram_is_shown_with_cumulative_buckets() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    told = json.loads(json.dumps(snapshot_histogram(histogram)))  # it crosses processes
    page = samples(render(SERVER, {3: {"loop_lag_seconds": told}}))
    worker = ("worker", "3")
    assert page["sluice_loop_lag_seconds_bucket", (("le", "0.1"), worker)] == 2
    assert page["sluice_loop_lag_seconds_bucket", (("le", "1.0"), worker)] == 3
    assert page["sluice_loop_lag_seconds_bucket", (("le", "+Inf"), worker)] == 4
    assert page["sluice_loop_lag_seconds_count", (worker,)] == 4
    assert page["sluice_loop_lag_seconds_sum", (worker,)] == pytest.approx(7.65)


def test_every_family_is_told_once_with_its_help_and_kind() -> None:
    text = render(SERVER, {0: {}, 1: {}}).decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert len(kinds) == len(re.findall("^# TYPE", text, re.MULTILINE))
    assert kinds == {each.shown: each.kind.value for each in (*SERVER_METRICS, *WORKER_METRICS)}
    assert len(re.findall("^# HELP", text, re.MULTILINE)) == len(kinds)
    assert CONTENT_TYPE.startswith("text/plain")
