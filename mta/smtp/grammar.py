"""The commands of a client as values: one line in, one command out, or `Refused` with a reply.

The syntax of RFC 5321 §4.1, with these liberties: a blank after `FROM:` and `TO:`, blanks at the
end of a line, dots anywhere in a local part (mailboxes like `a..b@` exist), underscores in domain
names. And these refusals: source routes (App. C; they serve only relays' abusers) and control
characters, those of UTF-8 included. UTF-8 stands in addresses alone, and only in mail that says
SMTPUTF8; a domain of theirs is known by its A-labels. Whether a command may come now is not known
here, nor whether anybody wants the mail.

RFC 5321 §4.1 and §4.5.3.1 (syntax and sizes), RFC 3030 (BDAT), RFC 6531 (SMTPUTF8), RFC 4954 and RFC 4616 (AUTH PLAIN), RFC 3207.
"""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from mta.model.address import u_label_domain
from mta.model.errors import AddressError
from mta.model.reply import Reply
from mta.smtp import parameters, replies
from mta.smtp.replies import Refused

MAX_LOCAL_PART = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # RFC 5321 §4.5.3.1.2; with the two above, an address is at most 320
MAX_PLAIN = 3 * 255 + 2  # bytes: RFC 4616 §2 gives each of its three parts 255
MAX_LOGIN = 255  # bytes of a user or a password: the same for AUTH LOGIN, which no RFC describes

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~."
_LOCAL = rf"[{_ATEXT}-]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX_PARTS = rf"({_LOCAL}|{_QUOTED})@({_DOMAIN}|{_LITERAL})"

# RFC 6531 §3.3. What is not printable is refused before, and a domain with U-labels is IDNA's to judge.
_UTF8 = r"\u00a0-\U0010ffff"
_LOCAL_UTF8 = rf"[{_ATEXT}{_UTF8}-]+"
_QUOTED_UTF8 = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"'
_DOMAIN_UTF8 = rf"[A-Za-z0-9_.-]*[{_UTF8}][A-Za-z0-9_.{_UTF8}-]*"
_MAILBOX_PARTS_UTF8 = rf"({_LOCAL_UTF8}|{_QUOTED_UTF8})@({_DOMAIN}|{_LITERAL}|{_DOMAIN_UTF8})"


def _mail_pattern(mailbox: str) -> re.Pattern[str]:
    return re.compile(rf"[Ff][Rr][Oo][Mm]: ?<(?:{mailbox})?>(?: +(.*))?")


def _rcpt_pattern(mailbox: str) -> re.Pattern[str]:
    # RFC 5321 §4.1.1.3: <Postmaster> needs no domain.
    return re.compile(rf"[Tt][Oo]: ?<(?:{mailbox}|((?i:postmaster)))>(?: +(.*))?")


_MAILBOX = re.compile(_MAILBOX_PARTS)
_MAIL, _MAIL_UTF8 = _mail_pattern(_MAILBOX_PARTS), _mail_pattern(_MAILBOX_PARTS_UTF8)
_RCPT, _RCPT_UTF8 = _rcpt_pattern(_MAILBOX_PARTS), _rcpt_pattern(_MAILBOX_PARTS_UTF8)
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_SOURCE_ROUTE = re.compile(r"[A-Za-z]+: ?<@")
_BDAT = re.compile(r" *([0-9]{1,20})(?: +([Ll][Aa][Ss][Tt]))? *", re.ASCII)  # as SIZE: RFC 1870 §3
# What a Received field can bear without quoting: names are often not domains, but no comment or
# route may hide in one.
_HELLO_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.:\[\]-]{1,255}")


@dataclass(slots=True)
class Hello:
    """EHLO or HELO; the name is what the client says of itself."""

    name: str
    esmtp: bool


@dataclass(slots=True)
class StartTls:
    """STARTTLS."""


@dataclass(slots=True)
class AuthRequest:
    """AUTH; `initial` is the initial response in base64, None without one."""

    mechanism: str
    initial: str | None = field(repr=False)


@dataclass(slots=True)
class Auth:
    """Credentials, complete and decoded, not yet believed. Never shown."""

    mechanism: str
    user: str
    password: str = field(repr=False)


@dataclass(slots=True)
class MailFrom:
    """MAIL: the sender as given between the brackets ("" the null sender), and its parameters."""

    sender: str
    domain: str  # lower case; "" for the null sender; "[192.0.2.1]" for a literal
    size: int = 0  # bytes as declared; 0: not declared
    body: str = ""  # "", "7BIT" or "8BITMIME"
    ret: str = ""  # "", "FULL" or "HDRS"
    envid: str = ""  # xtext
    auth_param: str = ""  # xtext or "<>"; read, and not believed
    hold_for: int = 0  # seconds (RFC 4865); 0: not given
    hold_until: float = 0.0  # seconds since the epoch (RFC 4865); 0.0: not given
    utf8: bool = False  # SMTPUTF8: addresses and header may be UTF-8


@dataclass(slots=True)
class RcptTo:
    """RCPT: a recipient as given between the brackets."""

    address: str
    domain: str  # lower case; "[192.0.2.1]" for a literal
    notify: str = ""  # "", "NEVER" or a list of SUCCESS,FAILURE,DELAY
    orcpt: str = ""  # "rfc822;xtext"


@dataclass(slots=True)
class Data:
    """DATA: the client wants to send the message."""


@dataclass(slots=True)
class Bdat:
    """BDAT: so many octets of the message follow at once; are they the last? (RFC 3030 §2)"""

    size: int
    is_last: bool


@dataclass(slots=True)
class Reset:
    """RSET."""


@dataclass(slots=True)
class Quit:
    """QUIT."""


@dataclass(slots=True)
class Courtesy:
    """A command that moves nothing, and its one answer."""

    reply: Reply


Command = Hello | StartTls | AuthRequest | MailFrom | RcptTo | Data | Bdat | Reset | Quit | Courtesy


def parse_command(line: bytes) -> Command:
    """The command of one line without its CRLF. Raises Refused."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        text = _decode_utf8(line)
    if not text.isprintable():
        text = text.rstrip(" \t")  # RFC 5321 §4.1.1: trailing white space is tolerated
        if not text.isprintable():
            raise Refused(replies.CONTROL_CHARACTER)
    verb, _, argument = text.partition(" ")
    parse = _PARSERS.get(verb) or _PARSERS.get(verb.upper())
    if parse is None:
        raise Refused(replies.UNKNOWN_COMMAND)
    return parse(argument)


def parse_mailbox(text: str) -> tuple[str, str]:
    """Local part as written and domain in lower case of `local@domain`.

    Raises AddressError (RFC 5321 §4.1.2).
    """
    found = _MAILBOX.fullmatch(text)
    if found is None:
        raise AddressError(f"{text[:80]!r} is no address of the form local@domain")
    local, domain = found.groups()
    return local, _checked_domain(local, domain)


def parse_plain(text: str) -> Auth:
    """The credentials in the base64 of an AUTH PLAIN response (RFC 4616 §2). Raises Refused."""
    try:
        authorization, user, password = b64decode(text, validate=True).decode().split("\0")
    except ValueError:  # UnicodeDecodeError and binascii.Error are ValueErrors, too
        raise Refused(replies.BAD_CREDENTIALS_SYNTAX) from None
    if not user or not password or len(text) > MAX_PLAIN * 4 // 3 + 3:
        raise Refused(replies.BAD_CREDENTIALS_SYNTAX)
    if authorization not in ("", user):
        raise Refused(replies.BAD_CREDENTIALS)  # nobody acts for another here
    return Auth("PLAIN", user, password)


def parse_login(text: str) -> str:
    """The user or the password in the base64 of one AUTH LOGIN response. Raises Refused."""
    try:
        value = b64decode(text, validate=True).decode()
    except ValueError:
        raise Refused(replies.BAD_CREDENTIALS_SYNTAX) from None
    if not value or "\0" in value or len(text) > MAX_LOGIN * 4 // 3 + 3:
        raise Refused(replies.BAD_CREDENTIALS_SYNTAX)
    return value


def _read_address(local: str, domain: str) -> tuple[str, str]:
    """The address as it goes on, and its domain as `_checked_domain` gives it. Raises AddressError."""
    if local.isascii() and domain.isascii():
        return f"{local}@{domain}", _checked_domain(local, domain)
    if not domain.isascii():
        domain, a_labels = u_label_domain(domain)
    else:
        a_labels = domain
    if len(local.encode()) > MAX_LOCAL_PART:  # RFC 6531 §3.3: octets
        raise AddressError(f"a local part has at most {MAX_LOCAL_PART} octets")
    return f"{local}@{domain}", _checked_domain("", a_labels)


def _checked_domain(local: str, domain: str) -> str:
    """The domain in lower case, once the sizes and a literal's address are right.

    Raises AddressError.
    """
    if len(local) > MAX_LOCAL_PART:
        raise AddressError(f"a local part has at most {MAX_LOCAL_PART} characters")
    if len(domain) > MAX_DOMAIN:
        raise AddressError(f"a domain has at most {MAX_DOMAIN} characters")
    domain = domain.lower()
    if domain[0] == "[":
        _check_literal(domain[1:-1])
    return domain


def _check_literal(text: str) -> None:
    """`192.0.2.1` or `ipv6:2001:db8::1` (RFC 5321 §4.1.3). Raises AddressError."""
    try:
        if text.startswith("ipv6:"):
            IPv6Address(text[5:])
        else:
            IPv4Address(text)
    except ValueError:
        raise AddressError(f"[{text[:60]}] is no address literal") from None


def _parse_mail(argument: str) -> MailFrom:
    found = (_MAIL if argument.isascii() else _MAIL_UTF8).fullmatch(argument)
    if found is None:
        is_route = _SOURCE_ROUTE.match(argument)
        raise Refused(replies.SOURCE_ROUTE_SENDER if is_route else replies.BAD_SENDER)
    local, domain, extra = found.groups()
    if local is None:
        mail = MailFrom("", "")
    else:
        try:
            mail = MailFrom(*_read_address(local, domain))
        except AddressError:
            raise Refused(replies.BAD_SENDER) from None
    if extra:
        parameters.read_parameters(mail, extra, parameters.OF_MAIL)
    if not (mail.utf8 or mail.sender.isascii()):
        raise Refused(replies.NO_SMTPUTF8)
    return mail


def _parse_rcpt(argument: str) -> RcptTo:
    """`<Postmaster>` has an empty domain: the session, which knows its own, gives it one."""
    found = (_RCPT if argument.isascii() else _RCPT_UTF8).fullmatch(argument)
    if found is None:
        is_route = _SOURCE_ROUTE.match(argument)
        raise Refused(replies.SOURCE_ROUTE_RECIPIENT if is_route else replies.BAD_RECIPIENT)
    local, domain, postmaster, extra = found.groups()
    if local is None:
        rcpt = RcptTo(postmaster, "")
    else:
        try:
            rcpt = RcptTo(*_read_address(local, domain))
        except AddressError:
            raise Refused(replies.BAD_RECIPIENT) from None
    if extra:
        if not extra.isascii():  # RFC 6533 §3: ORCPT=utf-8;… may be UTF-8, or the same as \x{…}
            extra = _NON_ASCII.sub(lambda char: rf"\x{{{ord(char[0]):X}}}", extra)
        parameters.read_parameters(rcpt, extra, parameters.OF_RCPT)
    return rcpt


def _parse_hello(argument: str, *, esmtp: bool) -> Hello:
    name = argument.strip(" ")
    if _HELLO_NAME.fullmatch(name) is None:
        raise Refused(replies.BAD_HELLO)
    return Hello(name, esmtp)


def _parse_auth(argument: str) -> AuthRequest:
    mechanism, _, initial = argument.strip(" ").partition(" ")
    if not mechanism:
        raise Refused(replies.UNKNOWN_MECHANISM)
    return AuthRequest(mechanism.upper(), initial.strip(" ") or None)


def _parse_bdat(argument: str) -> Bdat:
    found = _BDAT.fullmatch(argument)
    if found is None:
        raise Refused(replies.BAD_BDAT)
    return Bdat(int(found[1]), found[2] is not None)


def _bare(command: Command) -> Callable[[str], Command]:
    """The parser of a command without argument (RFC 5321 §4.1.1.4 and others: 501 with one)."""

    def parse(argument: str) -> Command:
        if argument.strip(" "):
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        return command

    return parse


def _courtesy(reply: Reply) -> Callable[[str], Command]:
    """The parser of a command that is answered whatever it says."""
    command = Courtesy(reply)
    return lambda argument: command


def _decode_utf8(line: bytes) -> str:
    """The text of a command with an address in UTF-8 (RFC 6531 §3.3). Raises Refused."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(replies.NOT_ASCII) from None
    if line[:5].upper() not in (b"MAIL ", b"RCPT "):
        raise Refused(replies.NOT_ASCII)
    return text


_PARSERS: dict[str, Callable[[str], Command]] = {
    "MAIL": _parse_mail,
    "RCPT": _parse_rcpt,
    "DATA": _bare(Data()),
    "BDAT": _parse_bdat,
    "RSET": _bare(Reset()),
    "QUIT": _bare(Quit()),
    "EHLO": lambda argument: _parse_hello(argument, esmtp=True),
    "HELO": lambda argument: _parse_hello(argument, esmtp=False),
    "STARTTLS": _bare(StartTls()),
    "AUTH": _parse_auth,
    "NOOP": _courtesy(replies.OK),
    # RFC 5321 §7.3: who has a mailbox here is nobody's business.
    "VRFY": _courtesy(replies.CANNOT_VERIFY),
    "EXPN": _courtesy(replies.NOT_IMPLEMENTED),
    "HELP": _courtesy(replies.HELP),
    "ETRN": _courtesy(replies.NOT_IMPLEMENTED),
    "TURN": _courtesy(replies.NOT_IMPLEMENTED),
}
