"""Clients that hand in mail as fast as it is taken, and a ledger, outside of the server, of what became of each message.

Every message has a Message-ID and recipients of its own, so that each copy of it at a sink, and each line of accounting, is
known again. A message is *acknowledged* once the 250 after its final dot was read here; *unsure* when the dot was sent and no
reply came; *refused* when the reply was another; *unsent* before its dot. Nothing is ever sent a second time.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

REPLY_TIMEOUT_S = 20.0
RECONNECT_S = 0.05
JOIN_TIMEOUT_S = 60.0
DOMAINS = tuple(f"d{n}.crash.example" for n in range(6))
SMALL = (300, 1_500, 4_000, 4_000, 4_000, 30_000)
LARGE = (1_200_000, 1_700_000, 3_000_000)  # beyond what is kept in a row: files of their own


class Fate(Enum):
    """What the client knows of a message."""

    UNSENT = "unsent"
    UNSURE = "unsure"
    REFUSED = "refused"
    ACKNOWLEDGED = "acknowledged"


@dataclass(slots=True)
class Sent:
    """One message as its sender sees it."""

    message_id: str
    recipients: tuple[str, ...]
    size: int
    fate: Fate = Fate.UNSENT
    reply: str = ""  # the one that decided its fate
    at: float = 0.0  # when that came, monotonic


@dataclass(slots=True)
class Ledger:
    """All messages of a test, over all its loads and restarts."""

    messages: list[Sent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what no server may do

    def new(self, size: int, recipients: int, domains: Sequence[str] = DOMAINS) -> Sent:
        """A message nobody has seen yet."""
        number = len(self.messages)
        chosen = random.sample(domains, recipients)
        sent = Sent(
            f"<{number}@load.example>", tuple(f"m{number}@{domain}" for domain in chosen), size
        )
        self.messages.append(sent)
        return sent

    def of(self, fate: Fate) -> list[Sent]:
        """The messages of this fate."""
        return [sent for sent in self.messages if sent.fate is fate]

    def refusals(self) -> set[str]:
        """The first words (code and status) of all refusals."""
        return {" ".join(sent.reply.split()[:2]) for sent in self.of(Fate.REFUSED)}


class Client:
    """One connection. Raises OSError when it is over."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """Connect and say EHLO."""
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            # From another address than the server's: else a connection to its port, while it is down, may meet itself.
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=("127.0.0.2", 0)
            )
        client = cls(reader, writer)
        try:
            await client.expect("220")
            writer.write(b"EHLO load.example\r\n")
            await client.expect("250")
        except BaseException:
            await client.close()
            raise
        return client

    async def expect(self, code: str) -> None:
        """Read a reply that begins with `code`; raises ConnectionError on another."""
        reply = await self.reply()
        if not reply.startswith(code):
            raise ConnectionError(f"{code} expected: {reply}")

    async def reply(self) -> str:
        """The last line of the next reply."""
        async with asyncio.timeout(REPLY_TIMEOUT_S):
            while True:
                line = (await self._reader.readline()).decode()
                if not line.endswith("\n"):
                    raise ConnectionError("the connection was lost")
                if line[3:4] != "-":
                    return line.rstrip()

    async def send(self, sent: Sent) -> None:
        """One transaction; its end stands in `sent`."""
        commands = [f"MAIL FROM:<sender@load.example> SIZE={sent.size}"]
        commands += [f"RCPT TO:<{recipient}>" for recipient in sent.recipients]
        commands.append("DATA")
        self._writer.write("".join(f"{command}\r\n" for command in commands).encode())
        replies = [await self.reply() for _ in commands]
        if not replies[-1].startswith("354"):
            self._decide(sent, replies[0] if replies[0][0] != "2" else replies[-1])
            return
        *pieces, last = a_message(sent)
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
        sent.fate = Fate.UNSURE
        self._writer.write(last + b".\r\n")
        self._decide(sent, await self.reply())

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @staticmethod
    def _decide(sent: Sent, reply: str) -> None:
        sent.fate = Fate.ACKNOWLEDGED if reply.startswith("250") else Fate.REFUSED
        sent.reply, sent.at = reply, time.monotonic()
        if reply.startswith("421"):
            raise ConnectionError(reply)


def a_message(sent: Sent) -> list[bytes]:
    """`sent.size` bytes of message, in pieces for the wire; the last ends the last line."""
    header = (
        f"From: sender@load.example\r\nTo: {sent.recipients[0]}\r\nSubject: crash\r\n"
        f"Date: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: {sent.message_id}\r\n\r\n"
    ).encode()
    line = b"0123456789abcdef" * 4 + b"\r\n"
    body, rest = divmod(max(2, sent.size - len(header)), len(line))
    text = header + line * body + (b"z" * (rest - 2) + b"\r\n" if rest >= 2 else b"")
    sent.size = len(text)
    cut = range(0, len(text), 256_000)
    return [text[at : at + 256_000] for at in cut]


class Load:
    """Several connections handing in mail, in a thread of their own, from `with` to its end."""

    def __init__(
        self,
        port: int,
        ledger: Ledger,
        *,
        connections: int = 8,
        sizes: Sequence[int] = SMALL,
        recipients: Sequence[int] = (1, 1, 1, 2, 3),
        pause_s: float = 0.0,
    ) -> None:
        """`pause_s`: what each connection waits between two messages."""
        self._port = port
        self._ledger = ledger
        self._connections = connections
        self._sizes = sizes
        self._recipients = recipients
        self._pause_s = pause_s
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop after the messages under way. Raises what went wrong in the thread."""
        self._stopping = True
        self._thread.join(JOIN_TIMEOUT_S)
        assert not self._thread.is_alive(), "the load did not stop"
        if self._error is not None:
            raise self._error

    def wait_for(self, acknowledged: int, timeout_s: float = 20.0) -> None:
        """Wait until the ledger has so many acknowledged messages."""
        until = time.monotonic() + timeout_s
        while len(self._ledger.of(Fate.ACKNOWLEDGED)) < acknowledged:
            assert time.monotonic() < until, f"{acknowledged} messages were not acknowledged"
            time.sleep(0.02)

    def _run(self) -> None:
        try:
            asyncio.run(self._hand_in_all())
        except BaseException as error:
            self._error = error

    async def _hand_in_all(self) -> None:
        await asyncio.gather(*(self._hand_in() for _ in range(self._connections)))

    async def _hand_in(self) -> None:
        while not self._stopping:
            try:
                client = await Client.connect(self._port)
            except OSError as error:
                self._note(error)
                await asyncio.sleep(RECONNECT_S)
                continue
            try:
                while not self._stopping:
                    await client.send(self._next())
                    await asyncio.sleep(self._pause_s)
            except OSError as error:
                self._note(error)
            finally:
                await client.close()

    def _next(self) -> Sent:
        return self._ledger.new(random.choice(self._sizes), random.choice(self._recipients))

    def _note(self, error: OSError) -> None:
        # A server that is gone is what these tests are about; one that says nothing is not.
        if isinstance(error, TimeoutError):
            self._ledger.faults.append(f"no reply within {REPLY_TIMEOUT_S} s")


async def hand_in(port: int, sent: Sent) -> Sent:
    """Send one message on a connection of its own."""
    client = await Client.connect(port)
    try:
        await client.send(sent)
    except ConnectionError:
        if sent.fate is Fate.UNSENT:
            raise
    finally:
        await client.close()
    return sent


def hand_in_now(port: int, sent: Sent) -> Sent:
    """`hand_in` for tests without a loop."""
    return asyncio.run(hand_in(port, sent))
