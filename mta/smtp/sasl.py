"""The client's side of a login: PLAIN, LOGIN and CRAM-MD5, as lines to send and challenges to answer.

No word of it is ever shown: a line is base64 of a password, or as good as one. RFC 4954 §4, RFC 4616
(PLAIN), RFC 2195 (CRAM-MD5); LOGIN is an expired draft that many hosts know alone.
"""

import base64
import hmac

# The best first. Within TLS the simple ones serve, and any store of passwords can check them; in the clear CRAM-MD5 keeps
# the password itself from who listens.
WITHIN_TLS = ("PLAIN", "LOGIN", "CRAM-MD5")
IN_THE_CLEAR = ("CRAM-MD5", "PLAIN", "LOGIN")

MAX_CHALLENGE = 1024  # characters of base64; a real one has 80


class Login:
    """One login under way: `first` begins it, `answer` answers each challenge."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        self.mechanism = mechanism
        self._user = user.encode()
        self._password = password.encode()
        self._asked = 0

    def first(self) -> str:
        """The AUTH command (RFC 4954 §4)."""
        if self.mechanism == "PLAIN":
            return "AUTH PLAIN " + _encode(b"\0%b\0%b" % (self._user, self._password))
        return f"AUTH {self.mechanism}"

    def answer(self, challenge: str) -> str:
        """The line that answers the text of a 334. Raises ValueError for a challenge that belongs to no such login."""
        self._asked += 1
        if self.mechanism == "CRAM-MD5" and self._asked == 1:
            digest = hmac.digest(self._password, _decode(challenge), "md5").hex()
            return _encode(self._user + b" " + digest.encode())
        # What LOGIN asks for is asked in this order everywhere, in words that differ.
        if self.mechanism == "LOGIN" and self._asked <= 2:
            return _encode(self._user if self._asked == 1 else self._password)
        raise ValueError(f"the host asks more than {self.mechanism} has to say")


def choose_mechanism(offered: str, *, in_tls: bool) -> str:
    """The best of what EHLO says behind AUTH that we know; "": none."""
    known = offered.upper().split()
    return next((each for each in (WITHIN_TLS if in_tls else IN_THE_CLEAR) if each in known), "")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    if len(text) > MAX_CHALLENGE:
        raise ValueError("the challenge is too long")
    try:
        return base64.b64decode(text.strip(), validate=True)
    except ValueError:
        raise ValueError("the challenge is no base64") from None
