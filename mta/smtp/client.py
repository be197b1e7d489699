"""The client's side of an SMTP session: commands in, bytes out; bytes in, paired replies out.

The real structure is a queue: what was sent and is not yet answered, oldest first. A reply belongs
to the first of them; pipelining (RFC 2920), pairing and the check at STARTTLS come free. A reply
that answers nothing, or in a way its command cannot be answered, is a ProtocolError: never is it
paired with another command. Only 421 may come unasked.

Every command passes one door, `_send`, which lets only printable ASCII through and adds the one
CRLF (`auth_line` is its twin, for lines that no error may show); every byte of a message passes
another, `DotWriter`. When the driver may pipeline, and what it does about a refusal, is the driver's
business.

RFC 5321, RFC 2920 §3.1, RFC 3207 §4, RFC 3461 §4.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mta.model.address import parse_address
from mta.model.errors import ProtocolError, Unsayable
from mta.model.reply import Reply
from mta.smtp.dots import DotWriter
from mta.smtp.extensions import parse_extensions
from mta.smtp.grammar import parse_mailbox
from mta.smtp.replies import ReplyReader
from mta.smtp.steps import Step

MAX_COMMAND = 2048  # bytes; an address of 320, ENVID of 100 and ORCPT of 500 fit well
MAX_AUTH_LINE = 12_286  # RFC 4954 §4.1, less the CRLF

_PARAMETER_VALUE = re.compile(r"[!-<>-~]+")  # RFC 5321 §4.1.2, esmtp-value


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """A reply and what it answers; `tag` is what the caller gave with the command.

    Step.IDLE: a 421 nobody asked for.
    """

    step: Step
    reply: Reply
    tag: Any


class ClientSession:
    """One dialogue with a server.

    Invariant: `awaiting` holds every command sent and not answered, oldest first.
    """

    def __init__(self) -> None:
        self.awaiting: deque[tuple[Step, Any]] = deque([(Step.GREETING, None)])
        self.extensions: dict[str, str] = {}  # keyword → parameters, of the last EHLO
        self.said_helo = False
        self._replies = ReplyReader()
        self._outgoing: list[bytes] = []
        self._body: DotWriter | None = None  # between 354 and the final dot

    def receive(self, data: bytes) -> Iterator[ReplyTo]:
        """Take what was read; give the replies it completes, each as it is asked for.

        Raises ProtocolError from the iteration, after the good replies that came before the fault.
        """
        self._replies.feed(data)
        return self._pair()

    def _pair(self) -> Iterator[ReplyTo]:
        while (reply := self._replies.next_reply()) is not None:
            if self.awaiting:
                step, tag = self.awaiting.popleft()
                self._take(step, reply)
                yield ReplyTo(step, reply, tag)
            elif reply.code == 421:  # RFC 5321 §3.8: at any time
                yield ReplyTo(Step.IDLE, reply, None)
            else:
                raise ProtocolError(f"{reply.code} answers no command")

    def _take(self, step: Step, reply: Reply) -> None:
        """What the reply changes. Raises ProtocolError if it is none to this step."""
        code = reply.code
        if step is Step.DATA:
            if code == 354:
                self._body = DotWriter()
            elif code < 400:
                raise ProtocolError(f"{code} is no answer to DATA")
        elif 300 <= code < 400 and step is not Step.AUTH:
            raise ProtocolError(f"{code} is no answer to {step.name}")
        elif step is Step.EHLO:
            is_offer = code == 250 and not self.said_helo
            self.extensions = parse_extensions(reply) if is_offer else {}

    # Commands. Each is only put down here; take_outgoing() gives all of them for one write.

    def ehlo(self, name: str) -> None:
        """EHLO; the answer fills `extensions`.

        Raises Unsayable, as all commands do, for what cannot be said cleanly.
        """
        self.said_helo = False
        self._send(Step.EHLO, f"EHLO {name}")

    def helo(self, name: str) -> None:
        """HELO, for hosts that do not know EHLO."""
        self.said_helo = True
        self._send(Step.EHLO, f"HELO {name}")

    def start_tls_command(self) -> None:
        """STARTTLS; nothing may be sent behind it until the handshake is done (RFC 3207 §4)."""
        self._send(Step.STARTTLS, "STARTTLS")

    def auth_line(self, line: str) -> None:
        """AUTH, or the answer to its challenge (`mta.smtp.sasl`). Raises ValueError, which does not show the line."""
        if not (line.isascii() and line.isprintable()) or len(line) > MAX_AUTH_LINE:
            raise ValueError("user name or password cannot be sent")
        self._outgoing.append(line.encode() + b"\r\n")
        self.awaiting.append((Step.AUTH, None))

    def mail(
        self,
        sender: str,
        *,
        size: int = 0,
        eight_bit: bool = False,
        ret: str = "",
        envid: str = "",
        utf8: bool = False,
        tag: Any = None,
    ) -> None:
        """MAIL; `sender` "" is the null sender, `envid` is xtext, `utf8` says SMTPUTF8 (RFC 6531 §3.4).

        Parameters go only to hosts that offer them.
        Raises Unsayable for 8-bit mail to a host without 8BITMIME: it must fail, not be sent (RFC
        6152 §3).
        """
        if sender:
            _check_mailbox(sender, utf8)
        command = f"MAIL FROM:<{sender}>"
        offered = self.extensions
        if size and "SIZE" in offered:
            command += f" SIZE={size:d}"
        if eight_bit:
            if "8BITMIME" not in offered:
                raise Unsayable("the host does not offer 8BITMIME")
            command += " BODY=8BITMIME"
        if (ret or envid) and "DSN" in offered:
            command += _parameter("RET", ret) + _parameter("ENVID", envid)
        if utf8:
            if "SMTPUTF8" not in offered:
                raise Unsayable("the host does not offer SMTPUTF8")
            command += " SMTPUTF8"
        self._send(Step.MAIL, command, tag, utf8=utf8)

    def rcpt(
        self,
        address: str,
        *,
        notify: str = "",
        orcpt: str = "",
        utf8: bool = False,
        tag: Any = None,
    ) -> None:
        """RCPT; `notify` and `orcpt` as received, for hosts that offer DSN. `utf8`: MAIL said SMTPUTF8."""
        _check_mailbox(address, utf8)
        command = f"RCPT TO:<{address}>"
        if (notify or orcpt) and "DSN" in self.extensions:
            command += _parameter("NOTIFY", notify) + _parameter("ORCPT", orcpt)
        self._send(Step.RCPT, command, tag, utf8=utf8)

    def data(self, *, tag: Any = None) -> None:
        """DATA; the body may follow once it is answered with 354."""
        self._send(Step.DATA, "DATA", tag)

    def body(self, data: bytes, *, last: bool, is_checked: bool = False, tag: Any = None) -> None:
        """The message, or its next piece, stuffed; with the `last` the final dot.

        `b"", last=True` sends what is missing of the dot alone. `is_checked`: see `DotWriter.write`.
        Raises Unsayable, and nothing of this piece is sent, for a bare CR or LF, a NUL, or a line
        beyond 998 bytes. There is no way back from DATA but to close the connection.
        """
        assert self._body is not None, "no 354 yet"
        wire = self._body.write(data, last=False, is_checked=is_checked)
        if not last:
            self._outgoing.append(wire)
            return
        end = self._body.write(b"", last=True)  # a piece of its own: a large body is not copied
        self._outgoing += (wire, end)
        self._body = None
        self.awaiting.append((Step.END_OF_DATA, tag))

    def rset(self) -> None:
        """RSET: the transaction is forgotten."""
        self._send(Step.RSET, "RSET")

    def quit(self) -> None:
        """QUIT."""
        self._send(Step.QUIT, "QUIT")

    def checkpoint(self) -> tuple[int, int]:
        """Where the commands put down now begin, for `rollback`."""
        return len(self._outgoing), len(self.awaiting)

    def rollback(self, checkpoint: tuple[int, int]) -> None:
        """Take back the commands put down since; none of them may have been sent."""
        outgoing, awaiting = checkpoint
        del self._outgoing[outgoing:]
        while len(self.awaiting) > awaiting:
            self.awaiting.pop()

    def take_outgoing(self) -> bytes:
        """All that is to be sent now, for one write; b"" for nothing."""
        return b"".join(self.take_pieces())

    def take_pieces(self) -> list[bytes]:
        """The same unjoined, for a write that gathers: a large body is not copied then."""
        pieces, self._outgoing = self._outgoing, []
        return pieces

    def start_tls(self) -> None:
        """The 220 to STARTTLS is here, the handshake begins (RFC 3207 §4.2).

        What was said in the clear is forgotten.
        Raises ProtocolError if bytes came behind the 220: trust none of them.
        """
        if self.awaiting or not self._replies.is_empty:
            raise ProtocolError("data before the TLS handshake")
        self.extensions = {}
        self.said_helo = False

    def _send(self, step: Step, command: str, tag: Any = None, *, utf8: bool = False) -> None:
        """The one door for commands: one line of printable ASCII – UTF-8 if the host asked for it –, one CRLF at its end.

        Raises Unsayable.
        """
        is_clean = command.isprintable() and (utf8 or command.isascii())
        if not is_clean or len(command) > MAX_COMMAND:
            raise Unsayable(f"{command[:80]!r} cannot be sent as one command")
        self._outgoing.append(command.encode() + b"\r\n")
        self.awaiting.append((step, tag))


def _check_mailbox(address: str, utf8: bool) -> None:
    """Raises AddressError."""
    if utf8 and not address.isascii():
        parse_address(address, utf8=True)
    else:
        parse_mailbox(address)


def _parameter(keyword: str, value: str) -> str:
    """One ESMTP parameter with the blank before it, nothing for no value. Raises Unsayable."""
    if not value:
        return ""
    if _PARAMETER_VALUE.fullmatch(value) is None:
        raise Unsayable(f"{value[:80]!r} cannot be the value of {keyword}")
    return f" {keyword}={value}"
