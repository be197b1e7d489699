"""Takes letters from the books to a smarthost by SMTP. Durable: a letter is due until it was taken over, or a week has passed.

A letter that was taken over while we were killed goes out once more, with the same Message-ID. RFC 5321 §4.2.1: 5yz is final.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

import aiosmtplib
import structlog
from msgspec.structs import replace

from licensing.errors import LicenseError
from licensing.server.commit import Busy, Committer, NotCommitted
from licensing.server.rows import LetterRow

LOOK_S = 10.0
MAX_AT_ONCE = 20
DEADLINE_S = 60.0  # of one letter, from the connect to the reply
PAUSE_S, MAX_PAUSE_S = 60, 4 * 3_600
GIVE_UP_S = 7 * 86_400
MAX_FAILURE = 200  # characters that are kept of why

log = structlog.get_logger("sluice.license_server")


@dataclass(frozen=True, slots=True)
class Smarthost:
    """Who takes our mail. `tls`: "starttls", "tls" from the first byte, or "none" (this machine only)."""

    host: str
    port: int
    sender: str
    tls: str = "starttls"
    user: str | None = None
    password: str | None = None

    def check(self) -> None:
        """Raises LicenseError for what would send mail or a password in the clear over a network."""
        if self.tls not in ("starttls", "tls", "none"):
            raise LicenseError("smarthost", f"{self.tls} is none of starttls, tls, none")
        if self.tls == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise LicenseError(
                "smarthost", "mail goes in the clear to this machine only: use starttls or tls"
            )


class Post:
    """The one who carries: `run` until cancelled. `now` gives seconds since 1970."""

    def __init__(
        self, committer: Committer, smarthost: Smarthost, *, now: Callable[[], float]
    ) -> None:
        self._committer = committer
        self._smarthost = smarthost
        self._now = now

    async def run(self) -> None:
        """Look for letters that are due, and take them away."""
        while True:
            try:
                await self.turn()
            except (Busy, NotCommitted) as error:
                log.warning("letters_put_off", why=str(error))
            await asyncio.sleep(LOOK_S)

    async def turn(self) -> int:
        """Take away what is due; how many left. Raises Busy, NotCommitted: they are due still."""
        now, left = int(self._now()), 0
        due = await self._committer.run(lambda store: store.due_letters(now, MAX_AT_ONCE))
        for letter in due:
            settled = await self._carry(letter)
            await self._committer.run(lambda store, row=settled: store.put_letter(row))  # type: ignore[misc]
            left += settled.settled_at is not None and not settled.failure
        return left

    async def _carry(self, letter: LetterRow) -> LetterRow:
        host = self._smarthost
        try:
            async with asyncio.timeout(DEADLINE_S):
                await aiosmtplib.send(
                    self._message(letter),
                    hostname=host.host,
                    port=host.port,
                    use_tls=host.tls == "tls",
                    start_tls=host.tls == "starttls",
                    username=host.user,
                    password=host.password,
                    timeout=DEADLINE_S,
                )
        except aiosmtplib.SMTPResponseException as error:
            return self._failed(letter, f"{error.code} {error.message}", error.code >= 500)
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [each.code for each in error.recipients]
            return self._failed(letter, str(error), bool(codes) and min(codes) >= 500)
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            return self._failed(letter, f"{type(error).__name__}: {error}", False)
        return replace(letter, settled_at=int(self._now()), failure="")

    def _failed(self, letter: LetterRow, why: str, is_final: bool) -> LetterRow:
        now = int(self._now())
        is_final = is_final or now - letter.made_at >= GIVE_UP_S
        # Not whom to: the log is not the place for addresses.
        log.warning("letter_failed", notice=letter.notice, given_up=is_final, why=why[:MAX_FAILURE])
        return replace(
            letter,
            tries=letter.tries + 1,
            next_at=now + min(MAX_PAUSE_S, PAUSE_S << min(letter.tries, 10)),
            settled_at=now if is_final else None,
            failure=why[:MAX_FAILURE],
        )

    def _message(self, letter: LetterRow) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._smarthost.sender
        message["To"] = letter.recipient
        message["Subject"] = letter.subject
        message["Date"] = formatdate(letter.made_at)
        name = hashlib.sha256(f"{letter.notice}|{letter.recipient}".encode()).hexdigest()[:32]
        domain = self._smarthost.sender.rpartition("@")[2]
        message["Message-ID"] = f"<{name}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5
        message.set_content(letter.body)
        return message
