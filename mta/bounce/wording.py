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
        wanted = _NAMES.get(name, frozenset())
        if _put_in(text) != wanted:
            listed = " and ".join(f"{{{each}}}" for each in sorted(wanted)) or "nothing"
            raise ValueError(f"{language}: {name} must put in {listed}, and no more")
    return Wording(language, **{name: str(text) for name, text in texts.items()})


def _put_in(text: str) -> set[str]:
    """What stands in braces, with all that says how it is written."""
    try:
        return {
            name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            for _, name, spec, conversion in Formatter().parse(text)
            if name is not None
        }
    except ValueError as error:  # a brace alone
        return {str(error)}


def choose_language(setting: str, wanted: str, known: Mapping[str, Wording]) -> Wording:
    """The words for a setting; "sender" leaves it to `wanted`, the Accept-Language field of the message (RFC 3282)."""
    if setting != "sender":
        return known.get(setting) or known[ENGLISH]
    for tag in wanted.split(","):
        found = known.get(tag.partition(";")[0].strip().lower().partition("-")[0])
        if found is not None:
            return found
    return known[ENGLISH]
