"""The face for nodes: HTTP in, one job for the committer, the answer out after its commit.

The cheap comes before the costly: source rate, size, shape, known key, signature, and only then the closed parsing of what was
signed, the rates of node and licence, and the database. No rule about licences stands here.
"""

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from licensing.envelope import (
    MEDIA_TYPE,
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    raw_key,
    verify,
)
from licensing.errors import EnvelopeError, LicenseError
from licensing.model.activation import ActivationRequest, Deactivation, LicenseQuery
from licensing.model.bodies import BatchAnswer, BatchAnswers, Presented, Refusal, ReportBatch
from licensing.model.fields import (
    ACTIVATION_REQUEST,
    DEACTIVATION,
    LICENSE_QUERY,
    USAGE_ACK,
    USAGE_REPORT,
)
from licensing.model.usage import UsageAck, UsageReport
from licensing.nodekey import node_id
from licensing.server import rates
from licensing.server.activating import SeatClerk, unknown_license
from licensing.server.answers import Answer, refuse
from licensing.server.commit import Busy, Committer, NotCommitted
from licensing.server.counting import Received, ReportClerk
from licensing.server.desk import Desk
from licensing.server.doors import Doors, source_of
from licensing.server.incidents import Incident, Incidents
from licensing.server.keyring import KeyRing, Stranger
from licensing.server.numbers import Numbers
from licensing.trust import read_key

MAX_BODY = 16 * 1024
MAX_BATCH_BODY = 512 * 1024
BUSY_RETRY_S = 5
OF_SOURCE = frozenset(
    {"SOURCE", "UNKNOWN_LICENSE"}
)  # codes that speak against the address, not against a node
MAX_SLOWDOWN = 5.0  # times the interval, when the waiting line is full


@dataclass(frozen=True, slots=True)
class Limiters:
    """How often each may ask."""

    node: rates.RateTable = field(default_factory=lambda: rates.RateTable(rates.PER_NODE))
    license: rates.RateTable = field(default_factory=lambda: rates.RateTable(rates.PER_LICENSE))
    source: rates.RateTable = field(default_factory=lambda: rates.RateTable(rates.PER_SOURCE))
    bad: rates.RateTable = field(default_factory=lambda: rates.RateTable(rates.BAD_SIGNATURES))


class Face:
    """Answers nodes. `now` gives seconds since 1970."""

    def __init__(
        self,
        desk: Desk,
        committer: Committer,
        keys: KeyRing,
        *,
        now: Callable[[], float],
        limiters: Limiters,
        incidents: Incidents,
        numbers: Numbers,
        doors: Doors,
    ) -> None:
        self._doors = doors
        self._desk = desk
        self._committer = committer
        self._keys = keys
        self._now = now
        self._limits = limiters
        self._incidents = incidents
        self._numbers = numbers
        self._reports = ReportClerk(desk)
        self._seats = SeatClerk(desk)

    def application(self) -> web.Application:
        """The routes of design 3.12."""
        app = web.Application(client_max_size=MAX_BATCH_BODY)
        app.add_routes(
            [
                web.post("/v1/activations", self._wrap("activate", self._activate)),
                web.delete("/v1/activations/{id}", self._wrap("deactivate", self._deactivate)),
                web.post("/v1/reports", self._wrap("report", self._report)),
                web.post("/v1/reports:batch", self._wrap("batch", self._batch)),
                web.get("/v1/licenses/{id}/current", self._wrap("current", self._current)),
                web.get("/v1/trust/{name}", self._wrap("trust", self._root)),
                web.get("/v1/revocations", self._wrap("revocations", self._revocations)),
                web.get("/healthz", self._health),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    # -- around every request -------------------------------------------------------------------------

    def _wrap(
        self, what: str, answer: Callable[[web.Request, str], Awaitable[Answer]]
    ) -> Callable[[web.Request], Coroutine[Any, Any, web.Response]]:
        async def answered(request: web.Request) -> web.Response:
            began = time.perf_counter()
            source = source_of(request.remote or "")
            wait = self._limits.source.take(source, self._now())
            if wait:
                given = _later("SOURCE", "too many requests from this address", wait)
            else:
                given = await self._tried(answer, request, source)
            self._numbers.answered(what, given.status, time.perf_counter() - began)
            response = _response(given)
            is_refused = given.status in (400, 401, 413) or given.code in OF_SOURCE
            if is_refused and self._doors.refused(source):
                response.force_close()
            return response

        return answered

    async def _tried(
        self,
        answer: Callable[[web.Request, str], Awaitable[Answer]],
        request: web.Request,
        source: str,
    ) -> Answer:
        try:
            return await answer(request, source)
        except web.HTTPRequestEntityTooLarge:
            return refuse(413, "TOO_LARGE", f"a body has at most {MAX_BATCH_BODY} bytes")
        except Stranger as error:
            return self._suspect(source, error.code, str(error))
        except EnvelopeError as error:
            return self._noted("", source, refuse(400, "SCHEMA", str(error)))
        except LicenseError as error:
            # Of a signature that does not hold; what a signed statement says wrongly is answered where it is read.
            return self._suspect(source, "SIGNATURE", str(error))
        except Busy as error:
            return refuse(503, "BUSY", str(error), retry_after_s=BUSY_RETRY_S)
        except NotCommitted as error:
            return refuse(503, "DATABASE", str(error), retry_after_s=60)

    def _suspect(self, source: str, code: str, text: str) -> Answer:
        """A signature that does not hold or of nobody we know: five a minute are heard from one address."""
        wait = self._limits.bad.take(source, self._now())
        if wait:
            return _later("SOURCE", "too many unknown signatures from this address", wait)
        return self._noted("", source, refuse(401, code, text))

    def _noted(self, license_id: str, source: str, answer: Answer) -> Answer:
        if answer.is_refusal:
            seen = Incident(self._now(), source, answer.status, answer.code)
            self._incidents.note(license_id, seen)
        return answer

    # -- reports --------------------------------------------------------------------------------------

    async def _report(self, request: web.Request, source: str) -> Answer:
        body = await _read(request, MAX_BODY)
        shown: Envelope | None = None
        try:
            envelope = decode_envelope(body)
        except EnvelopeError:
            presented = decode_closed(body, Presented)
            envelope, shown = presented.report, presented.last_ack
        return await self._count(envelope, shown, source)

    async def _batch(self, request: web.Request, source: str) -> Answer:
        batch = decode_closed(await _read(request, MAX_BATCH_BODY), ReportBatch)
        # In order, for nothing waits before the committer's line; each is answered as if it had come alone.
        answers = await asyncio.gather(
            *(self._tried(self._alone(each), request, source) for each in batch.reports)
        )
        told = BatchAnswers(answers=tuple(map(_in_batch, answers)))
        return Answer(200, msgspec.json.encode(told), is_envelope=False)

    def _alone(self, envelope: Envelope) -> Callable[[web.Request, str], Awaitable[Answer]]:
        async def answer(_: web.Request, source: str) -> Answer:
            return await self._count(envelope, None, source)

        return answer

    async def _count(self, envelope: Envelope, shown: Envelope | None, source: str) -> Answer:
        payload, node = self._keys.open(envelope, USAGE_REPORT)
        report = decode_closed(payload, UsageReport)
        now = self._now()
        wait = self._limits.node.take(node, now) or self._limits.license.take(
            report.license_id, now
        )
        if wait:
            return self._noted(
                report.license_id, source, _later("RATE", "reports come too often", wait)
            )
        received = Received(
            report,
            hashlib.sha256(payload).hexdigest(),
            encode_envelope(envelope),
            node,
            self._open_ack(shown),
        )
        slowdown = 1 + (MAX_SLOWDOWN - 1) * self._committer.load
        answer = await self._committer.run(
            lambda store: self._reports.take(store, received, int(now), slowdown)
        )
        if answer.code == "UNKNOWN_NODE":  # a node that speaks for another's activation (A11)
            return self._suspect(source, answer.code, "this node has no such activation")
        return self._noted(report.license_id, source, answer)

    def _open_ack(self, shown: Envelope | None) -> UsageAck | None:
        if shown is None:
            return None
        return decode_closed(self._desk.trust.open(shown, USAGE_ACK).payload, UsageAck)

    # -- seats ----------------------------------------------------------------------------------------

    async def _activate(self, request: web.Request, source: str) -> Answer:
        envelope = decode_envelope(await _read(request, MAX_BODY))
        # The one statement that is read before its signature holds: it brings its own key.
        asked = decode_closed(envelope.payload_bytes(), ActivationRequest)
        if not self._desk.book.has(asked.license_id, asked.license_sha256):
            return self._noted("", source, unknown_license(asked))
        key = read_key(asked.node_pub)
        raw = raw_key(key)
        verify(envelope, ACTIVATION_REQUEST, {"": key})
        node, now = node_id(raw), self._now()
        wait = self._limits.node.take(node, now) or self._limits.license.take(asked.license_id, now)
        if wait:
            return _later("RATE", "activations come too often", wait)
        sha256 = envelope.payload_sha256()
        answer = await self._committer.run(
            lambda store: self._seats.activate(store, asked, sha256, raw, node, int(now))
        )
        if not answer.is_refusal:
            self._keys.add(raw)
        return self._noted(asked.license_id, source, answer)

    async def _deactivate(self, request: web.Request, source: str) -> Answer:
        envelope = decode_envelope(await _read(request, MAX_BODY))
        payload, node = self._keys.open(envelope, DEACTIVATION)
        asked = decode_closed(payload, Deactivation)
        if asked.activation_id != request.match_info["id"]:
            return refuse(400, "SCHEMA", "the activation in the path is not the one that is signed")
        now, sha256 = self._now(), envelope.payload_sha256()
        answer = await self._committer.run(
            lambda store: self._seats.deactivate(store, asked, sha256, node, int(now))
        )
        return self._noted("", source, answer)

    # -- what nodes read ------------------------------------------------------------------------------

    async def _current(self, request: web.Request, source: str) -> Answer:
        """The newest file of a licence. The query is signed: `Authorization: DSSE <base64 of the envelope>`."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        try:
            envelope = decode_envelope(base64.b64decode(text, validate=True))
        except binascii.Error:
            raise EnvelopeError("Authorization is not base64") from None
        payload, node = self._keys.open(envelope, LICENSE_QUERY)
        asked = decode_closed(payload, LicenseQuery)
        known = self._desk.book.newest(asked.license_id)
        wrong = scheme != "DSSE" or asked.license_id != request.match_info["id"]
        if wrong or known is None or asked.node_id != node:
            return refuse(400, "SCHEMA", "the licence in the path is not the one that is signed")
        seat = await self._committer.run(lambda store: store.activation(asked.activation_id))
        if seat is None or (seat.node_id, seat.license_id) != (node, asked.license_id):
            return self._suspect(source, "UNKNOWN_NODE", "this node has no such activation")
        return Answer(200, encode_envelope(known.envelope))

    async def _root(self, request: web.Request, source: str) -> Answer:
        number = request.match_info["name"].removesuffix(".root.json")
        found = (
            self._desk.trust.roots_after(int(number) - 1)
            if number.isascii() and number.isdigit() and len(number) < 10
            else ()
        )
        if not found:
            return refuse(404, "NOT_FOUND", f"there is no root {number[:20]}")
        return Answer(200, encode_envelope(found[0]))

    async def _revocations(self, request: web.Request, source: str) -> Answer:
        if self._desk.book.revocations is None:
            return refuse(404, "NOT_FOUND", "nothing was revoked yet")
        return Answer(200, encode_envelope(self._desk.book.revocations))

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        """Whether answers would be believed, and can be written."""
        if not self._desk.signer.is_valid(self._now()):
            return web.Response(
                status=503, text="the delegation of the server-online key is not in its window\n"
            )
        try:
            await self._committer.run(lambda store: store.revocations())
        except (Busy, NotCommitted) as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(text="ready\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._numbers.page(), content_type="text/plain")


async def _read(request: web.Request, most: int) -> bytes:
    if (request.content_length or 0) > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=request.content_length or 0)
    body = await request.read()
    if len(body) > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
    return body


def _later(code: str, text: str, wait: float) -> Answer:
    seconds = int(wait) + 1
    return refuse(429, code, f"{text}: try again in {seconds} s", retry_after_s=seconds)


def _response(answer: Answer) -> web.Response:
    headers = {"Content-Type": MEDIA_TYPE if answer.is_envelope else "application/json"}
    if answer.retry_after_s is not None:
        headers["Retry-After"] = str(answer.retry_after_s)
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def _in_batch(answer: Answer) -> BatchAnswer:
    if answer.is_envelope:
        return BatchAnswer(status=answer.status, envelope=decode_envelope(answer.body))
    return BatchAnswer(status=answer.status, refusal=msgspec.json.decode(answer.body, type=Refusal))
