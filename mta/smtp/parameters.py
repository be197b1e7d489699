"""ESMTP parameters of MAIL and RCPT: which we know, what their values may be, and where they go.

One table a command: keyword → attribute and reader. An unknown keyword is 555 5.5.4, a bad value or
a keyword given twice 501 5.5.4. Values of DSN parameters are kept as received (xtext), since they
go on as they came; they are decoded here only to be sure that no control character hides in them.

RFC 5321 §4.1.2 (syntax), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 §3.4 (SMTPUTF8), RFC 3461 §4 and §5 (DSN), RFC 4954 §5
(AUTH), RFC 4865 (FUTURERELEASE).
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from mta.model.reply import a_reply
from mta.smtp.replies import Refused

MAX_ENVID = 100  # RFC 3461 §4.4
MAX_ORCPT = 500  # RFC 3461 §4.2

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 §4
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
# RFC 3339 §5.6
_DATE_TIME = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_ORCPT = re.compile(r"([A-Za-z0-9-]+);(.+)")

Reader = Callable[[str], object]


def is_xtext(text: str) -> bool:
    """Whether `text` is xtext that stands for printable ASCII (RFC 3461 §4)."""
    if _XTEXT.fullmatch(text) is None:
        return False
    return all(0x20 <= int(code, 16) <= 0x7E for code in _ENCODED.findall(text))


def read_parameters(command: object, text: str, table: Mapping[str, tuple[str, Reader]]) -> None:
    """Set on `command` what the parameters in `text` say. Raises Refused."""
    seen = set()
    for word in text.split():
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise Refused(a_reply(501, "5.5.4", "Parameter syntax: KEYWORD=value"))
        keyword = found[1].upper()
        if keyword not in table:
            raise Refused(a_reply(555, "5.5.4", f"Parameter {keyword[:20]} is not supported"))
        attribute, read = table[keyword]
        try:
            value = read(found[2] or "")
        except ValueError:
            raise Refused(a_reply(501, "5.5.4", f"Bad value for {keyword}")) from None
        if keyword in seen:
            raise Refused(a_reply(501, "5.5.4", f"{keyword} is given twice"))
        seen.add(keyword)
        setattr(command, attribute, value)


def _read_size(value: str) -> int:
    if not 1 <= len(value) <= 20 or not value.isdigit():  # RFC 1870 §3: at most 20 digits
        raise ValueError
    return int(value)


def _read_body(value: str) -> str:
    body = value.upper()
    if body == "BINARYMIME":  # RFC 3030 §3; a keyword's value we do not implement
        raise Refused(a_reply(555, "5.5.4", "BINARYMIME is not supported"))
    if body not in ("7BIT", "8BITMIME"):
        raise ValueError
    return body


def _read_ret(value: str) -> str:
    ret = value.upper()
    if ret not in ("FULL", "HDRS"):
        raise ValueError
    return ret


def _read_envid(value: str) -> str:
    if not 1 <= len(value) <= MAX_ENVID or not is_xtext(value):
        raise ValueError
    return value


def _read_hold_for(value: str) -> int:
    if not 1 <= len(value) <= 9 or not value.isdigit():  # RFC 4865 §3: 1*9DIGIT
        raise ValueError
    return int(value)


def _read_hold_until(value: str) -> float:
    if _DATE_TIME.fullmatch(value) is None:
        raise ValueError
    return datetime.fromisoformat(value.upper()).timestamp()


def _read_smtputf8(value: str) -> bool:
    if value:  # RFC 6531 §3.4: it has none
        raise ValueError
    return True


def _read_auth(value: str) -> str:
    if value != "<>" and (not value or not is_xtext(value)):
        raise ValueError
    return value


def _read_notify(value: str) -> str:
    notify = value.upper()
    wishes = notify.split(",")
    known = {"SUCCESS", "FAILURE", "DELAY"}
    if notify != "NEVER" and (not known.issuperset(wishes) or len(set(wishes)) < len(wishes)):
        raise ValueError  # RFC 3461 §4.1: NEVER stands alone
    return notify


def _read_orcpt(value: str) -> str:
    found = _ORCPT.fullmatch(value)
    if len(value) > MAX_ORCPT or found is None or not is_xtext(found[2]):
        raise ValueError
    return value


OF_MAIL: Mapping[str, tuple[str, Reader]] = {
    "SIZE": ("size", _read_size),
    "BODY": ("body", _read_body),
    "RET": ("ret", _read_ret),
    "ENVID": ("envid", _read_envid),
    "AUTH": ("auth_param", _read_auth),
    "HOLDFOR": ("hold_for", _read_hold_for),
    "HOLDUNTIL": ("hold_until", _read_hold_until),
    "SMTPUTF8": ("utf8", _read_smtputf8),
}
OF_RCPT: Mapping[str, tuple[str, Reader]] = {
    "NOTIFY": ("notify", _read_notify),
    "ORCPT": ("orcpt", _read_orcpt),
}
