"""Signatures: what stands in them, what they protect, and that independent verifiers agree."""

import re
from base64 import b64decode, b64encode
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mta.dkim.canonical import body_hash, canonical_fields
from mta.dkim.keys import DkimKey, Ed25519Key, dns_record, generate, load_key
from mta.dkim.signer import FieldList, Signer, sign_message
from mta.mime.headers import HeaderIndex

NOW = 1_795_419_660.99
PAST = 1_700_000_000.0  # dkimpy judges t= by the machine's clock
HEADER = (
    b"From: Shop <news@shop.example>\r\n"
    b"To: you@example.net\r\n"
    b"Subject: Offers\tof  the\r\n week \r\n"
    b"Date: Mon, 23 Nov 2026 07:41:00 +0000\r\n"
    b"Message-ID: <1@shop.example>\r\n"
    b"X-Mailer: none\r\n"
    b"List-Unsubscribe: <https://shop.example/u>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
)
BODY = b"Hello \tyou \r\n\r\n  gr\xc3\xbcn\r\n\r\n\r\n"
CANONS = [(a, b) for a in ("relaxed", "simple") for b in ("relaxed", "simple")]
_DKIM: Any = dkim.DKIM


@pytest.fixture(scope="module")
def keys() -> dict[str, DkimKey]:
    return {name: load_key(generate(name)) for name in ("rsa", "ed25519")}


def a_signer(key: DkimKey, **options: Any) -> Signer:
    return Signer("shop.example", key.record_type, key, **options)


def verify(message: bytes, keys: dict[str, DkimKey], number: int = 0) -> bool:
    def record(name: bytes, timeout: float = 5) -> bytes:
        return dns_record(keys[name.split(b".")[0].decode()]).encode()

    try:
        return bool(_DKIM(message).verify(number, dnsfunc=record))
    except dkim.ValidationError:
        return False


def tags(field: bytes) -> dict[str, str]:
    value = field.split(b":", 1)[1].decode()
    pairs = (tag.strip().partition("=") for tag in value.split(";"))
    return {name: re.sub(r"\s", "", text) for name, _, text in pairs}


@pytest.mark.parametrize("canon", CANONS)
@pytest.mark.parametrize("name", ["rsa", "ed25519"])
def test_dkimpy_verifies_each_algorithm_in_each_form(
    name: str, canon: tuple[str, str], keys: dict[str, DkimKey]
) -> None:
    field = sign_message([a_signer(keys[name], canon=canon)], HEADER, BODY, PAST)
    assert verify(field + HEADER + b"\r\n" + BODY, keys)
    assert not verify(field + HEADER + b"\r\n" + BODY + b"more\r\n", keys)
    assert not verify(field + HEADER.replace(b"Offers", b"Orders") + b"\r\n" + BODY, keys)


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b"a\r\n\r\n", b" \r\n", b"\tx  \r\n"])
@pytest.mark.parametrize("canon", CANONS)
def test_dkimpy_verifies_awkward_bodies(
    body: bytes, canon: tuple[str, str], keys: dict[str, DkimKey]
) -> None:
    field = sign_message([a_signer(keys["ed25519"], canon=canon)], HEADER, body, PAST)
    assert verify(field + HEADER + b"\r\n" + body, keys)


def test_two_signers_make_two_signatures_that_both_verify(keys: dict[str, DkimKey]) -> None:
    signers = [a_signer(keys["rsa"]), a_signer(keys["ed25519"], canon=("simple", "simple"))]
    message = sign_message(signers, HEADER, BODY, PAST) + HEADER + b"\r\n" + BODY
    assert verify(message, keys, 0)
    assert verify(message, keys, 1)


def test_signers_share_the_canonical_fields_of_a_message(keys: dict[str, DkimKey]) -> None:
    index = HeaderIndex(HEADER)
    for key in keys.values():
        a_signer(key).sign(index, body_hash(BODY), NOW)
    assert len(index.memo) == 1


@pytest.mark.parametrize(
    "added",
    [
        b"From: evil@evil.example\r\n",
        b"Subject: evil\r\n",
        b"To: evil@evil.example\r\n",
        b"Cc: evil@evil.example\r\n",
        b"Date: Tue, 24 Nov 2026 07:41:00 +0000\r\n",
        b"Reply-To: evil@evil.example\r\n",
        b"Content-Type: text/html\r\n",
    ],
)
@pytest.mark.parametrize("canon", CANONS)
def test_an_added_field_breaks_the_signature_above_or_below(
    added: bytes, canon: tuple[str, str], keys: dict[str, DkimKey]
) -> None:
    field = sign_message([a_signer(keys["ed25519"], canon=canon)], HEADER, BODY, PAST)
    assert verify(b"X-Other: fine\r\n" + field + HEADER + b"\r\n" + BODY, keys)
    assert not verify(added + field + HEADER + b"\r\n" + BODY, keys)
    assert not verify(field + HEADER + added + b"\r\n" + BODY, keys)


def test_what_stands_there_twice_is_signed_twice_and_once_more(keys: dict[str, DkimKey]) -> None:
    header = HEADER + b"To: second@example.net\r\n"
    field = sign_message([a_signer(keys["ed25519"])], header, BODY, PAST)
    assert tags(field)["h"].split(":").count("to") == 3
    assert verify(field + header + b"\r\n" + BODY, keys)


def test_the_tags_are_those_we_promise(keys: dict[str, DkimKey]) -> None:
    field = sign_message([a_signer(keys["ed25519"])], HEADER, BODY, NOW)
    found = tags(field)
    assert list(found) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert found["a"] == "ed25519-sha256"
    assert found["c"] == "relaxed/relaxed"
    assert found["h"] == (
        "from:from:reply-to:to:to:cc:subject:subject:date:date:message-id:content-type:"
        "list-unsubscribe:list-unsubscribe-post"
    )
    assert b64decode(found["bh"]) == body_hash(BODY)


def test_the_body_length_is_never_limited(keys: dict[str, DkimKey]) -> None:
    for key in keys.values():
        for canon in CANONS:
            field = sign_message([a_signer(key, canon=canon, expire_s=60)], HEADER, BODY, NOW)
            assert "l" not in tags(field)


def test_the_time_is_never_in_the_future_and_the_expiry_counts_from_it(
    keys: dict[str, DkimKey],
) -> None:
    found = tags(sign_message([a_signer(keys["ed25519"], expire_s=3600)], HEADER, BODY, NOW))
    assert int(found["t"]) == int(NOW) <= NOW
    assert int(found["x"]) == int(NOW) + 3600


def test_an_identity_at_or_below_the_domain_is_named_and_verifies(
    keys: dict[str, DkimKey],
) -> None:
    signer = a_signer(keys["ed25519"], identity="news@mail.Shop.example")
    field = sign_message([signer], HEADER, BODY, PAST)
    assert tags(field)["i"] == "news@mail.shop.example"
    assert verify(field + HEADER + b"\r\n" + BODY, keys)


def test_the_same_input_gives_the_same_bytes(keys: dict[str, DkimKey]) -> None:
    signers = [a_signer(key) for key in keys.values()]
    assert sign_message(signers, HEADER, BODY, NOW) == sign_message(signers, HEADER, BODY, NOW)


def test_no_line_of_a_signature_is_longer_than_78_bytes() -> None:
    key = load_key(generate("rsa", 4096))
    field = sign_message([Signer("shop.example", "s1", key, expire_s=60)], HEADER * 3, BODY, NOW)
    assert field.endswith(b"\r\n")
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert HeaderIndex(field).spans(b"dkim-signature") == [(0, 15, len(field))]


def test_a_field_list_of_ones_own_always_holds_from(keys: dict[str, DkimKey]) -> None:
    signer = a_signer(keys["ed25519"], fields=FieldList(["Subject"], []))
    field = sign_message([signer], HEADER, BODY, PAST)
    assert tags(field)["h"] == "from:from:subject"
    assert verify(field + HEADER + b"\r\n" + BODY, keys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"domain": "example"}, "no domain"),
        ({"domain": "exa mple.com"}, "no domain"),
        ({"domain": "bücher.example"}, "A-labels"),
        ({"domain": "*.example.com"}, "no domain"),
        ({"domain": "a.example;x=1"}, "no domain"),
        ({"selector": ""}, "selector"),
        ({"selector": "s;l=1"}, "selector"),
        ({"selector": "s\r\n"}, "selector"),
        ({"canon": ("relaxed", "nofws")}, "relaxed or simple"),
        ({"identity": "a@other.example"}, "not at"),
        ({"identity": "a@xshop.example"}, "not at"),
        ({"identity": "shop.example"}, "not at"),
        ({"identity": "a;l=0@shop.example"}, "not at"),
        ({"expire_s": 0}, "expires"),
        ({"fields": "bad"}, "field name"),
    ],
)
def test_a_signer_that_could_not_sign_well_is_refused(
    options: dict[str, Any], words: str, keys: dict[str, DkimKey]
) -> None:
    given: dict[str, Any] = {"domain": "shop.example", "selector": "s1", **options}
    with pytest.raises(ValueError, match=words):
        if "fields" in given:
            given["fields"] = FieldList(["Sub ject"])
        Signer(given.pop("domain"), given.pop("selector"), keys["ed25519"], **given)


def test_the_test_vector_of_rfc_8463_comes_out_to_the_bit() -> None:
    # RFC 8463 appendix A.3: key, message and Ed25519 signature.
    secret = b64decode("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    key = Ed25519Key(Ed25519PrivateKey.from_private_bytes(secret))
    header = (
        b"From: Joe SixPack <joe@football.example.com>\r\n"
        b"To: Suzie Q <suzie@shopping.example.net>\r\n"
        b"Subject: Is dinner ready?\r\n"
        b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
        b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    )
    body = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
    bh = b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    own = (
        b"dkim-signature:v=1; a=ed25519-sha256; c=relaxed/relaxed; d=football.example.com; "
        b"i=@football.example.com; q=dns/txt; s=brisbane; t=1528637909; h=from : to : "
        b"subject : date : message-id : from : subject : date; bh=" + bh + b"; b="
    )
    names = [b"from", b"to", b"subject", b"date", b"message-id"]
    _, data = canonical_fields(HeaderIndex(header), names, "relaxed")
    assert dns_record(key).endswith("p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert b64encode(body_hash(body)) == bh
    assert b64encode(key.sign(data + own)) == (
        b"/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    )
