"""An SMTP client that sends bytes as they are: what a real client would never do is what it is for."""

import base64
import socket
import ssl
import time
from types import TracebackType
from typing import Self

WAIT_S = 20.0


class Wire:
    """A connection to a server; a context manager. Reads have a deadline and raise OSError when it passes."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        source: str = "",
        tls: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """`source`: the address to come from; `tls`: from the first byte; `context`: of TLS, if not `trusting`."""
        self._context = context or trusting()
        self.sock = socket.create_connection((host, port), WAIT_S, (source, 0) if source else None)
        self._buffer = b""
        if tls:
            self.secure()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.sock.sendall(data)

    def reply(self, timeout_s: float = WAIT_S) -> str:
        """The next whole reply, its lines joined by LF. Raises EOFError when the server hung up."""
        self.sock.settimeout(timeout_s)
        lines: list[bytes] = []
        while not lines or lines[-1][3:4] == b"-":
            while b"\r\n" not in self._buffer:
                piece = self.sock.recv(1 << 16)
                if not piece:
                    raise EOFError(f"the server hung up after {lines or self._buffer!r}")
                self._buffer += piece
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            lines.append(line)
        return b"\n".join(lines).decode()

    def ask(self, command: str) -> str:
        """Send one command and read its reply."""
        self.send(command.encode("latin-1") + b"\r\n")
        return self.reply()

    def rest(self, timeout_s: float = WAIT_S) -> str:
        """All that comes until the server hangs up. Raises TimeoutError when it does not."""
        self.sock.settimeout(timeout_s)
        try:
            while piece := self.sock.recv(1 << 16):
                self._buffer += piece
        except ConnectionResetError:
            pass  # it closed with bytes of ours unread
        found, self._buffer = self._buffer, b""
        return found.decode()

    def greet(self) -> str:
        """Read the greeting, say EHLO; the reply to it."""
        greeting = self.reply()
        assert greeting.startswith("220"), greeting
        return self.ask("EHLO client.example")

    def envelope(self, sender: str = "a@sender.example", *recipients: str) -> None:
        """MAIL, RCPT and DATA, all taken."""
        for command in [
            f"MAIL FROM:<{sender}>",
            *(f"RCPT TO:<{each}>" for each in recipients or ("b@example.net",)),
        ]:
            answer = self.ask(command)
            assert answer.startswith("250"), f"{command}: {answer}"
        answer = self.ask("DATA")
        assert answer.startswith("354"), answer

    def deliver(self, message: bytes, sender: str = "a@sender.example", *recipients: str) -> str:
        """One whole transaction; the reply to its final dot. `message` is stuffed here and ends in CRLF."""
        self.envelope(sender, *recipients)
        self.send((b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        return self.reply()

    def secure(self) -> None:
        """Do the TLS handshake now."""
        self.sock = self._context.wrap_socket(self.sock)

    def start_tls(self) -> str:
        """STARTTLS and EHLO again; the reply to EHLO."""
        answer = self.ask("STARTTLS")
        assert answer.startswith("220"), answer
        self.secure()
        return self.ask("EHLO client.example")

    def auth_plain(self, user: str, password: str) -> str:
        """AUTH PLAIN with its initial response; the reply."""
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.ask(f"AUTH PLAIN {token}")


def trusting() -> ssl.SSLContext:
    """A client's TLS context that believes every certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def wait_until(what: object, timeout_s: float = WAIT_S) -> None:
    """Wait until calling `what` gives something true. Raises AssertionError."""
    assert callable(what)
    until = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < until, f"still not so after {timeout_s} s"
        time.sleep(0.02)
