"""Passwords: a hash verifies its own password only, and a hostile hash costs nothing."""

import pytest

from mta.policy.passwords import check_hash, hash_password, verify_password

SALT = bytes(range(16))
# scrypt of "secret" at the least cost, so that the test is quick.
CHEAP = "scrypt$2$1$1$AAECAwQFBgcICQoLDA0ODw==$dIDfBxYtIx5TiYFPIzDrAXtSpVjMUQu1y1XT3b+rrjo="


def test_a_hash_verifies_its_own_password_and_no_other() -> None:
    stored = hash_password("correct horse ü", SALT)
    check_hash(stored)
    assert stored.startswith("scrypt$16384$8$5$")
    assert verify_password(stored, "correct horse ü")
    assert not verify_password(stored, "correct horse u")


def test_an_unknown_user_is_never_let_in() -> None:
    assert not verify_password(None, "")


def test_equal_passwords_with_other_salts_have_other_hashes() -> None:
    assert hash_password("x", SALT) != hash_password("x", SALT[::-1])


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(ValueError, match="salt"):
        hash_password("x", b"short")


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ("", "no hash"),
        ("secret", "no hash"),
        ("bcrypt$2$1$1$AAAA$AAAA", "no hash"),
        ("scrypt$x$8$1$AAECAwQFBgc=$AAAA", "damaged"),
        ("scrypt$16$8$1$!!!$AAAA", "damaged"),
        ("scrypt$16$8$1$AAECAwQFBgc=$AAAA", "not usable"),
        ("scrypt$15$8$1$AAECAwQFBgc=$AAECAwQFBgcICQoLDA0ODw==", "not usable"),
        ("scrypt$16$8$1$AAEC$AAECAwQFBgcICQoLDA0ODw==", "not usable"),
        ("scrypt$16$0$1$AAECAwQFBgc=$AAECAwQFBgcICQoLDA0ODw==", "not usable"),
        ("scrypt$16777216$8$1$AAECAwQFBgc=$AAECAwQFBgcICQoLDA0ODw==", "too much"),
        ("scrypt$16$8$99999999$AAECAwQFBgc=$AAECAwQFBgcICQoLDA0ODw==", "too much"),
    ],
)
def test_a_hash_that_cannot_be_used_is_refused_before_any_work(stored: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_hash(stored)
    with pytest.raises(ValueError, match=words):
        verify_password(stored, "x")


def test_a_hash_of_another_cost_is_taken() -> None:
    assert verify_password(CHEAP, "secret")
