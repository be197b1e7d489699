"""Takes a reply apart into words that mean something. Pure: text in, words out.

What a stranger calls himself means nothing: a recipient may be called blocked@spam.example, a host `unknown.user.example`. So
addresses and the parts of host names are no words; a host is one word, its domain (`spamhaus.org`), which a rule may name. Links
are read apart from the rest (`link_words`): `…/spam/unknown-user.html` may be where all refusals are explained. That an address
stood there is the word `@`. Every step is linear in `MAX_TEXT`.
"""

import re
import unicodedata

ADDRESS = "@"
MAX_TEXT = 2048  # the longest reply of a provider that we know has 700 characters

_LINK = re.compile(r"https?://[^\s<>\"]*", re.IGNORECASE)
_BRACKETED = re.compile(r"<[^<>]*>")
_DOMAIN = re.compile(r"\A(?:[\w-]+\.)*[\w-]*")
# The look-behind lets it begin at a name's start only: no text is looked at twice.
_HOST = re.compile(r"(?<![\w.-])(?:[\w-]+\.)+[^\W\d_][\w-]*(?![\w-])")
# Chinese and Japanese stand without blanks between words: each sign is one. Korean has blanks.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")
_STATUS = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?![\d.])")
_MARKED_STATUS = re.compile(r"#([245]\.\d{1,3}\.\d{1,3})(?![\d.])")

# `denied.Please` has a dot, too: a name of two parts is a host only with an ending that is one.
_ENDINGS = frozenset(
    {
        "com", "net", "org", "info", "biz", "edu", "gov", "mil", "int", "arpa", "name", "pro", "mobi", "online", "cloud",
        "site", "shop", "email", "zone", "app", "dev", "example", "invalid", "test", "local", "localdomain", "internal", "lan",
    }
)  # fmt: skip
# Letters that no accent can be taken off.
_PLAIN_LETTERS = str.maketrans("łŁøØđĐıŒœÆæ", "lLoOdDiEeEe")


def words_of(text: str) -> list[str]:
    """The words of a reply, folded, without addresses, links and the parts of host names."""
    text = text[:MAX_TEXT]
    if not text.isascii() or "\\x" in text:
        text = _plain(text)
    named: list[str] = []
    if "@" in text:
        named.append(ADDRESS)
    if "<" in text:
        text = _BRACKETED.sub(_inside, text)
    if "://" in text:
        text = _LINK.sub(lambda link: " " + _host_of(link[0]) + " ", text)
    if "@" in text:
        text = " ".join([_without_address(part) if "@" in part else part for part in text.split()])
    if "." in text:
        text = _HOST.sub(lambda name: _gather(name[0], named), text)
    return _folded(text) + named


def link_words(text: str) -> list[str]:
    """The words of a reply's links: what they lead to, not whose they are."""
    text = text[:MAX_TEXT]
    return _folded(
        " ".join(link.partition("://")[2].partition("/")[2] for link in _LINK.findall(text))
    )


def status_of(text: str) -> str:
    """A status that stands where RFC 2034 does not want it, or disagrees with the code: `(#5.1.1)`, `4.2.2` behind 550."""
    found = _STATUS.match(text) or ("#" in text and _MARKED_STATUS.search(text[:MAX_TEXT]))
    return found[1] if found else ""


def name_of(text: str) -> str:
    """The word by which a rule names a host or any address (`@`), or "" where it names neither."""
    if text == ADDRESS:
        return text
    return text.lower() if _HOST.fullmatch(text) and " " not in text else ""


def _folded(text: str) -> list[str]:
    text = text.casefold()
    return _ASCII_WORD.findall(text) if text.isascii() else _WORD.findall(text)


def _plain(text: str) -> str:
    """Without accents, and as it was meant: bytes that were no UTF-8 are taken for Latin-1, UTF-8 taken for Latin-1 is undone."""
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    for wrong in ("latin-1", "cp1252"):
        try:
            text = text.encode(wrong).decode()
            break
        except UnicodeError:
            continue
    marked = unicodedata.normalize("NFKD", text.translate(_PLAIN_LETTERS))
    bare = "".join([sign for sign in marked if not unicodedata.combining(sign)])
    return unicodedata.normalize("NFC", bare)  # Korean syllables, which were taken apart as well


def _inside(bracketed: re.Match[str]) -> str:
    """What stands in angle brackets without a blank is a name: an address, a host, a user."""
    text = bracketed[0]
    if "@" in text or not ("://" in text or " " in text):
        return " "
    return text


def _host_of(link: str) -> str:
    host = link.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    return host.rpartition("@")[2].partition(":")[0].lower()


def _without_address(part: str) -> str:
    """What stands about an address: `reply:` of `reply:<a@b.example>`, `...unknown` of `a@b.example...unknown`."""
    left, _, domain = part.rpartition("@")
    before = left.rpartition("<")[0]
    return ("" if "@" in before else before) + " " + _DOMAIN.sub("", domain, count=1)


def _gather(name: str, hosts: list[str]) -> str:
    """Nothing, where `name` is a host, whose domains are noted; else `name`."""
    labels = name.lower().split(".")
    ending = name[-len(labels[-1]) :]
    if not (ending.islower() or ending.isupper()):
        return name  # the next sentence
    if len(labels) == 2 and len(ending) != 2 and labels[-1] not in _ENDINGS:
        return name
    hosts.append(".".join(labels[-2:]))
    if len(labels) > 2:
        hosts.append(".".join(labels[-3:]))
    return " "
