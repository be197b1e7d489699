"""Signing: one `Signer` for one domain, selector and key makes whole `DKIM-Signature` fields (RFC
6376 §5).

What is signed is K2's list; From, To, Cc, Subject, Date, Reply-To and Content-Type once more than
they stand there, so that adding another breaks the signature. Never `l=`: what it leaves open lets
a stranger append a body of his own. `t=` is the second before, never the one to come. Repeating a
signature for the same input gives the same bytes, but a stored message keeps the one it has: every
attempt carries the same.

The fields of a message are canonicalised once for all its signers (kept in `HeaderIndex.memo`), the
folded `h=` once for each set of fields ever seen.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from mta.dkim.canonical import CANONICALIZATIONS, RELAXED, body_hash, canonical_fields
from mta.mime.headers import HeaderIndex

# RFC 6376 §5.4.1, RFC 8058 §4: both List- fields must be covered for one-click unsubscription.
SIGNED_FIELDS = (
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)
# RFC 6376 §8.15: fields whose second instance would change what the reader sees.
OVERSIGNED_FIELDS = ("From", "To", "Cc", "Subject", "Date", "Reply-To", "Content-Type")

_FOLD = b"\r\n "
_LINE = 72  # of the folded h= and b=, without the leading space
_H_CACHE = 1024  # sets of fields whose h= is kept; real mail has a few dozen
_DOMAIN = re.compile(
    r"(?:[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?\.)+[0-9a-z][0-9a-z-]{0,61}[0-9a-z]"
)
_SELECTOR = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.-]{0,200}[0-9A-Za-z_])?")
_NAME = re.compile(r"[0-9A-Za-z-]+")
# RFC 6376 §2.11 would allow more of a local part, quoted-printable; nobody needs it here.
_IDENTITY_LOCAL = re.compile(r"[0-9A-Za-z.!#$%&'*+/?^_`{|}~-]*")


class SigningKey(Protocol):
    """What a signer needs of a key (`mta.dkim.keys`)."""

    @property
    def algorithm(self) -> str:
        """The `a=` value: rsa-sha256 or ed25519-sha256."""

    @property
    def cost_s(self) -> float:
        """About how long one signature takes: whether it is worth a thread of its own."""

    def sign(self, data: bytes) -> bytes:
        """The signature of the canonical data."""


class SignedPart(NamedTuple):
    """What all signers with the same list and canonicalisation share of one message."""

    h: bytes  # the h= value, folded
    data: bytes  # canonical fields, each with CRLF


class FieldList:
    """Which fields are signed, and how often beyond those present; `From` always is one of them
    (RFC 6376 §5.4).
    """

    def __init__(
        self,
        signed: Sequence[str] = SIGNED_FIELDS,
        oversigned: Iterable[str] = OVERSIGNED_FIELDS,
    ) -> None:
        names = [name.lower() for name in signed]
        extra = {name.lower() for name in oversigned} | {"from"}
        for name in [*names, *extra]:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no header field name")
        if "from" not in names:
            names.insert(0, "from")
        names += sorted(extra.difference(names))
        self._names = tuple(name.encode("ascii") for name in dict.fromkeys(names))
        self._extra = tuple(int(name.decode() in extra) for name in self._names)
        self._h: dict[tuple[int, ...], bytes] = {}

    def part(self, index: HeaderIndex, canon: str) -> SignedPart:
        """The signed fields of this header in canonical form, and the h= that names them."""
        key = (self, canon)
        part: SignedPart | None = index.memo.get(key)
        if part is None:
            counts, data = canonical_fields(index, self._names, canon)
            part = SignedPart(self._h_value(counts), data)
            index.memo[key] = part
        return part

    def _h_value(self, counts: tuple[int, ...]) -> bytes:
        folded = self._h.get(counts)
        if folded is None:
            names: list[bytes] = []
            for name, count, extra in zip(self._names, counts, self._extra, strict=True):
                names += [name] * (count + extra)
            if len(self._h) >= _H_CACHE:
                self._h.clear()
            folded = self._h[counts] = _fold_names(names)
        return folded


def _fold_names(names: list[bytes]) -> bytes:
    """`from:from:to…`, folded after a colon; the first line leaves room for `h=`."""
    lines = [b""]
    room = _LINE - 2
    for name in names[:-1]:
        if len(lines[-1]) + len(name) >= room and lines[-1]:
            lines.append(b"")
            room = _LINE
        lines[-1] += name + b":"
    if len(lines[-1]) + len(names[-1]) >= room:
        lines.append(b"")
    lines[-1] += names[-1]
    return _FOLD.join(lines)


DEFAULT_FIELDS = FieldList()


class Signer:
    """Signs for one domain and selector with one key; immutable, and used by any thread."""

    def __init__(
        self,
        domain: str,
        selector: str,
        key: SigningKey,
        *,
        canon: tuple[str, str] = (RELAXED, RELAXED),
        identity: str | None = None,
        expire_s: float | None = None,
        fields: FieldList = DEFAULT_FIELDS,
    ) -> None:
        """`canon` is of header and body; `identity` the `i=` (`news@sub.example.com`,
        `@example.com`); `expire_s` seconds until `x=`. Raises ValueError, with words for the
        operator, on what would make a bad signature.
        """
        self.domain = _checked_domain(domain)
        if not _SELECTOR.fullmatch(selector):
            raise ValueError(f"{selector!r} is no DKIM selector; use letters, digits and hyphens")
        if len(canon) != 2 or not set(canon) <= set(CANONICALIZATIONS):
            raise ValueError(f"canonicalisation {canon!r}: each is relaxed or simple")
        if expire_s is not None and expire_s < 1:
            raise ValueError("a signature that expires at once is none")
        self.selector = selector
        self.key = key
        self.canon = canon
        self.cost_s = key.cost_s
        self._expire_s = None if expire_s is None else int(expire_s)
        self._fields = fields
        # RFC 6376 §3.5; q= is left out, dns/txt being its only value.
        tags = f" v=1; a={key.algorithm}; c={canon[0]}/{canon[1]}; d={self.domain};"
        tags += f"\r\n s={selector};"
        if identity is not None:
            tags += f" i={_checked_identity(identity, self.domain)};"
        self._start = tags.encode("ascii")

    def sign(self, header: bytes | HeaderIndex, body_hash: bytes, now: float) -> bytes:
        """The whole `DKIM-Signature` field, CRLF included, to stand above all fields it signs.

        `header` is the block the signed fields stand in, added ones too (an index of it saves the
        second signer the work); `body_hash` that of `self.canon[1]`; `now` seconds since the epoch
        by the wall clock.
        """
        index = header if isinstance(header, HeaderIndex) else HeaderIndex(header)
        canon = self.canon[0]
        part = self._fields.part(index, canon)
        second = int(now)
        times = b" t=%d;" % second
        if self._expire_s is not None:
            times += b" x=%d;" % (second + self._expire_s)
        unsigned = b"%b%b\r\n h=%b;\r\n bh=%b;\r\n b=" % (
            self._start,
            times,
            part.h,
            b64encode(body_hash),
        )
        # RFC 6376 §3.7: itself, b= empty, without CRLF. We wrote it, so relaxing it is unfolding
        # it.
        if canon == RELAXED:
            own = b"dkim-signature:" + unsigned.replace(_FOLD, b" ")[1:]
        else:
            own = b"DKIM-Signature:" + unsigned
        signature = b64encode(self.key.sign(part.data + own))
        return b"DKIM-Signature:%b%b\r\n" % (unsigned, _folded(signature))


def _folded(signature: bytes) -> bytes:
    """Base64 in lines; the first shares its line with `b=`, where some verifiers look for it."""
    first = _LINE - 2
    if len(signature) <= first:
        return signature
    lines = [signature[:first]]
    lines += [signature[at : at + _LINE] for at in range(first, len(signature), _LINE)]
    return _FOLD.join(lines)


def sign_message(signers: Sequence[Signer], header: bytes, body: bytes, now: float) -> bytes:
    """The fields of all signers for a message in memory: its header block, and its body after the
    blank line.
    """
    index = HeaderIndex(header)
    hashes = {canon: body_hash(body, canon) for canon in {signer.canon[1] for signer in signers}}
    return b"".join(signer.sign(index, hashes[signer.canon[1]], now) for signer in signers)


def _checked_domain(domain: str) -> str:
    text = domain.lower().rstrip(".")
    if not _DOMAIN.fullmatch(text) or len(text) > 253:
        raise ValueError(
            f"{domain!r} is no domain to sign for; write it like example.com (A-labels)"
        )
    return text


def _checked_identity(identity: str, domain: str) -> str:
    """RFC 6376 §3.5: the identity's domain is d= or below it."""
    local, at, host = identity.rpartition("@")
    host = host.lower()
    below = host == domain or (host.endswith("." + domain) and _DOMAIN.fullmatch(host) is not None)
    if not at or not below or not _IDENTITY_LOCAL.fullmatch(local):
        raise ValueError(f"identity {identity!r} is not at {domain} or below it")
    return f"{local}@{host}"
