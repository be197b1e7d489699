"""The words of notices: every language has all of them, and what is put in is the same in each."""

import pytest

from mta.bounce.wording import choose_language, parse_wording
from mta.config.notice_texts import shipped_wordings

TEXTS = {
    name: getattr(shipped_wordings()["en"], name)
    for name in shipped_wordings()["en"].__slots__
    if name != "language"
}


def test_nine_languages_are_there() -> None:
    assert sorted(shipped_wordings()) == ["de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt"]


def test_no_phrase_is_left_in_english() -> None:
    for language, words in shipped_wordings().items():
        same = [name for name, text in TEXTS.items() if getattr(words, name) == text]
        assert language == "en" or not same, (language, same)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"said": "said:"}, "said must put in {host}, and no more"),
        ({"said": "{host:>99999999} said"}, "said must put in {host}, and no more"),
        ({"said": "{host.__class__} said"}, "said must put in {host}, and no more"),
        ({"said": "{host said"}, "said must put in {host}, and no more"),
        ({"failed": "{host} failed"}, "failed must put in nothing, and no more"),
        ({"failed": "two\r\nlines"}, "one line"),
        ({"failed": 7}, "one line"),
        ({"fialed": "x"}, "no phrase"),
    ],
)
def test_a_text_that_would_not_do_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_wording("xx", {**TEXTS, **changes})
    with pytest.raises(ValueError, match="missing"):
        parse_wording("xx", {name: text for name, text in TEXTS.items() if name != "said"})


@pytest.mark.parametrize(
    ("setting", "wanted", "language"),
    [
        ("de", "fr", "de"),
        ("sender", "de-AT, en;q=0.5", "de"),
        ("sender", "sv, pt-BR;q=0.8", "pt"),
        ("sender", "sv", "en"),
        ("sender", "", "en"),
        ("sender", "\u202e,;;--", "en"),
    ],
)
def test_the_setting_decides_or_leaves_it_to_the_message(
    setting: str, wanted: str, language: str
) -> None:
    assert choose_language(setting, wanted, shipped_wordings()).language == language
