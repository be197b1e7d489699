"""Counters: plain integers, each with its help."""

from dataclasses import fields

import pytest

from mta.metrics.counts import Counts, describe_counts


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
