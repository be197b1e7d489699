"""Bodies that mail servers are known to spoil, and messages around them: dots, eight bits, long lines, nothing at all."""

LONGEST = 998  # RFC 5321 §4.5.3.1.6: a line without its CRLF

BODIES = {
    "plain": b"first\r\nsecond\r\n",
    "dots": b".\r\n..\r\n...\r\n.x\r\n. \r\na.\r\n.\r\n",
    "eight bits": "für Grüße, 日本語\r\n".encode() + bytes(range(0x80, 0x100)) + b"\r\n",
    "long lines": b"x" * LONGEST + b"\r\n" + b"." + b"y" * (LONGEST - 1) + b"\r\nend\r\n",
    "empty": b"",
    "blank lines": b"\r\n\r\nbetween\r\n\r\n\r\n",
    "spaces": b" first\t \r\n\tsecond  \r\n \r\n",
    "from": b"From the start\r\n>From here\r\nFrom: there\r\n",
    "large": b"".join(b"%06d %s\r\n" % (n, b"z" * 60) for n in range(15_000)),  # a megabyte
}


def a_message(name: str, recipient: str, sender: str = "a@sender.example") -> bytes:
    """The message around BODIES[name]."""
    fields = [
        f"From: Ada <{sender}>",
        f"To: {recipient}",
        f"Subject: {name}",
        "Date: Mon, 23 Nov 2026 10:00:00 +0000",
        f"Message-ID: <{name.replace(' ', '-')}@sender.example>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    return "\r\n".join([*fields, "", ""]).encode() + BODIES[name]


def body_of(message: bytes) -> bytes:
    """What follows the header, byte by byte."""
    return message.partition(b"\r\n\r\n")[2]


def subject_of(message: bytes) -> str:
    """The name a message of ours was made under."""
    header = b"\r\n" + message.partition(b"\r\n\r\n")[0]
    return header.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0].decode()
