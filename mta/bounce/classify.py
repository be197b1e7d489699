"""The category of a reply: one of the seventeen names that users' tools know, or `success`.

By enhanced status (RFC 3463, RFC 7505), and by code (RFC 5321 §4.2.2, RFC 7504) where the reply has
none or one that says nothing. Text is not looked at yet: a text rule that stands before the code
calls "5.1.1 … blocked" spam, so text rules come with their own corpus and stand behind the code,
never before it. A dict look-up or two: it runs once an attempt.
"""

from mta.model.reply import Reply

OTHER = "other"
SUCCESS = "success"

CATEGORIES = (
    "spam-related",
    "virus-related",
    "content-related",
    "quota-issues",
    "invalid-sender",
    "inactive-mailbox",
    "bad-mailbox",
    "relaying-issues",
    "bad-domain",
    "policy-related",
    "protocol-errors",
    "routing-errors",
    "bad-configuration",
    "bad-connection",
    "no-answer-from-host",
    "message-expired",
    OTHER,
)

# Subject and detail of the enhanced status. The class (4 or 5) says how long, not why, and is left
# out.
_BY_DETAIL = {
    ".1.1": "bad-mailbox",
    ".1.2": "bad-domain",
    ".1.3": "bad-mailbox",
    ".1.4": "bad-mailbox",
    ".1.6": "bad-mailbox",
    ".1.7": "invalid-sender",
    ".1.8": "invalid-sender",
    ".1.10": "bad-domain",  # RFC 7505 §4.2: the domain's null MX says it takes no mail
    ".2.0": "bad-mailbox",
    ".2.1": "inactive-mailbox",
    ".2.2": "quota-issues",
    ".3.3": "content-related",
    ".3.5": "bad-configuration",
    ".4.1": "no-answer-from-host",
    ".4.2": "bad-connection",
    ".4.3": "routing-errors",
    ".4.4": "routing-errors",
    ".4.6": "routing-errors",
    ".4.7": "message-expired",
    ".5.3": "policy-related",
    ".7.7": "content-related",
}

# Subjects whose every other detail means the same (RFC 3463 §3.6–3.8: protocol, content, security
# or policy).
_BY_SUBJECT = {
    ".5.": "protocol-errors",
    ".6.": "content-related",
    ".7.": "policy-related",
}

# Only codes that mean one thing without an enhanced status; 450, 550, 553, 554 mean too many.
_BY_CODE = {
    500: "protocol-errors",
    501: "protocol-errors",
    502: "protocol-errors",
    503: "protocol-errors",
    504: "protocol-errors",
    521: "bad-domain",  # RFC 7504 §3: the host takes no mail at all
    530: "policy-related",
    535: "policy-related",
    552: "quota-issues",
    555: "protocol-errors",
    556: "bad-domain",  # RFC 7504 §4
}


def classify(reply: Reply, site: str, local: bool) -> str:
    """The category of `reply` as `site` or, with `local`, we ourselves gave it; `success` for a
    positive one.

    What differs by site, and what the text adds, is not known yet: both arguments wait for those
    rules.
    """
    if reply.is_positive:
        return SUCCESS
    detail = reply.enhanced[1:]
    return (
        _BY_DETAIL.get(detail) or _BY_SUBJECT.get(detail[:3]) or _BY_CODE.get(reply.code) or OTHER
    )
