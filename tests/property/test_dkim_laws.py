"""Laws of DKIM: hashes do not depend on cuts, and dkimpy verifies whatever we sign."""

import hashlib
from itertools import pairwise
from typing import Any

import dkim
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from mta.dkim.canonical import BodyHasher, body_hash
from mta.dkim.keys import dns_record, generate, load_key
from mta.dkim.signer import Signer, sign_message

KEY = load_key(generate("ed25519"))
RECORD = dns_record(KEY).encode()
_DKIM: Any = dkim.DKIM
_FORMS: Any = {"relaxed": Relaxed, "simple": Simple}

CANON = st.sampled_from(["relaxed", "simple"])
# Rich in what canonicalisation looks at; ANY has bare CR and LF too, CLEAN is what the wire bears.
ANY = st.lists(
    st.sampled_from([b"a", b"b\xff", b" ", b"  ", b"\t", b"\r\n", b"\r\n\r\n", b"\r", b"\n"]),
    max_size=40,
).map(b"".join)
LINE = st.lists(st.sampled_from([b"a", b".", b"\xc3\xbc", b" ", b"\t"]), max_size=8).map(b"".join)
CLEAN = st.lists(LINE.map(lambda line: line + b"\r\n"), max_size=12).map(b"".join)
VALUE = st.lists(
    st.text("ab :;=\t<>", max_size=10).map(lambda text: text + "x"), min_size=1, max_size=3
).map(lambda lines: "\r\n ".join(lines).encode())
FIELDS = st.lists(
    st.tuples(st.sampled_from([b"To", b"CC", b"Subject", b"subJect", b"Date", b"X-Other"]), VALUE),
    max_size=6,
).map(lambda fields: b"".join(b"%b:%b\r\n" % field for field in fields))


@given(ANY, CANON, st.lists(st.integers(0, 80)).map(sorted))
def test_however_a_body_is_cut_its_hash_is_the_same(
    body: bytes, canon: str, cuts: list[int]
) -> None:
    hasher = BodyHasher(canon)
    edges = [0, *(cut for cut in cuts if cut < len(body)), len(body)]
    for start, end in pairwise(edges):
        hasher.update(body[start:end])
    assert hasher.digest() == body_hash(body, canon)


@given(CLEAN, CANON)
def test_the_hash_of_a_clean_body_is_dkimpys(body: bytes, canon: str) -> None:
    theirs = _FORMS[canon].canonicalize_body(body)
    assert body_hash(body, canon) == hashlib.sha256(theirs).digest()


@given(ANY, CANON)
def test_a_body_hashes_like_its_canonical_form_with_the_final_crlf(body: bytes, canon: str) -> None:
    whole = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    assert body_hash(body, canon) == body_hash(whole, canon)
    assert body_hash(b"x\r\n\r\n" + whole, canon, 5) == body_hash(body, canon)


@given(FIELDS, CLEAN, CANON, CANON)
def test_whatever_is_signed_dkimpy_verifies(
    fields: bytes, body: bytes, header_canon: str, body_canon: str
) -> None:
    header = b"From: a@shop.example\r\n" + fields
    signer = Signer("shop.example", "s1", KEY, canon=(header_canon, body_canon))
    field = sign_message([signer], header, body, 1_700_000_000)
    message = field + header + b"\r\n" + body
    assert _DKIM(message).verify(dnsfunc=lambda name, timeout=5: RECORD)
