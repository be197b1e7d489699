"""Rates: a burst, then one an interval; a table that does not grow."""

import pytest

from licensing.server.rates import BAD_SIGNATURES, PER_NODE, Rate, RateTable


def test_a_burst_is_let_through_and_then_one_an_interval() -> None:
    table = RateTable(PER_NODE)
    assert [table.take("n", 100.0) for _ in range(5)] == [0.0] * 5
    assert table.take("n", 100.0) == pytest.approx(10.0)
    assert table.take("n", 109.9) == pytest.approx(0.1)
    assert table.take("n", 110.0) == 0.0
    assert table.take("n", 110.0) == pytest.approx(10.0)


def test_a_refusal_takes_nothing() -> None:
    table = RateTable(BAD_SIGNATURES)
    for _ in range(5):
        table.take("ip", 0.0)
    for _ in range(1_000):
        table.take("ip", 0.0)
    assert table.wait("ip", 0.0) == pytest.approx(12.0)


def test_keys_do_not_hinder_each_other() -> None:
    table = RateTable(Rate(1, 1))
    assert (table.take("a", 0.0), table.take("b", 0.0)) == (0.0, 0.0)


def test_the_table_has_a_bound_and_forgets_in_favour_of_the_oldest() -> None:
    table = RateTable(Rate(1, 1), max_keys=3)
    for key in "abcd":
        table.take(key, 0.0)
    assert len(table) == 3
    assert table.take("d", 0.0) > 0
    assert table.take("a", 0.0) == 0.0
