"""Laws of header fields: the index agrees with a slow and simple reading of the same block."""

from hypothesis import given
from hypothesis import strategies as st

from mta.mime.author import author_domain
from mta.mime.headers import HeaderIndex, field, fold, iter_fields, split_message, unfold

NAMES = st.sampled_from([b"From", b"FROM", b"from", b"To", b"X-From", b"Fro", b"Subject"])
TEXT = st.text("ab: \t<>@é", max_size=12).map(str.encode)
VALUES = st.lists(TEXT, min_size=1, max_size=4).map(b"\r\n ".join)
FIELDS = st.builds(
    lambda name, blank, value: name + blank + b":" + value + b"\r\n",
    NAMES,
    st.sampled_from([b"", b"", b"", b" ", b"\t "]),
    VALUES,
)


def slowly(block: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = (one.partition(b":") for one in block)
    return [(name.strip(b" \t").lower(), value) for name, _, value in pairs]


@given(st.lists(FIELDS, max_size=8), st.sampled_from([b"from", b"to", b"fro", b"subject"]))
def test_the_index_finds_what_a_slow_reading_finds(fields: list[bytes], name: bytes) -> None:
    index = HeaderIndex(b"".join(fields))
    expected = [value for found, value in slowly(fields) if found == name]
    assert index.broken_at == -1
    assert index.count(name) == len(expected)
    assert index.has(name) == bool(expected)
    assert index.values(name) == [unfold(value) for value in expected]
    assert index.find(name) == (unfold(expected[0]) if expected else None)
    assert [index.block[value:end] for _, value, end in index.spans(name)] == expected
    kept = [one for one, (found, _) in zip(fields, slowly(fields), strict=True) if found != name]
    assert index.strip((name,)) == b"".join(kept)
    assert [raw for _, raw in iter_fields(index.block)] == fields


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([b"\r\n", b"a", b":", b" "])).map(b"".join)
)
def test_the_two_parts_of_a_message_joined_are_the_message(data: bytes) -> None:
    block, rest = split_message(data)
    assert block + rest == data
    assert rest == b"" or rest.startswith(b"\r\n")
    index = HeaderIndex(block)
    assert -1 <= index.broken_at <= len(block)


@given(st.text("ab \t", max_size=300), st.integers(20, 100))
def test_unfolding_a_folded_field_gives_its_value_back(value: str, width: int) -> None:
    folded = fold(b"Subject", value.encode(), width)
    assert folded.replace(b"\r\n", b"") == b"Subject: " + value.encode()
    lines = folded.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.startswith((b" ", b"\t")) for line in lines[1:])
    assert len(lines) == 1 or all(line.strip() for line in lines)


@given(st.text(max_size=30), st.text(max_size=300))
def test_whatever_it_is_given_the_choke_point_writes_one_field_or_refuses(
    name: str, value: str
) -> None:
    try:
        written = field(name, value, utf8=True)
    except ValueError:
        return
    assert len(list(iter_fields(written))) == 1
    assert HeaderIndex(written).broken_at == -1
    assert written.count(b"\r") == written.count(b"\n") == written.count(b"\r\n")


@given(st.binary(max_size=60) | st.text('ab@.<>()",;:\\ é[]', max_size=40).map(str.encode))
def test_whatever_stands_in_from_the_answer_is_a_domain_or_nothing(value: bytes) -> None:
    domain = author_domain(value)
    assert domain == domain.lower()
    assert all(char.isascii() and (char.isalnum() or char in "-._") for char in domain)


@given(st.text("ab@.<>(),;: é[]", max_size=30))
def test_no_quoted_display_name_hides_the_author(name: str) -> None:
    assert author_domain(f'"{name}" <joe@example.com>'.encode()) == "example.com"
