"""The id of a message: made in one way, and read back."""

import pytest

from mta.model.envelope import format_message_id, is_message_id, parse_message_id, parse_queue_key

UUID = "1f2e3d4c5b6a79881f2e3d4c5b6a7988"


def test_an_id_names_the_spool_and_the_number() -> None:
    assert format_message_id(UUID, 17) == "1f2e3d4c-17"
    assert parse_message_id("1f2e3d4c-17") == ("1f2e3d4c", 17)
    assert parse_message_id(" 1F2E3D4C-17 ") == ("1f2e3d4c", 17)
    assert parse_message_id(f"{UUID}-17") == (UUID, 17)


def test_a_number_alone_names_no_spool() -> None:
    assert parse_message_id("17") == ("", 17)


@pytest.mark.parametrize(
    "text", ["", "0", "-17", "1f2e-17", "1f2e3d4c-", "1f2e3d4g-17", "17-1f2e3d4c", "9" * 19, "１７"]
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="no message id"):
        parse_message_id(text)


def test_a_queue_is_no_message() -> None:
    for name in ("example.com", "example.com/a", "1f2e3d4c-17/default", "1f2e3d4c-17.example"):
        assert not is_message_id(name)
        assert parse_queue_key(name)
