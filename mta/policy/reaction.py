"""What a refusal touches: the recipient, the message, or the whole queue. One table, by the step that was refused.

| step                    | 421, lost   | other 4xx             | 5xx                   |
|-------------------------|-------------|-----------------------|-----------------------|
| GREETING                | queue waits | queue waits           | queue waits (a)       |
| EHLO, STARTTLS, AUTH    | queue waits | queue waits           | queue waits (a)       |
| MAIL                    | queue waits | queue waits (b)       | queue waits (b)       |
| RCPT                    | queue waits | recipient waits       | recipient fails       |
| DATA, BODY, END_OF_DATA | queue waits | whole message waits   | whole message fails   |
| IDLE, RSET, QUIT        | queue waits | queue waits           | queue waits           |

(a) A 554 greeting (RFC 5321 §3.1) speaks of our address or of a bad hour of theirs, never of a recipient: to bounce would lose a
whole campaign to one blocklist entry. Postfix and PowerMTA wait here too.
(b) Unless the code names the sender, its size, content or a parameter: then the message waits or fails, for no other message is
concerned. Anything else ("550 5.7.1 your address is blocked" is often said here) speaks of us.

421 says "service not available, closing" (RFC 5321 §3.8) wherever it comes. A positive reply that is not the expected one breaks
the protocol: the queue waits. 552 to RCPT is "too many recipients" (§4.5.3.1.10) and treated as 452. A refusal of the queue never
costs an entry one of its tries, but for the message under which it was refused twice running (`mta.queue.scheduler`), or one
message could hold up all others.
"""

from mta.model.outcome import Deferred, Delivered, Extent, Failed, Outcome
from mta.model.reply import Reply
from mta.smtp.steps import Step

SERVICE_CLOSING = 421

_BEFORE_ANY_MESSAGE = frozenset({Step.GREETING, Step.EHLO, Step.STARTTLS, Step.AUTH})
_BETWEEN_MESSAGES = frozenset({Step.IDLE, Step.RSET, Step.QUIT})
# RFC 3463: X.1.7, X.1.8 the sender's address; X.2.3, X.3.4 too long; X.6 content; X.5.4 parameters; X.1.9 and X.3.x conversion.
_OF_THE_MESSAGE = ("1.7", "1.8", "1.9", "2.3", "3.3", "3.4", "5.4", "6.")
# RFC 5321 §4.2.2, RFC 1870 §6.1: syntax of MAIL, its parameters, its size. Without an enhanced code they are all there is.
_CODES_OF_THE_MESSAGE = frozenset({501, 504, 552, 553, 555})
_TOO_MANY_RECIPIENTS = 552
# X.5.3 too many recipients, X.2.2 mailbox full: only the first is no refusal of the recipient.
_FULL = "2.2"


def outcome_of(step: Step, reply: Reply, *, local: bool = False) -> Outcome:
    """What a reply to this step did, and how far it reaches.

    Only 2xx to the final dot is Delivered: a host that answers 250 to DATA or 252 to RCPT has taken nothing, however friendly.
    The caller knows which entries the step spoke for; an outcome of extent CONNECTION also rests the queue.
    """
    if step is Step.END_OF_DATA and 200 <= reply.code < 300:
        return Delivered(reply)
    if (
        reply.is_positive
        or reply.code == SERVICE_CLOSING
        or step in _BEFORE_ANY_MESSAGE
        or step in _BETWEEN_MESSAGES
    ):
        return Deferred(reply, Extent.CONNECTION, local=local)
    if step is Step.MAIL:
        return _of_mail(reply, local)
    extent = Extent.RECIPIENT if step is Step.RCPT else Extent.MESSAGE
    if reply.is_permanent and not (step is Step.RCPT and _is_too_many(reply)):
        return Failed(reply, extent, local=local)
    return Deferred(reply, extent, local=local)


def _of_mail(reply: Reply, local: bool) -> Outcome:
    if not _speaks_of_the_message(reply):
        return Deferred(reply, Extent.CONNECTION, local=local)
    if reply.is_permanent:
        return Failed(reply, Extent.MESSAGE, local=local)
    return Deferred(reply, Extent.MESSAGE, local=local)


def _speaks_of_the_message(reply: Reply) -> bool:
    if reply.enhanced:
        detail = reply.enhanced.partition(".")[2]
        return any(
            detail.startswith(code) if code.endswith(".") else detail == code
            for code in _OF_THE_MESSAGE
        )
    # 452 is "insufficient storage" for everybody (RFC 5321 §4.2.3): with no enhanced code the host is full, not the message.
    return reply.code in _CODES_OF_THE_MESSAGE


def _is_too_many(reply: Reply) -> bool:
    """RFC 5321 §4.5.3.1.10: 552 to RCPT was an error of RFC 821 for 452; a full mailbox says so in its enhanced code."""
    return reply.code == _TOO_MANY_RECIPIENTS and not reply.enhanced.endswith(_FULL)
