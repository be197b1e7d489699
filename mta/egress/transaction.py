"""One message to its recipients in one queue, on one connection: from MAIL to the reply to its final dot.

Keeps what each recipient was told, so that every entry gets exactly one outcome, however the transaction ends.
"""

from typing import TYPE_CHECKING

from mta.model.envelope import Entry, SpillFile
from mta.model.outcome import Deferred, Extent, Outcome
from mta.model.reply import Reply
from mta.smtp.steps import Step

if TYPE_CHECKING:
    from mta.egress.spoken import Spoken


class Transaction:
    """Entries of one message; `refused` holds those that were answered before the dot was."""

    __slots__ = (
        "began_at",
        "body",
        "body_begun",
        "dot_sent",
        "entries",
        "is_checked",
        "mail_taken",
        "named",
        "prefix",
        "refused",
        "spoken",
    )

    def __init__(
        self,
        entries: list[Entry],
        prefix: bytes,
        body: bytes | SpillFile,
        *,
        is_checked: bool = False,
    ) -> None:
        """`is_checked`: the body is the very object that passed the door; one read from disk is looked at again."""
        self.entries = entries
        self.prefix = prefix
        self.body = body
        self.is_checked = is_checked
        self.refused: dict[Entry, Outcome] = {}
        self.spoken: Spoken | None = None  # what is said instead of the envelope, for mail in UTF-8
        self.named = 0  # entries named with RCPT so far, where one waits for each reply
        self.mail_taken = False
        self.body_begun = False
        self.began_at = 0.0  # when its body did, on the monotonic clock
        self.dot_sent = False

    @property
    def is_refused_whole(self) -> bool:
        """No recipient is left to send the message to."""
        return len(self.refused) == len(self.entries)

    def next_named(self) -> Entry | None:
        """Without pipelining: the entry to name next, past those that were refused before anything was said."""
        while self.named < len(self.entries):
            entry = self.entries[self.named]
            self.named += 1
            if entry not in self.refused:
                return entry
        return None

    def refuse(self, entry: Entry, outcome: Outcome) -> None:
        """This recipient was refused; what was said first holds."""
        self.refused.setdefault(entry, outcome)

    def refuse_all(self, outcome: Outcome) -> None:
        """The sender was refused, and so all recipients that were not before."""
        for entry in self.entries:
            self.refused.setdefault(entry, outcome)

    def lost(self, why: Deferred) -> Deferred:
        """What it means for the entries that the connection went now.

        From the body on it counts against the message: one that breaks every connection must not block its queue. After the
        dot the message may have been taken (RFC 5321 §4.5.3.2.6), and may arrive twice.
        """
        if not self.body_begun:
            return why
        text = why.reply.text
        if self.dot_sent and Step.END_OF_DATA.words not in text:
            text = f"{text} while {Step.END_OF_DATA.words}"
        reply = Reply(why.reply.code, why.reply.enhanced, (text,))
        return Deferred(reply, Extent.MESSAGE, local=True, may_repeat=self.dot_sent)
