"""The steps of an SMTP dialogue, each with its time-out and its words.

What belongs together stands together: the client waits `timeout_s` for the reply to a step, and
says `words` when it does not come. Nobody here keeps time; drivers do, and configuration may
override a step by its name in lower case.

RFC 5321 §4.5.3.2 (time-outs a client must at least grant), RFC 3207, RFC 4954.
"""

from enum import Enum


class Step(Enum):
    """A step of the dialogue: how long we wait for its reply, and our words when it fails."""

    # RFC 5321 §4.5.3.2.1 to .6. Do not shorten END_OF_DATA: an impatient client sends twice.
    GREETING = 300.0, "waiting for the greeting"
    EHLO = 300.0, "sending EHLO"
    STARTTLS = 120.0, "starting TLS"
    AUTH = 120.0, "authenticating"
    MAIL = 300.0, "sending MAIL FROM"
    RCPT = 300.0, "sending RCPT TO"
    DATA = 120.0, "sending DATA"
    BODY = 180.0, "sending the message"
    END_OF_DATA = 600.0, "sending the final dot; the message may arrive twice"
    RSET = 20.0, "sending RSET"
    QUIT = 5.0, "sending QUIT"  # the work is done; nobody is hurt if the goodbye is not heard
    # No command awaits a reply: the only thing a server may say now is 421 (RFC 5321 §3.8).
    IDLE = 300.0, "waiting for the next message"

    # Enum hashes a member by its name, in Python; a member is one object, and drivers look steps up ten times a message.
    __hash__ = object.__hash__

    def __init__(self, timeout_s: float, words: str) -> None:
        self.key = self._name_.lower()  # in `timeouts` of the configuration
        self.timeout_s = timeout_s
        self.words = words
