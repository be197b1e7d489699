"""A raw receiving server on asyncio streams that follows a script, however ill-mannered; see `tempers`.

It knows SMTP just well enough: pipelining, STARTTLS, dots. Only CRLF.CRLF ends DATA here, so that smuggling shows. It never
validates what the sender may not send: `mailbox` notes faults instead.
"""

import asyncio
import re
import socket
import ssl
import struct
import sys
from collections import Counter, OrderedDict

from mta.lab.mailbox import Mailbox
from mta.lab.tempers import Moment, Temper

MAX_LINE = 2_000_000  # a line of a message; ours are 998 at most, and a test may send more
MAX_GREYLISTED = 50_000
TCP_ESTABLISHED = 1  # netinet/tcp.h
LONG_LINE = 1_000_000
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST (socket(7))
_PATH = re.compile(rb"(?:MAIL FROM|RCPT TO):\s*<([^>]*)>(.*)", re.IGNORECASE)


class _Gone(Exception):
    """The dialogue is over."""


class Receiver:
    """A scripted server of one host name; `sock` is bound and not listening."""

    def __init__(
        self,
        name: str,
        temper: Temper,
        sock: socket.socket,
        mailbox: Mailbox,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.temper = temper
        self.mailbox = mailbox
        self.context = context
        self.counts: Counter[str] = Counter()  # connections, tls, and replies given by moment
        self.open_now = 0
        self.peak = 0
        self.address: str = sock.getsockname()[0]
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._first_seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def start(self) -> None:
        """Listen, unless the script says that the port is closed."""
        if self.temper.listens:
            self._server = await asyncio.start_server(
                self._serve, sock=self._sock, limit=MAX_LINE, backlog=1024
            )

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        self._sock.close()
        sessions = tuple(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def greylists(self, sender: str, recipient: str) -> bool:
        """Whether this pair must come again later."""
        if self.temper.greylist_s is None:
            return False
        now = asyncio.get_running_loop().time()
        first = self._first_seen.setdefault((sender, recipient), now)
        if len(self._first_seen) > MAX_GREYLISTED:
            self._first_seen.popitem(last=False)
        return first == now or now < first + self.temper.greylist_s

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.counts["connections"] += 1
        self.open_now += 1
        self.peak = max(self.peak, self.open_now)
        try:
            await _Session(self, reader, writer).run()
        except (_Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self.open_now -= 1
            self._sessions.discard(task)
            writer.transport.abort() if self.temper.drop else writer.close()


class _Session:
    """One connection to a Receiver."""

    def __init__(
        self, server: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._temper = server.temper
        self._reader = reader
        self._writer = writer
        self._tls = False
        self._messages = 0
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._bytes_left = (
            sys.maxsize if self._temper.reset_after is None else self._temper.reset_after
        )

    async def run(self) -> None:
        await self._say(Moment.GREETING, f"220 {self._server.name} ESMTP lab")
        while True:
            line = await self._reader.readline()
            self._count(line)
            if not line:
                return
            await self._obey(line)

    def _count(self, line: bytes) -> None:
        """Reset the connection once enough was read."""
        self._bytes_left -= len(line)
        if self._bytes_left < 0:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._writer.transport.abort()
            raise _Gone

    async def _obey(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            await self._hello(verb == b"EHLO")
        elif verb == b"STAR":
            await self._start_tls()
        elif self._temper.requires_tls and not self._tls and verb in (b"MAIL", b"RCPT", b"DATA"):
            await self._write("530 5.7.0 Must issue a STARTTLS command first")
        elif verb == b"MAIL":
            await self._mail(line)
        elif verb == b"RCPT":
            await self._rcpt(line)
        elif verb == b"DATA":
            await self._data()
        elif verb == b"RSET":
            self._sender, self._recipients = None, []
            await self._say(Moment.RSET, "250 2.0.0 reset")
        elif verb == b"QUIT":
            await self._say(Moment.QUIT, "221 2.0.0 bye")
            raise _Gone
        elif verb == b"NOOP":
            await self._write("250 2.0.0 OK")
        else:
            await self._write("500 5.5.2 not understood")

    async def _hello(self, extended: bool) -> None:
        temper = self._temper
        if not extended:
            await self._say(Moment.EHLO, f"250 {self._server.name}")
            return
        if not temper.esmtp:
            await self._write("500 command unknown")
            return
        offers = [self._server.name, f"SIZE {temper.max_size}", "ENHANCEDSTATUSCODES"]
        offers += ["PIPELINING"] * temper.pipelining + ["8BITMIME"] * temper.eight_bit
        if (temper.offers_tls or temper.requires_tls) and not self._tls:
            offers.append("STARTTLS")
        await self._say(Moment.EHLO, *_many(250, offers))

    async def _start_tls(self) -> None:
        context = self._server.context
        if context is None or self._tls:
            await self._write("503 5.5.1 no TLS now")
            return
        lines = ["220 2.0.0 go ahead"] + ["250 2.0.0 injected"] * self._temper.tls_injects
        if await self._say(Moment.STARTTLS, *lines):
            if self._temper.tls_hangs:
                await self._read_on()
            await self._writer.start_tls(context)
            self._tls = True
            self._sender, self._recipients = None, []
            self._server.counts["tls"] += 1

    async def _mail(self, line: bytes) -> None:
        found = _PATH.match(line)
        if found is None:
            await self._write("501 5.5.4 syntax")
        elif b"8BITMIME" in found.group(2).upper() and not self._temper.eight_bit:
            await self._write("555 5.5.4 BODY not supported")
        elif self._messages == self._temper.messages_per_connection:
            await self._write("421 4.7.0 enough for this connection, come back later")
            raise _Gone
        elif await self._say(Moment.MAIL, "250 2.1.0 OK"):
            self._sender = found.group(1).decode("utf-8", "replace")
            self._recipients = []

    async def _rcpt(self, line: bytes) -> None:
        found = _PATH.match(line)
        if found is None or self._sender is None:
            await self._write("503 5.5.1 need MAIL first" if found else "501 5.5.4 syntax")
            return
        recipient = found.group(1).decode("utf-8", "replace")
        temper = self._temper
        for prefix, reply in temper.refuse_recipients.items():
            if recipient.startswith(prefix):
                await self._write(reply)
                return
        if len(self._recipients) == temper.max_recipients:
            await self._write(temper.too_many)
        elif self._server.greylists(self._sender, recipient):
            await self._write("451 4.7.1 greylisted, come again in a moment")
        elif await self._say(Moment.RCPT, "250 2.1.5 OK"):
            self._recipients.append(recipient)

    async def _data(self) -> None:
        if not self._recipients:
            await self._write("554 5.5.1 no valid recipients")
            return
        if not await self._say(Moment.DATA, "354 end with a dot"):
            return
        data = await self._read_message()
        moment = self._temper.refuse.get(Moment.DOT)
        refused = moment is not None and self._still_refuses()
        if not refused:
            # A reply that is dropped or stalls may well belong to a message that was taken.
            self._server.mailbox.take(
                self._server.name, self._sender or "", self._recipients, data, tls=self._tls
            )
            self._messages += 1
        self._sender, self._recipients = None, []
        await self._say(Moment.DOT, "250 2.0.0 taken")

    async def _read_message(self) -> bytes:
        """The message up to CRLF.CRLF, dots unstuffed (RFC 5321 §4.5.2)."""
        lines: list[bytes] = []
        at_line_start = True  # a dot after a bare LF is content
        while True:
            line = await self._reader.readuntil(b"\n")
            self._count(line)
            if at_line_start and line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if at_line_start and line[:1] == b"." else line)
            at_line_start = line.endswith(b"\r\n")

    def _still_refuses(self) -> bool:
        times = self._temper.refuse_times
        return times is None or self._server.counts["refused"] < times

    async def _say(self, moment: Moment, *lines: str) -> bool:
        """Answer as the script wants at this moment. Whether it was the polite answer."""
        temper, counts = self._temper, self._server.counts
        counts[moment] += 1
        if temper.stall is moment:
            await self._read_on()
        if temper.deaf is moment:
            await self._write(*lines)
            await self._wait_for_the_end()
        if temper.drop is moment and counts[moment] % temper.drop_every == 0:
            raise _Gone
        if temper.garbage is moment:
            self._writer.write(b"\xff\xfe\x00 what?\r\n")
            return True
        if temper.endless is moment:
            await self._never_end()
        if temper.long_line is moment:
            lines = (lines[0][:4] + "x" * LONG_LINE,)
        refusal = temper.refuse.get(moment)
        if refusal is not None and self._still_refuses():
            counts["refused"] += 1
            await self._write(refusal)
            if refusal.startswith("421"):
                raise _Gone
            return False
        await self._write(*lines)
        return True

    async def _read_on(self) -> None:
        """Read whatever comes and answer nothing."""
        while await self._reader.read(65536):
            pass
        raise _Gone

    async def _wait_for_the_end(self) -> None:
        """Read nothing until the other side has gone; what it sends stays in the kernel."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]
        sock = self._writer.get_extra_info("socket")
        # Who does not read is not told of the end: the kernel's own word for it is asked (tcp(7), TCP_INFO).
        while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED:
            await asyncio.sleep(0.1)
        raise _Gone

    async def _never_end(self) -> None:
        while True:
            self._writer.write(b"250-and there is more to say\r\n" * 100)
            await self._writer.drain()
            await asyncio.sleep(0)

    async def _write(self, *lines: str) -> None:
        data = "".join(line + "\r\n" for line in lines).encode()
        if self._temper.delay_s:
            await asyncio.sleep(self._temper.delay_s)
        if self._temper.drip_s:
            for number in range(len(data)):
                self._writer.write(data[number : number + 1])
                await asyncio.sleep(self._temper.drip_s)
                if self._writer.is_closing():
                    raise _Gone
        else:
            self._writer.write(data)
        await self._writer.drain()


def _many(code: int, texts: list[str]) -> list[str]:
    """The lines of a multi-line reply (RFC 5321 §4.2.1)."""
    return [f"{code}-{text}" for text in texts[:-1]] + [f"{code} {texts[-1]}"]
