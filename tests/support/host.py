"""A receiving host under a test's hand: sockets and threads, every byte kept, every reply the test's if it wants.

Unlike the lab's receivers it shows the wire itself: what was sent in which piece, in the clear or inside TLS, and the body
before its dots are unstuffed. A `script` may answer any command; what it leaves alone is answered politely. Only CRLF.CRLF
ends DATA. It never judges: tests do.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

END_OF_DATA = b"\r\n.\r\n"
OFFERS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES")
WAIT_S = 20.0
SILENCE_S = 60.0  # a connection nobody ends is ended by this


class HangUp(Exception):
    """Raised by a script: send these last words, if any, and close."""

    def __init__(self, words: bytes = b"") -> None:
        super().__init__(words)
        self.words = words


@dataclass
class Received:
    """One message that was answered 250: its commands as they came, its body as on the wire without the final dot."""

    mail: str
    rcpts: list[str]
    wire: bytes
    connection: int
    tls: bool

    @property
    def recipients(self) -> list[str]:
        """The addresses of the RCPT commands."""
        return [line.partition("<")[2].partition(">")[0] for line in self.rcpts]

    @property
    def data(self) -> bytes:
        """The message, dots unstuffed (RFC 5321 §4.5.2)."""
        return (b"\r\n" + self.wire).replace(b"\r\n.", b"\r\n")[2:]


@dataclass
class Dialogue:
    """One connection: what came over it, and where it stands."""

    number: int
    pieces: list[bytes] = field(default_factory=list)  # as recv gave them, decrypted
    commands: list[str] = field(default_factory=list)
    messages: int = 0
    tls: bool = False
    over: bool = False
    mail: str = ""
    rcpts: list[str] = field(default_factory=list)
    send: Callable[[bytes], None] = field(default=lambda data: None, repr=False)  # for scripts

    @property
    def bytes(self) -> bytes:
        """Everything that came."""
        return b"".join(self.pieces)


# Given the dialogue and a command ("" for the greeting, "." for the final dot), the whole reply; None: be polite.
Script = Callable[[Dialogue, str], bytes | None]


class Host:
    """A host on loopback; a context manager. `dialogues` and `messages` grow while it runs."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        offers: tuple[str, ...] = OFFERS,
        context: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        starts_in_tls: bool = False,
    ) -> None:
        """`context`: offer STARTTLS and do it with this; `starts_in_tls`: do it before the greeting."""
        self.starts_in_tls = starts_in_tls
        self.script = script
        self.offers = offers
        self.context = context
        self.dialogues: list[Dialogue] = []
        self.messages: list[Received] = []
        self._threads: list[threading.Thread] = []
        self._sessions: set[_Session] = set()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=100)
        self.address, self.port = self._listener.getsockname()[:2]

    @property
    def name(self) -> str:
        """`address:port`, as `hosts` takes it."""
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and end every connection."""
        # A thread blocked in accept() is woken by shutdown, not by close.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for session in tuple(self._sessions):
            session.cut()
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a host's thread does not end"

    def wait_for(self, messages: int = 0, *, dialogues: int = 0, timeout_s: float = WAIT_S) -> None:
        """Wait until so many came. Raises AssertionError with what did."""
        until = time.monotonic() + timeout_s
        while len(self.messages) < messages or len(self.dialogues) < dialogues:
            if time.monotonic() > until:
                found = [each.commands for each in self.dialogues[:20]]
                raise AssertionError(
                    f"{len(self.messages)} messages of {messages}, "
                    f"{len(self.dialogues)} connections of {dialogues}: {found}"
                )
            time.sleep(0.02)

    def message_to(self, address: str) -> Received:
        """The one message with this recipient. Raises AssertionError when there is none, or several."""
        found = [each for each in self.messages if address in each.recipients]
        assert len(found) == 1, f"{len(found)} messages to {address}"
        return found[0]

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                dialogue = Dialogue(len(self.dialogues))
                self.dialogues.append(dialogue)
            self._start(self._serve, sock, dialogue)

    def _serve(self, sock: socket.socket, dialogue: Dialogue) -> None:
        sock.settimeout(SILENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = _Session(self, sock, dialogue)
        self._sessions.add(session)
        try:
            session.run()
        except HangUp as last:
            session.part(last.words)
        except OSError:
            pass
        finally:
            dialogue.over = True
            self._sessions.discard(session)
            session.close()

    def took(self, message: Received) -> None:
        """Keep a message."""
        with self._lock:
            self.messages.append(message)


class _Session:
    """The dialogue of one connection."""

    def __init__(self, host: Host, sock: socket.socket, dialogue: Dialogue) -> None:
        self._host = host
        self._sock = sock
        self._dialogue = dialogue
        self._buffer = b""
        dialogue.send = self.send

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def run(self) -> None:
        if self._host.starts_in_tls:
            assert self._host.context is not None
            self._sock = self._host.context.wrap_socket(self._sock, server_side=True)
            self._dialogue.tls = True
        self._say("", b"220 host.example ESMTP\r\n")
        while (line := self._line()) is not None:
            if not self._obey(line):
                return

    def cut(self) -> None:
        """From another thread: wake the one that reads."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def part(self, words: bytes) -> None:
        with suppress(OSError):
            self.send(words)

    def close(self) -> None:
        self._sock.close()

    def _obey(self, line: bytes) -> bool:
        """Answer one command; whether the dialogue goes on."""
        dialogue, host = self._dialogue, self._host
        command = line.decode("latin-1")
        dialogue.commands.append(command)
        verb = command[:4].upper()
        if verb == "EHLO":
            offers = host.offers
            if host.context is not None and not dialogue.tls:
                offers = (*offers, "STARTTLS")
            lines = ["host.example", *offers]
            texts = [f"250-{text}" for text in lines[:-1]] + [f"250 {lines[-1]}"]
            self._say(command, "".join(f"{text}\r\n" for text in texts).encode())
        elif verb == "STAR":
            if self._say(command, b"220 2.0.0 go ahead\r\n") and host.context is not None:
                self._sock = host.context.wrap_socket(self._sock, server_side=True)
                self._buffer, dialogue.tls = b"", True
        elif verb == "MAIL":
            if self._say(command, b"250 2.1.0 Ok\r\n"):
                dialogue.mail, dialogue.rcpts = command, []
        elif verb == "RCPT":
            if self._say(command, b"250 2.1.5 Ok\r\n" if dialogue.mail else b"503 5.5.1 MAIL\r\n"):
                dialogue.rcpts.append(command)
        elif verb == "DATA":
            good = bool(dialogue.rcpts)
            if self._say(command, b"354 go\r\n" if good else b"554 5.5.1 no recipients\r\n"):
                return self._body()
        elif verb == "RSET":
            dialogue.mail, dialogue.rcpts = "", []
            self._say(command, b"250 2.0.0 Ok\r\n")
        elif verb == "QUIT":
            self._say(command, b"221 2.0.0 Bye\r\n")
            return False
        else:
            self._say(command, b"250 2.0.0 Ok\r\n")
        return True

    def _body(self) -> bool:
        dialogue = self._dialogue
        # The CRLF that ended DATA may begin the final dot's CRLF.CRLF.
        found = b"\r\n"
        while END_OF_DATA not in found:
            piece = self._take() or self._read()
            if not piece:
                return False
            found += piece
        wire, _, self._buffer = (
            found[2:].partition(END_OF_DATA) if len(found) > 5 else (b"", b"", b"")
        )
        message = Received(
            dialogue.mail, dialogue.rcpts, wire + b"\r\n", dialogue.number, dialogue.tls
        )
        dialogue.mail, dialogue.rcpts = "", []
        # Kept before it is answered: an acknowledged message is never missing; a refused one goes again.
        self._host.took(message)
        dialogue.messages += 1
        if not self._say(".", b"250 2.0.0 taken\r\n"):
            self._host.messages.remove(message)
        return True

    def _say(self, command: str, polite: bytes) -> bool:
        """Send the script's answer, or the polite one; whether it is a positive reply."""
        script = self._host.script
        answer = script(self._dialogue, command) if script is not None else None
        reply = polite if answer is None else answer
        self.send(reply)
        if reply.startswith(b"421"):
            raise HangUp
        return re.match(rb"[23]", reply) is not None

    def _take(self) -> bytes:
        taken, self._buffer = self._buffer, b""
        return taken

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            piece = self._read()
            if not piece:
                return None
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r")

    def _read(self) -> bytes:
        piece = self._sock.recv(1 << 16)
        if piece:
            self._dialogue.pieces.append(piece)
        return piece


def wire_faults(data: bytes) -> list[str]:
    """What must never be on the wire in DATA: bare CR, bare LF, NUL, lines beyond 998 bytes, undoubled dots.

    `data` as in `Received.wire`: before dots are unstuffed.
    """
    found = []
    pairs = data.count(b"\r\n")
    if data.count(b"\r") != pairs:
        found.append("bare CR")
    if data.count(b"\n") != pairs:
        found.append("bare LF")
    if b"\0" in data:
        found.append("NUL")
    lines = data.split(b"\r\n")
    # RFC 5321 §4.5.3.1.6: 1000 with its CRLF, a stuffed dot not counted.
    if any(len(line) - line.startswith(b".") > 998 for line in lines):
        found.append("a line beyond 998 bytes")
    if any(line.startswith(b".") and not line.startswith(b"..") for line in lines):
        found.append("a dot that is not stuffed")
    return found
