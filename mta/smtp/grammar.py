"""The commands of a client as values: one line in, one command out, or `Refused` with a reply.

The syntax of RFC 5321 §4.1, with these liberties: a blank after `FROM:` and `TO:`, blanks at the
end of a line, dots anywhere in a local part (mailboxes like `a..b@` exist), underscores in domain
names. And these refusals: source routes (App. C; they serve only relays' abusers), control
characters, and non-ASCII, as SMTPUTF8 is not offered. Whether a command may come now is not known
here, nor whether anybody wants the mail.

RFC 5321 §4.1 and §4.5.3.1 (syntax and sizes), RFC 4954 and RFC 4616 (AUTH PLAIN), RFC 3207.
"""

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import NoReturn

from mta.model.errors import AddressError
from mta.model.reply import Reply
from mta.smtp import parameters, replies
from mta.smtp.replies import Refused

MAX_LOCAL_PART = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # RFC 5321 §4.5.3.1.2; with the two above, an address is at most 320
MAX_PLAIN = 3 * 255 + 2  # bytes: RFC 4616 §2 gives each of its three parts 255

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
_QUOTED = r'"(?:[ !#-\[\]-~]|\\[ -~])*"'
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]+\]"
_MAILBOX_PARTS = rf"({_LOCAL}|{_QUOTED})@({_DOMAIN}|{_LITERAL})"

_MAILBOX = re.compile(_MAILBOX_PARTS)
# RFC 5321 §4.1.1.3: <Postmaster> needs no domain.
_MAIL = re.compile(rf"[Ff][Rr][Oo][Mm]: ?<(?:{_MAILBOX_PARTS})?>(?: +(.*))?")
_RCPT = re.compile(rf"[Tt][Oo]: ?<(?:{_MAILBOX_PARTS}|((?i:postmaster)))>(?: +(.*))?")
_SOURCE_ROUTE = re.compile(r"[A-Za-z]+: ?<@")
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
class Reset:
    """RSET."""


@dataclass(slots=True)
class Quit:
    """QUIT."""


@dataclass(slots=True)
class Courtesy:
    """A command that moves nothing, and its one answer."""

    reply: Reply


Command = Hello | StartTls | AuthRequest | MailFrom | RcptTo | Data | Reset | Quit | Courtesy


def parse_command(line: bytes) -> Command:
    """The command of one line without its CRLF. Raises Refused."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        _refuse_non_ascii(line)
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
    found = _MAIL.fullmatch(argument)
    if found is None:
        is_route = _SOURCE_ROUTE.match(argument)
        raise Refused(replies.SOURCE_ROUTE_SENDER if is_route else replies.BAD_SENDER)
    local, domain, extra = found.groups()
    if local is None:
        mail = MailFrom("", "")
    else:
        try:
            mail = MailFrom(f"{local}@{domain}", _checked_domain(local, domain))
        except AddressError:
            raise Refused(replies.BAD_SENDER) from None
    if extra:
        parameters.read_parameters(mail, extra, parameters.OF_MAIL)
    return mail


def _parse_rcpt(argument: str) -> RcptTo:
    """`<Postmaster>` has an empty domain: the session, which knows its own, gives it one."""
    found = _RCPT.fullmatch(argument)
    if found is None:
        is_route = _SOURCE_ROUTE.match(argument)
        raise Refused(replies.SOURCE_ROUTE_RECIPIENT if is_route else replies.BAD_RECIPIENT)
    local, domain, postmaster, extra = found.groups()
    if local is None:
        rcpt = RcptTo(postmaster, "")
    else:
        try:
            rcpt = RcptTo(f"{local}@{domain}", _checked_domain(local, domain))
        except AddressError:
            raise Refused(replies.BAD_RECIPIENT) from None
    if extra:
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


def _refuse_non_ascii(line: bytes) -> NoReturn:
    """RFC 6531 §3.5: an address in UTF-8 gets 553.

    Bytes that are no text at all are a syntax error.
    """
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(replies.NOT_ASCII) from None
    raise Refused(
        replies.NO_SMTPUTF8 if line[:4].upper() in (b"MAIL", b"RCPT") else replies.NOT_ASCII
    )


_PARSERS: dict[str, Callable[[str], Command]] = {
    "MAIL": _parse_mail,
    "RCPT": _parse_rcpt,
    "DATA": _bare(Data()),
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
    "BDAT": _courtesy(replies.NOT_IMPLEMENTED),
    "ETRN": _courtesy(replies.NOT_IMPLEMENTED),
    "TURN": _courtesy(replies.NOT_IMPLEMENTED),
}
