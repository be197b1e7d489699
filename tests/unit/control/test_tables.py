"""The first queues over several workers are those of the sum, whatever each lists first; or it is said how far off that is."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.control.tables import MAX_DEPTH, ORDERS, Table, merge_queues, merge_waits, read_table
from tests.support.faces import Face, GoneFace, SilentFace, a_queue

Row = dict[str, Any]


def read(*faces: Face, sort: str = "recipients", limit: int = 3, **more: Any) -> Table:
    more = {"match": "", "deadline_s": 2.0, **more}
    return asyncio.run(read_table(faces, sort=sort, limit=limit, **more))


def truth(*faces: Face, sort: str) -> list[Row]:
    return sorted(merge_queues([row for each in faces for row in each.table]), key=ORDERS[sort])


def names(rows: list[Row]) -> list[str]:
    return [row["queue"] for row in rows]


def test_a_queue_that_is_first_only_in_the_sum_is_found() -> None:
    faces = []
    for number in range(2):
        table = [a_queue(f"only{number}-{n:03}.example", 101) for n in range(150)]
        faces.append(Face(number, [*table, a_queue("both.example", 100)]))
    table = read(*faces)
    assert names(table.rows)[0] == "both.example/default"
    assert table.rows[0]["recipients"] == 200
    assert (table.total, table.is_total_exact, table.missing) == (301, True, 0)


def test_numbers_of_a_queue_are_complete_where_one_worker_listed_it_last() -> None:
    """Listed first by one, far behind in the other: what the other has is asked for by name."""
    behind = [a_queue(f"x{n:03}.example", 50) for n in range(300)]
    faces = [
        Face(0, [a_queue("a.example", 1000, held=1, oldest_at=7.0)]),
        Face(1, [*behind, a_queue("a.example", 3, held=2, connections=4, oldest_at=5.0)]),
    ]
    row = read(*faces).rows[0]
    assert (row["recipients"], row["held"], row["connections"]) == (1003, 3, 4)
    assert row["oldest_at"] == 5.0


def test_a_flat_table_is_not_read_whole_and_says_what_it_may_lack() -> None:
    faces = [Face(n, [a_queue(f"q{n}-{m}.example") for m in range(3 * MAX_DEPTH)]) for n in (0, 1)]
    table = read(*faces)
    assert len(table.rows) == 3
    assert table.missing == 2  # one recipient in each of the two
    assert (table.total, table.is_total_exact) == (6 * MAX_DEPTH, True)
    for face in faces:
        depths = [int(each.split()[2]) for each in face.asked if each.startswith("queues ")]
        assert len(depths) <= 2 and max(depths) <= MAX_DEPTH


def test_more_names_than_can_be_compared_are_at_least_so_many() -> None:
    faces = [Face(n, [a_queue(f"q{n}-{m}.example") for m in range(21_000)]) for n in (0, 1)]
    table = read(*faces)
    assert (table.total, table.is_total_exact) == (21_000, False)


def test_one_worker_alone_is_asked_once_for_no_more_than_is_shown() -> None:
    face = Face(0, [a_queue(f"{n}.example", n) for n in range(50)])
    table = read(face)
    assert [row["recipients"] for row in table.rows] == [49, 48, 47]
    assert (table.total, table.is_total_exact, table.missing) == (50, True, 0)
    assert face.asked == ["queues recipients 3 "]


def test_who_is_silent_is_named_and_the_others_are_merged_in_time() -> None:
    faces = [
        Face(0, [a_queue("a.example", 5)]),
        SilentFace(1, [a_queue("a.example", 5)]),
        GoneFace(2),
        Face(3, [a_queue("a.example", 6)]),
    ]
    table = read(*faces, deadline_s=0.3)
    assert table.silent == [1, 2]
    assert [(row["queue"], row["recipients"]) for row in table.rows] == [("a.example/default", 11)]


def test_nobody_answers() -> None:
    table = read(SilentFace(0), GoneFace(1), deadline_s=0.1)
    assert (table.rows, table.total, table.silent) == ([], 0, [0, 1])


def test_names_are_matched_and_counted_by_what_matches() -> None:
    faces = [Face(n, [a_queue("a.example", 5), a_queue("b.test", 9)]) for n in (0, 1)]
    table = read(*faces, match=".example")
    assert (names(table.rows), table.total) == (["a.example/default"], 1)


def test_two_rows_of_a_queue_become_one_with_the_state_that_waits_longest() -> None:
    (row,) = merge_queues(
        [
            a_queue("a.example", 1, next_at=5.0, mode="backoff", reason="no", due=None),
            a_queue("a.example", 2, next_at=0.0, paused=True, due=9.0, oldest_at=0.0),
        ]
    )
    assert (row["recipients"], row["mode"], row["reason"]) == (3, "backoff", "no")
    assert (row["paused"], row["due"], row["oldest_at"]) == (True, 9.0, 1000.0)


def test_a_reason_that_several_workers_give_is_told_once_until_the_latest_time() -> None:
    def wait(until: float | None, what: str = "rate") -> Row:
        return {"what": what, "of": "a.example/default", "place": "x", "until": until}

    assert merge_waits([wait(1.0), wait(3.0), wait(2.0)]) == [wait(3.0)]
    assert merge_waits([wait(1.0), wait(None), wait(2.0)]) == [wait(None)]
    assert merge_waits([wait(None), wait(2.0), wait(1.0, "dns")]) == [wait(None), wait(1.0, "dns")]


# Few names and small numbers, so that queues meet and tie; more of them than the smallest depth.
TABLES = st.lists(
    st.dictionaries(st.integers(0, 400), st.integers(0, 30), min_size=0, max_size=300),
    min_size=2,
    max_size=4,
)


@pytest.mark.parametrize("sort", list(ORDERS))
@given(tables=TABLES, limit=st.integers(1, 60))
def test_the_table_is_that_of_the_sum_or_says_what_it_may_lack(
    sort: str, tables: list[dict[int, int]], limit: int
) -> None:
    faces = [
        Face(
            number,
            [
                a_queue(
                    f"q{name:03}.example",
                    count,
                    oldest_at=float(1 + (name * 7 + number * count) % 50),
                    due=None if count % 5 == 0 else float((name * 3 + number) % 40),
                )
                for name, count in table.items()
            ],
        )
        for number, table in enumerate(tables)
    ]
    found = read(*faces, sort=sort, limit=limit, deadline_s=5.0)
    whole = truth(*faces, sort=sort)
    assert found.total == len(whole)
    by_name = {row["queue"]: row for row in whole}
    assert found.rows == [by_name[name] for name in names(found.rows)]  # the numbers are complete
    assert len(found.rows) == min(limit, len(whole))
    # The order is by value; among equals any will do.
    keys = [ORDERS[sort](row)[:-1] or ORDERS[sort](row) for row in found.rows]
    wanted = [ORDERS[sort](row)[:-1] or ORDERS[sort](row) for row in whole[:limit]]
    if not found.missing:
        assert keys == wanted
    else:
        column = {"recipients": "recipients", "bytes": "size_bytes"}[sort]
        hidden = [row[column] for row in whole if row["queue"] not in names(found.rows)]
        assert max(hidden, default=0) <= found.missing
