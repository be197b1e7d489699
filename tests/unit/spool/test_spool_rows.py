"""Many rows in one statement, and back in one value, lose nothing."""

from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.spool.rows import RowInsert, RowQuery, as_json, clean_text


@pytest.mark.parametrize("columns", ["a, b", "a, b" + ", b" * 15])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 1000, 3000])
def test_any_number_of_rows_is_inserted_once_each(columns: str, count: int) -> None:
    names = [f"c{n}" for n in range(columns.count(",") + 1)]
    connection = apsw.Connection("")
    connection.execute(f"CREATE TABLE t ({','.join(names)})")
    flat: list[Any] = []
    for row in range(count):
        flat += [row] * len(names)
    RowInsert("t", ", ".join(names)).run(connection.cursor(), flat)
    rows = RowQuery(f"c0, {names[-1]}", "FROM t ORDER BY c0").run(connection.cursor())
    assert rows == [[n, n] for n in range(count)]
    connection.close()


@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))),
)
def test_doubles_and_texts_pass_through_sqlite_as_json_unchanged(
    numbers: list[float], texts: list[str]
) -> None:
    connection = apsw.Connection("")
    query = RowQuery("value", "FROM json_each(?)")
    for values in (numbers, texts):
        found = query.run(connection.cursor(), (as_json(values),))
        assert [row[0] for row in found] == values
    connection.close()


@given(st.text(st.characters()))
def test_any_text_can_be_stored_once_cleaned(text: str) -> None:
    cleaned = clean_text(text)
    cleaned.encode()
    assert cleaned == text or any("\ud800" <= character <= "\udfff" for character in text)
