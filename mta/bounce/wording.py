"""The words of a notice, in one language. Pure; the texts are data (`notices/de.toml` …), read by `mta.config.notice_texts`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from string import Formatter

ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Wording:
    """All phrases of one language; `{…}` is what is put in, the same in every language."""

    language: str
    subject_failed: str
    subject_delayed: str
    subject_relayed: str
    subject_digest: str
    opening: str
    sender: str
    failed: str
    failed_end: str
    delayed: str
    delayed_end: str
    relayed: str
    said: str
    more: str
    digest: str
    message: str


# What may be put into each phrase; into those not named, nothing.
_NAMES: Mapping[str, frozenset[str]] = {
    "opening": frozenset({"host"}),
    "sender": frozenset({"sender"}),
    "delayed_end": frozenset({"until"}),
    "said": frozenset({"host"}),
    "more": frozenset({"count"}),
    "digest": frozenset({"recipients", "messages"}),
    "message": frozenset({"id", "date"}),
}


def parse_wording(language: str, texts: Mapping[str, object]) -> Wording:
    """The phrases of one file. Raises ValueError where one is missing, unknown, not one line, or puts in something else."""
    names = {field.name for field in fields(Wording)} - {"language"}
    for name in sorted(names ^ texts.keys()):
        raise ValueError(f"{language}: {name} is {'missing' if name in names else 'no phrase'}")
    for name, text in texts.items():
        if not isinstance(text, str) or not text or not text.isprintable():
            raise ValueError(f"{language}: {name} must be one line of text")
        put_in = {found for _, found, _, _ in Formatter().parse(text) if found is not None}
        if put_in != _NAMES.get(name, frozenset()):
            raise ValueError(f"{language}: {name} puts in {sorted(put_in)}")
    return Wording(language, **{name: str(text) for name, text in texts.items()})


def choose_language(setting: str, wanted: str, known: Mapping[str, Wording]) -> Wording:
    """The words for a setting; "sender" leaves it to `wanted`, the Accept-Language field of the message (RFC 3282)."""
    if setting != "sender":
        return known.get(setting) or known[ENGLISH]
    for tag in wanted.split(","):
        found = known.get(tag.partition(";")[0].strip().lower().partition("-")[0])
        if found is not None:
            return found
    return known[ENGLISH]
