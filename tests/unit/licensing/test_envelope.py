import base64
import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from licensing.envelope import (
    BEGIN,
    END,
    MAX_ENVELOPE_BYTES,
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    format_armour,
    key_id,
    pae,
    parse_armour,
    sign,
    verify,
)
from licensing.errors import EnvelopeError, SignatureError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {key_id(KEY.public_key()): KEY.public_key()}


class Empty(msgspec.Struct):
    a: int = 0


@pytest.mark.parametrize(
    ("payload_type", "payload", "encoded"),
    [
        # The specification's own vector: dsse/protocol.md, "Test Vectors".
        (
            "http://example.com/HelloWorld",
            b"hello world",
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world",
        ),
        ("", b"", b"DSSEv1 0  0 "),
        # Lengths are of bytes, not of characters.
        ("é", "ü".encode(), "DSSEv1 2 é 2 ü".encode()),
    ],
)
def test_what_is_signed_is_the_specified_encoding(
    payload_type: str, payload: bytes, encoded: bytes
) -> None:
    assert pae(payload_type, payload) == encoded


@given(st.binary(max_size=200), st.text(max_size=30))
def test_what_was_signed_is_what_is_opened(payload: bytes, payload_type: str) -> None:
    file = format_armour(sign(payload_type, payload, [KEY]))
    assert verify(parse_armour(file), payload_type, KEYS) == (payload, frozenset(KEYS))


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_two_different_statements_are_never_encoded_alike(
    one: str, payload: bytes, other: str, further: bytes
) -> None:
    assert (pae(one, payload) == pae(other, further)) == ((one, payload) == (other, further))


def test_the_json_has_the_names_of_the_specification() -> None:
    read = json.loads(encode_envelope(sign("t", b"p", [KEY])))
    assert sorted(read) == ["payload", "payloadType", "signatures"]
    assert sorted(read["signatures"][0]) == ["keyid", "sig"]


def test_what_is_no_licence_file_is_refused() -> None:
    file = format_armour(sign("t", b"p", [KEY]))
    for text in ("", "hello", file.replace(BEGIN, "X"), file.replace(END, ""), BEGIN + END):
        with pytest.raises(EnvelopeError):
            parse_armour(text)
    with pytest.raises(EnvelopeError, match="not text"):
        parse_armour(b"\xff\xfe")


def test_a_file_that_is_too_large_is_not_looked_at() -> None:
    with pytest.raises(EnvelopeError, match="at most"):
        parse_armour("x" * (MAX_ENVELOPE_BYTES * 2 + 1))
    with pytest.raises(EnvelopeError, match="at most"):
        decode_envelope(b" " * (MAX_ENVELOPE_BYTES + 1))


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": NaN}', "{", "[]", '{"a": "x"}', "[" * 100_000]
)
def test_json_that_two_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(EnvelopeError):
        decode_closed(text.encode(), Empty)


def test_a_signature_of_another_key_is_refused() -> None:
    with pytest.raises(SignatureError, match="signature does not match"):
        verify(sign("t", b"p", [Ed25519PrivateKey.generate()]), "t", KEYS)


def test_signatures_that_are_not_base64_are_refused() -> None:
    good = sign("t", b"p", [KEY])
    bad = Envelope(
        payload_type="t",
        payload=base64.b64encode(b"p").decode(),
        signatures=(msgspec.structs.replace(good.signatures[0], sig="?"),),
    )
    with pytest.raises(EnvelopeError):
        verify(bad, "t", KEYS)
