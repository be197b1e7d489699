"""An event as a line of an accounting file, CSV or JSON. Pure: event in, text out.

Names, order and meaning of the columns are those that existing parsers know (delivery `d`, bounce
`b`, transient `t`, transient-queue `tq`, receipt `r`); our own stand at the end, `eventId` first.
RFC 4180: CRLF, quotes only where needed. Text of strangers has its control characters escaped, so
that a record is one line for every reader. Formulas (`=…`) stay as they are: this file is for
machines; whoever shows it in a spreadsheet must take care there. A line of JSON has the same names
and values, numbers as numbers, and leaves out what a record does not have.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TypeVar

import msgspec

from mta.bounce.rules import STANDARD
from mta.follow.patterns import Patterns
from mta.model.envelope import format_message_id
from mta.model.escape import escape_controls
from mta.model.event import Attempt, Event, QueueDeferred, Received

# Every column in the order of the file, with the record types that fill it. A file has those that
# its types fill; one of `tq`
# alone begins with the ten that such files always had.
COLUMNS = {
    "type": "d b t tq r",
    "timeLogged": "d b t tq r",
    "timeQueued": "d b t",
    "orig": "d b t r",
    "rcpt": "d b t r",
    "orcpt": "d b t r",
    "dsnAction": "d b t",
    "dsnStatus": "d b t tq",
    "dsnDiag": "d b t tq",
    "dsnMta": "d b t tq",
    "bounceCat": "d b t tq",
    "srcType": "d b t r",
    "srcMta": "d b t r",
    "dlvType": "d t tq",
    "dlvSourceIp": "d t tq",
    "dlvDestinationIp": "d t tq",
    "dlvEsmtpAvailable": "d t",
    "dlvSize": "d",
    "vmta": "d b t tq r",
    "jobId": "d b t r",
    "envId": "d b t r",
    "queue": "d b t tq",
    "vmtaPool": "d b t r",
    # Known to those parsers, but not in their default order.
    "totalSecondsQueued": "d b t",
    "timeFirstAttempt": "d b t",
    "dlvTlsProtocol": "d b t",
    "dlvTlsCipher": "d b t",
    "rcvSmtpUser": "d b t r",
    "rcvSourceIp": "r",
    "rcvDestinationIp": "r",
    # Ours.
    "eventId": "d b t tq r",
    "mayRepeat": "d b t",
    "messageId": "d b t r",
    "attempts": "d b t tq",
    "site": "d b t tq",
    "removedBy": "b",
    "nextAttempt": "tq",
    "recipients": "r",
    "size": "b t r",
    "category": "b t tq",
    "verdict": "b t tq",
    "fault": "b t tq",
}
# Only where `fields` names them.
OPTIONAL = frozenset({"verdict", "fault"})

RECORD_TYPES = ("d", "b", "t", "tq", "r")
_NUMBERS = frozenset({"dlvSize", "totalSecondsQueued", "attempts", "recipients", "size"})

# RFC 3463 §3, in the words that existing files use for them.
_STATUS_WORDS = {
    "1.1": "bad destination mailbox address",
    "1.2": "bad destination system address",
    "1.3": "bad destination mailbox address syntax",
    "1.4": "destination mailbox address ambiguous",
    "1.5": "destination address valid",
    "1.6": "destination mailbox has moved, no forwarding address",
    "1.7": "bad sender's mailbox address syntax",
    "1.8": "bad sender's system address",
    "1.10": "recipient address has null MX",
    "2.0": "other or undefined mailbox status",
    "2.1": "mailbox disabled, not accepting messages",
    "2.2": "mailbox full",
    "2.3": "message length exceeds administrative limit",
    "2.4": "mailing list expansion problem",
    "3.0": "other or undefined mail system status",
    "3.1": "mail system full",
    "3.2": "system not accepting network messages",
    "3.3": "system not capable of selected features",
    "3.4": "message too big for system",
    "3.5": "system incorrectly configured",
    "4.0": "other or undefined network or routing status",
    "4.1": "no answer from host",
    "4.2": "bad connection",
    "4.3": "directory server failure",
    "4.4": "unable to route",
    "4.5": "mail system congestion",
    "4.6": "routing loop detected",
    "4.7": "delivery time expired",
    "5.0": "other or undefined protocol status",
    "5.1": "invalid command",
    "5.2": "syntax error",
    "5.3": "too many recipients",
    "5.4": "invalid command arguments",
    "5.5": "wrong protocol version",
    "6.0": "other or undefined media error",
    "6.1": "media not supported",
    "6.2": "conversion required and prohibited",
    "6.3": "conversion required but not supported",
    "6.4": "conversion with loss performed",
    "6.5": "conversion failed",
    "7.0": "other or undefined security status",
    "7.1": "delivery not authorized, message refused",
    "7.2": "mailing list expansion prohibited",
    "7.3": "security conversion required but not possible",
    "7.4": "security features not supported",
    "7.5": "cryptographic failure",
    "7.6": "cryptographic algorithm not supported",
    "7.7": "message integrity failure",
}

_ACTIONS = {"d": "relayed", "b": "failed", "t": "delayed"}  # RFC 3464 §2.3.3

# The first digits of a spool's UUID that its event ids carry: over 10,000 spools two agree with a
# chance of 1.8e-7, and a record is 24 bytes shorter.
SPOOL_DIGITS = 12

K = TypeVar("K")

_CACHE_LIMIT = 4096
_BLANK = dict.fromkeys(COLUMNS, "")


def fillable(types: Iterable[str]) -> tuple[str, ...]:
    """The columns that these record types can fill, those included that must be asked for."""
    wanted = set(types)
    return tuple(name for name, of in COLUMNS.items() if not wanted.isdisjoint(of.split()))


def columns_for(types: Iterable[str]) -> tuple[str, ...]:
    """The columns of a file with these record types: their union, in the order of `COLUMNS`."""
    wanted = set(types)
    names = [name for name in fillable(types) if name not in OPTIONAL]
    if wanted == {"tq"}:
        names.append(names.pop(names.index("bounceCat")))
    return tuple(names)


def chosen_columns(types: Iterable[str], fields: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns of a file: all that these types fill, or `fields` in that order behind `type`,
    which is always first.
    """
    if not fields:
        return columns_for(types)
    return ("type", *(name for name in dict.fromkeys(fields) if name != "type"))


def quote(value: str) -> str:
    """The value as a CSV field (RFC 4180 §2.6, §2.7)."""
    if "," in value or '"' in value or "\n" in value or "\r" in value:
        return '"' + value.replace('"', '""') + '"'
    return value


def format_header(columns: Sequence[str]) -> bytes:
    """The header line."""
    return (",".join(columns) + "\r\n").encode()


def format_time(at: float) -> str:
    """`2019-02-08 21:54:05+0000`; "" for 0, which means never."""
    return time.strftime("%Y-%m-%d %H:%M:%S+0000", time.gmtime(at)) if at else ""


def format_status(code: int, enhanced: str) -> str:
    """`5.1.1 (bad destination mailbox address)`; made of the code where the reply has none."""
    status = enhanced or f"{code // 100 if 200 <= code < 600 else 4}.0.0"
    if status.startswith("2."):
        return f"{status} (success)"
    return f"{status} ({_STATUS_WORDS.get(status[2:], 'undefined status')})"


def format_diagnostic(code: int, enhanced: str, text: str, local: bool) -> str:
    """`smtp;550 5.1.1 …` as the remote host said it, `x-sluice;…` for what we say ourselves.

    RFC 3464 §2.3.6: the type `smtp` is for a reply that came over SMTP.
    """
    kind = "x-sluice" if local else "smtp"
    if code and enhanced and text:  # nearly always; the other way costs 1 µs more
        return f"{kind};{code} {enhanced} {text}"
    said = " ".join(part for part in (str(code) if code else "", enhanced, text) if part)
    return f"{kind};{said}"


def format_host(name: str, address: str) -> str:
    """`mx.example.net (192.0.2.1)`, or the one that is known."""
    if name and address:
        return f"{name} ({address})"
    return name or (f"({address})" if address else "")


class _Remembered(dict[K, str]):
    """What a key looks like in a record; emptied when full, so that strangers cannot fill it."""

    def __init__(self, make: Callable[[K], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: K) -> str:
        if len(self) >= _CACHE_LIMIT:
            self.clear()
        self[key] = text = self._make(key)
        return text


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of the chosen types are told: all whose names these choose."""

    vmtas: Sequence[str] = ()
    jobs: Sequence[str] = ()
    domains: Sequence[str] = ()


class RecordFormat:
    """Makes the lines of one file, as CSV: knows its columns, remembers what repeats. One thread."""

    def __init__(
        self, types: Iterable[str], fields: Sequence[str] = (), selection: Selection | None = None
    ) -> None:
        self.types = frozenset(types)
        self.columns = chosen_columns(self.types, fields)
        self.header = format_header(self.columns)
        self.opening = b""  # how every line begins, where there is no header
        chosen = selection or Selection()
        self._chooses_all = not (chosen.vmtas or chosen.jobs or chosen.domains)
        self._vmtas = Patterns(chosen.vmtas)
        self._jobs = Patterns(chosen.jobs)
        self._domains = Patterns(chosen.domains)
        self._commas = len(self.columns) - 1
        self._has_extensions = "dlvEsmtpAvailable" in self.columns
        self._times = _Remembered[int](format_time)
        self._statuses = _Remembered[tuple[int, str]](lambda pair: format_status(*pair))
        # Lists of extensions have commas, always, and there are few of them.
        self._lists = _Remembered[str](lambda value: quote(escape_controls(value)))
        # `itemgetter` of one name gives a value, of two a tuple.
        self._pick: Callable[[dict[str, str]], tuple[str, ...]] = (
            itemgetter(*self.columns) if self._commas else lambda values: (values["type"],)
        )

    def format(self, spool: str, number: int, event: Event) -> str:
        """The record of event `number` of this spool (its UUID), with its line end; "" if not told
        here.

        8 µs for a delivery, most of them for the 39 values.
        """
        match event:
            case Attempt():
                if event.kind not in self.types or not self._is_chosen(
                    event.vmta, event.job, event.domain
                ):
                    return ""
                values = self._attempt(event)
                values["messageId"] = format_message_id(spool, event.message)
            case QueueDeferred() if "tq" in self.types:
                if not self._is_chosen(event.vmta, None, event.domain):
                    return ""
                values = self._queue_deferred(event)
            case Received() if "r" in self.types:
                if not self._is_chosen(event.vmta, event.job, None):
                    return ""
                values = self._receipt(event)
                values["messageId"] = format_message_id(spool, event.message)
            case _:
                return ""
        values["eventId"] = f"{spool[:SPOOL_DIGITS]}:{number}"
        return self._line(values)

    def _is_chosen(self, vmta: str, job: str | None, domain: str | None) -> bool:
        """None: a record of this type has none, and is not judged by it."""
        return self._chooses_all or (
            self._vmtas.choose(vmta)
            and (job is None or self._jobs.choose(job))
            and (domain is None or self._domains.choose(domain))
        )

    def _line(self, values: dict[str, str]) -> str:
        # Joined first, and looked at value by value only where the line shows a quote, a comma too
        # many or something unprintable: 3.5 µs; csv.writer took 10, and 4 more to escape each
        # value.
        extensions = values["dlvEsmtpAvailable"]
        field = self._lists[extensions] if self._has_extensions else ""
        values["dlvEsmtpAvailable"] = field
        line = ",".join(self._pick(values))
        if (
            line.count(",") != self._commas + field.count(",")
            or line.count('"') != field.count('"')
            or not line.isprintable()
        ):
            values["dlvEsmtpAvailable"] = extensions
            line = ",".join([quote(escape_controls(value)) for value in self._pick(values)])
        return line + "\r\n"

    def _attempt(self, event: Attempt) -> dict[str, str]:
        times = self._times
        kind = event.kind
        taken = kind == "d"
        bounced = kind == "b"
        return {
            "type": kind,
            "timeLogged": times[int(event.at)],
            "timeQueued": times[int(event.queued_at)],
            "orig": event.sender,
            "rcpt": event.recipient,
            "orcpt": event.orcpt,
            "dsnAction": _ACTIONS[kind],
            "dsnStatus": self._statuses[event.code, event.enhanced],
            "dsnDiag": format_diagnostic(event.code, event.enhanced, event.text, event.local),
            "dsnMta": format_host(event.remote_name, event.remote_ip),
            "bounceCat": STANDARD.get(event.category, event.category),
            "srcType": event.source_kind,
            "srcMta": format_host(event.source_name, event.source_feeder_ip),
            "dlvType": "" if bounced else "smtp",
            "dlvSourceIp": "" if bounced else event.local_ip,
            "dlvDestinationIp": "" if bounced else event.remote_ip,
            "dlvEsmtpAvailable": "" if bounced else event.extensions,
            "dlvSize": str(event.size) if taken else "",
            "vmta": event.vmta,
            "jobId": event.job,
            "envId": event.envid,
            "queue": f"{event.domain}/{event.vmta}",
            "vmtaPool": "",
            "totalSecondsQueued": str(max(0, int(event.at - event.queued_at))),
            "timeFirstAttempt": times[int(event.first_attempt)],
            "dlvTlsProtocol": event.tls_protocol,
            "dlvTlsCipher": event.tls_cipher,
            "rcvSmtpUser": event.user,
            "mayRepeat": "true" if event.may_repeat else "",
            "attempts": str(event.attempts),
            "site": event.site,
            "removedBy": event.by if bounced else "",
            "size": "" if taken else str(event.size),
            "category": "" if taken else event.category,
            "verdict": event.verdict,
            "fault": event.fault,
            # Columns of other records. Written out: merging `_BLANK` in costs 1 µs.
            "rcvSourceIp": "",
            "rcvDestinationIp": "",
            "nextAttempt": "",
            "recipients": "",
        }

    def _queue_deferred(self, event: QueueDeferred) -> dict[str, str]:
        return {
            **_BLANK,
            "type": "tq",
            "timeLogged": self._times[int(event.at)],
            "dsnStatus": format_status(event.code, event.enhanced),
            "dsnDiag": format_diagnostic(event.code, event.enhanced, event.text, event.local),
            "dsnMta": format_host(event.remote_name, event.remote_ip),
            "bounceCat": STANDARD.get(event.category, event.category),
            "category": event.category,
            "verdict": event.verdict,
            "fault": event.fault,
            "dlvType": "smtp",
            "dlvSourceIp": event.local_ip,
            "dlvDestinationIp": event.remote_ip,
            "vmta": event.vmta,
            "queue": f"{event.domain}/{event.vmta}",
            "attempts": str(event.attempts),
            "site": event.site,
            "nextAttempt": self._times[int(event.next_at)],
        }

    def _receipt(self, event: Received) -> dict[str, str]:
        return {
            **_BLANK,
            "type": "r",
            "timeLogged": self._times[int(event.at)],
            "orig": event.sender,
            "srcType": event.source_kind,
            "srcMta": format_host(event.source_name, event.source_ip),
            "vmta": event.vmta,
            "jobId": event.job,
            "envId": event.envid,
            "rcvSmtpUser": event.user,
            "rcvSourceIp": event.source_ip,
            "rcvDestinationIp": event.local_ip,
            "recipients": str(event.recipients),
            "size": str(event.size),
        }


class JsonRecordFormat(RecordFormat):
    """The same as lines of JSON (JSON Lines): no header, and `type` stands first in each."""

    def __init__(
        self, types: Iterable[str], fields: Sequence[str] = (), selection: Selection | None = None
    ) -> None:
        super().__init__(types, fields, selection)
        self.header = b""
        self.opening = b'{"type":'

    def _line(self, values: dict[str, str]) -> str:
        record: dict[str, object] = {}
        for name in self.columns:
            value = values[name]
            if value:
                record[name] = _json_value(name, value)
        return msgspec.json.encode(record).decode() + "\n"


def _json_value(name: str, value: str) -> object:
    if name in _NUMBERS:
        return int(value)
    if name == "mayRepeat":
        return True
    return value if value.isprintable() else escape_controls(value)


def make_format(
    kind: str, types: Iterable[str], fields: Sequence[str] = (), selection: Selection | None = None
) -> RecordFormat:
    """The format that is named "csv" or "jsonl"."""
    make = JsonRecordFormat if kind == "jsonl" else RecordFormat
    return make(types, fields, selection)
