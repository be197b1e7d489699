"""Canonical forms, against RFC 6376's own examples and the awkward bodies of K4."""

import hashlib

import pytest

from mta.dkim.canonical import BodyHasher, body_hash, canonical_fields, relaxed_lines
from mta.mime.headers import HeaderIndex

# RFC 6376 §3.4.5 (example 1 and 2).
RFC_HEADER = b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
RFC_BODY = b" C \r\nD \t E\r\n\r\n\r\n"

# body, its relaxed form, its simple form
BODIES = {
    "empty": (b"", b"", b"\r\n"),
    "one blank line": (b"\r\n", b"", b"\r\n"),
    "only blank lines": (b"\r\n" * 9000, b"", b"\r\n"),
    "only blanks": (b" \t \r\n \r\n", b"", b" \t \r\n \r\n"),
    "plain": (b"a\r\nb\r\n", b"a\r\nb\r\n", b"a\r\nb\r\n"),
    "trailing blank lines": (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
    "many trailing blank lines": (b"a" + b"\r\n" * 9001, b"a\r\n", b"a\r\n"),
    "blank lines within": (b"a\r\n\r\n\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n"),
    "no final CRLF": (b"a\r\nb", b"a\r\nb\r\n", b"a\r\nb\r\n"),
    "blank and no final CRLF": (b"a \t", b"a\r\n", b"a \t\r\n"),
    "space before CRLF": (b"a \r\nb\r\n", b"a\r\nb\r\n", b"a \r\nb\r\n"),
    "tab before CRLF": (b"a\t\r\nb\r\n", b"a\r\nb\r\n", b"a\t\r\nb\r\n"),
    "tab": (b"a\tb\r\n", b"a b\r\n", b"a\tb\r\n"),
    "run of blanks": (b"a \t  b\r\n", b"a b\r\n", b"a \t  b\r\n"),
    "indented": (b"   a\r\n\tb\r\n", b" a\r\n b\r\n", b"   a\r\n\tb\r\n"),
    "blanks then blank lines": (b"a \r\n \r\n\t\r\n", b"a\r\n", b"a \r\n \r\n\t\r\n"),
    "8-bit": (
        b"gr\xc3\xbcn \xff\xa0\r\n",
        b"gr\xc3\xbcn \xff\xa0\r\n",
        b"gr\xc3\xbcn \xff\xa0\r\n",
    ),
    "dots": (b".\r\n..\r\n", b".\r\n..\r\n", b".\r\n..\r\n"),
    "RFC 6376": (RFC_BODY, b" C\r\nD E\r\n", b" C \r\nD \t E\r\n"),
    "form feed is no blank": (b"a\x0c\r\n\x0b\r\n", b"a\x0c\r\n\x0b\r\n", b"a\x0c\r\n\x0b\r\n"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_has_the_hash_of_its_canonical_form(name: str) -> None:
    body, relaxed, simple = BODIES[name]
    assert body_hash(body, "relaxed") == hashlib.sha256(relaxed).digest()
    assert body_hash(body, "simple") == hashlib.sha256(simple).digest()


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("canon", ["relaxed", "simple"])
def test_a_body_within_a_message_needs_no_copy(name: str, canon: str) -> None:
    body = BODIES[name][0]
    assert body_hash(b"A: b\r\n\r\n" + body, canon, 8) == body_hash(body, canon)


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("canon", ["relaxed", "simple"])
def test_a_body_in_single_bytes_has_the_same_hash(name: str, canon: str) -> None:
    body = BODIES[name][0]
    hasher = BodyHasher(canon)
    for at in range(len(body)):
        hasher.update(body[at : at + 1])
    assert hasher.digest() == body_hash(body, canon)
    assert hasher.digest() == hasher.digest()


def test_the_known_hashes_of_an_empty_body() -> None:
    # RFC 6376 §3.4.3 and §3.4.4 give the SHA-256 of both.
    assert body_hash(b"", "simple").hex().startswith("7eb70257593da06f")
    assert body_hash(b"", "relaxed") == hashlib.sha256(b"").digest()


def test_what_is_clean_is_not_rewritten() -> None:
    clean = b"one two\r\n" * 1000
    assert relaxed_lines(clean) is clean


def test_the_rfc_example_header_in_both_forms() -> None:
    index = HeaderIndex(RFC_HEADER)
    assert canonical_fields(index, [b"a", b"b"], "relaxed") == ((1, 1), b"a:X\r\nb:Y Z\r\n")
    assert canonical_fields(index, [b"a", b"b"], "simple") == ((1, 1), RFC_HEADER)


@pytest.mark.parametrize("canon", ["relaxed", "simple"])
def test_of_several_fields_of_a_name_the_last_comes_first(canon: str) -> None:
    index = HeaderIndex(b"to:1\r\nfrom:x\r\nto:2\r\nto:3\r\n")
    counts, data = canonical_fields(index, [b"to", b"cc", b"from"], canon)
    assert counts == (3, 0, 1)
    assert data == b"to:3\r\nto:2\r\nto:1\r\nfrom:x\r\n"


@pytest.mark.parametrize(
    ("raw", "relaxed"),
    [
        (b"Subject:\r\n", b"subject:\r\n"),
        (b"Subject: \r\n", b"subject:\r\n"),
        (b"SUBJECT:\t a  b\t\tc \t\r\n", b"subject:a b c\r\n"),
        (b"Subject: a\r\n b\r\n\t\tc\r\n \r\n", b"subject:a b c\r\n"),
        (b"Subject: gr\xc3\xbcn\r\n", b"subject:gr\xc3\xbcn\r\n"),
        (b"Subject \t: a: b\r\n", b"subject:a: b\r\n"),
    ],
)
def test_a_relaxed_field_is_unfolded_collapsed_and_trimmed(raw: bytes, relaxed: bytes) -> None:
    assert canonical_fields(HeaderIndex(raw), [b"subject"], "relaxed")[1] == relaxed


def test_a_megabyte_of_any_blank_is_worked_off_in_few_passes() -> None:
    for unit in (b" ", b"\t", b"\r\n", b" \r\n", b"\t \t\r\n", b" a", b"\r", (b" " * 999 + b"a")):
        body = unit * (1_000_000 // len(unit))
        hasher = BodyHasher()
        for at in range(0, len(body), 65_536):
            hasher.update(body[at : at + 65_536])
        assert hasher.digest() == body_hash(body)
