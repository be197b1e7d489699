"""Keys: loaded or refused with words, generated, published; and the ring."""

from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

from mta.dkim.keys import (
    DkimKey,
    KeyRing,
    RsaKey,
    bind_record,
    dns_record,
    generate,
    load_key,
    record_name,
)
from mta.dkim.signer import Signer

PKCS1 = PrivateFormat.TraditionalOpenSSL
# 512 bits, made for this test: `cryptography` generates none so short.
RSA_512 = b"""-----BEGIN RSA PRIVATE KEY-----
MIIBPQIBAAJBAKBWeN1+UUYNyrggQngF5sxrdZP5y1mgwNMQXPh6uk4q04In7nde
Iv4Q74B8vqDAcgx5DUPhGpywbBYOFvERLnUCAwEAAQJBAJAvkvtkF8ROrMlNwVhb
vkSAMjkC/lo4VI65fVG6VAXr0s0xUOB6wM4jqJmyXQOMDrpH9tGKMKmCFUU1lhaF
p0ECIQDP28j8BLs4TarXuqyLxPpmlBBUz6o2QyLPctfQkic4sQIhAMV5HfNxg1Gm
XfVG/QlLGYkCFPEbiDGEpzTQ3H4DkwMFAiEAgmKmAqCdKEZgAo8QqWRYhnweenUB
mqQmc+bgRe9INyECIQCbzFT/Dt3me3XB4IIe5Ot+lu/i0i//sYMiPm7X1QYV6QIh
AJIFdyKXCHm1tEYEFLuDUdAFCsqdvdxObNUdZXkiEadw
-----END RSA PRIVATE KEY-----
"""


@pytest.fixture(scope="module")
def ed25519() -> DkimKey:
    return load_key(generate("ed25519"))


def a_signer(key: DkimKey, domain: str = "example.com", selector: str = "s1") -> Signer:
    return Signer(domain, selector, key)


def test_a_generated_rsa_key_has_2048_bits_and_a_published_key_that_fits() -> None:
    key = load_key(generate("rsa"))
    assert isinstance(key, RsaKey)
    assert (key.bits, key.algorithm, key.cost_s) == (2048, "rsa-sha256", 0.0003)
    start, _, public = dns_record(key).rpartition("p=")
    assert start == "v=DKIM1; k=rsa; "
    loaded = load_der_public_key(b64decode(public))
    assert isinstance(loaded, rsa.RSAPublicKey)
    assert loaded.key_size == 2048


def test_an_ed25519_key_is_published_as_its_32_bytes(ed25519: DkimKey) -> None:
    assert (ed25519.algorithm, ed25519.cost_s) == ("ed25519-sha256", 0.00005)
    start, _, public = dns_record(ed25519).rpartition("p=")
    assert start == "v=DKIM1; k=ed25519; "
    assert len(b64decode(public)) == 32


def test_keys_in_the_older_pem_form_are_loaded_too() -> None:
    pem = rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PKCS1, NoEncryption())
    assert load_key(pem).bits == 1024


def test_an_rsa_key_under_1024_bits_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"512 bits is not accepted.*sluice dkim generate"):
        load_key(RSA_512)


def test_a_key_under_a_password_is_refused_with_advice() -> None:
    key = rsa.generate_private_key(65537, 1024)
    pem = key.private_bytes(Encoding.PEM, PKCS1, BestAvailableEncryption(b"secret"))
    with pytest.raises(ValueError, match=r"protected by a password.*openssl pkey"):
        load_key(pem)


def test_what_is_no_signing_key_is_refused_by_its_name() -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    pem = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="RSA and Ed25519 do"):
        load_key(pem)
    public = curve.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="a public key"):
        load_key(public)
    for noise in (b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ValueError, match="no private key"):
            load_key(noise)


@pytest.mark.parametrize(("algorithm", "bits"), [("rsa", 512), ("rsa", 8192), ("dsa", 2048)])
def test_nothing_is_generated_that_receivers_refuse(algorithm: str, bits: int) -> None:
    with pytest.raises(ValueError, match=r"RSA keys have|choose rsa"):
        generate(algorithm, bits)


def test_a_long_record_is_split_into_strings_of_255_bytes() -> None:
    name = record_name("example.com", "s1")
    record = bind_record(name, "x" * 600)
    assert record.startswith("s1._domainkey.example.com. IN TXT (\n")
    strings = [line.strip().strip('"') for line in record.splitlines()[1:-1]]
    assert [len(string) for string in strings] == [255, 255, 90]


def test_a_short_record_is_one_line() -> None:
    assert bind_record("s._domainkey.a.example", "v=DKIM1") == (
        's._domainkey.a.example. IN TXT "v=DKIM1"'
    )


def test_the_from_domain_is_asked_first_then_its_wildcards_then_the_sender(
    ed25519: DkimKey,
) -> None:
    exact, near, far, sender = (
        a_signer(ed25519, domain=domain)
        for domain in ("shop.example", "eu.shop.example", "shop.example", "bounce.example")
    )
    ring = KeyRing(
        [
            ("shop.example", exact),
            ("*.eu.shop.example", near),
            ("*.shop.example", far),
            ("bounce.example", sender),
        ]
    )
    assert ring.signers_for("shop.example", "bounce.example") == (exact,)
    assert ring.signers_for("a.eu.shop.example", "bounce.example") == (near,)
    assert ring.signers_for("eu.shop.example", "bounce.example") == (far,)
    assert ring.signers_for("a.b.us.shop.example", "") == (far,)
    assert ring.signers_for("other.example", "bounce.example") == (sender,)
    assert ring.signers_for("", "x.shop.example") == (far,)
    assert ring.signers_for("other.example", "else.example") == ()
    assert ring.signers_for("", "") == ()
    assert ring.signers_for("notshop.example", "") == ()


def test_all_signers_of_a_pattern_sign_in_their_order(ed25519: DkimKey) -> None:
    first, second = a_signer(ed25519), a_signer(ed25519, selector="s2")
    ring = KeyRing([("Example.COM.", first), ("example.com", second)])
    assert ring.signers_for("example.com", "") == (first, second)


def test_an_empty_ring_is_false_and_signs_nothing() -> None:
    assert not KeyRing()
    assert KeyRing().signers_for("a.example", "b.example") == ()


@pytest.mark.parametrize("pattern", ["", "*", "*.", "a.*.example", "**.example"])
def test_a_pattern_that_names_no_domain_is_refused(pattern: str, ed25519: DkimKey) -> None:
    with pytest.raises(ValueError, match="names no domain"):
        KeyRing([(pattern, a_signer(ed25519))])
