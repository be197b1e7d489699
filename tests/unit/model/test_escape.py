"""Text of strangers made safe to show."""

import sys

from mta.model.escape import escape_controls


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    for text in ("", "OK queued", "naïve – Grüße", "日本", "می\u200cخواهم", "a\u00a0b"):
        assert escape_controls(text) == text


def test_controls_and_marks_become_visible() -> None:
    shown = escape_controls("a\r\n\x1b\x7f\x85\x9b\u202e\u2066\u2028\ufeff\ud800")
    assert shown == r"a\x0d\x0a\x1b\x7f\x85\x9b\u202e\u2066\u2028\ufeff\ud800"


def test_nothing_that_controls_or_breaks_a_line_comes_through() -> None:
    for number in range(sys.maxunicode + 1):
        shown = escape_controls(chr(number))
        if shown == chr(number):
            assert len(("a" + shown + "b").splitlines()) == 1
            shown.encode()
