"""The vendor's server as a node sees it: the rules of design 3.5 in memory, signed by a `Vendor`, and every fault a test wants.

Not `licensing.server`: small enough to read, so that a test of the node shows what the node does. `faults` are taken one a
request: "down" answers nothing, "lost" does the work and answers nothing, "tampered" changes a byte of the answer, "forged"
signs by another vendor, "busy" is 503 with Retry-After.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from licensing.envelope import Envelope, decode_closed, decode_envelope, encode_envelope, verify
from licensing.errors import LicenseError
from licensing.ids import new_id
from licensing.model.activation import Activation, ActivationRequest
from licensing.model.bodies import Presented, Refusal
from licensing.model.fields import (
    ACTIVATION,
    ACTIVATION_REQUEST,
    REWIND_GRANT,
    USAGE_ACK,
    USAGE_REPORT,
)
from licensing.model.usage import Acked, Closed, Lease, Pool, RewindGrant, UsageAck, UsageReport
from licensing.nodekey import node_id
from licensing.trust import read_key
from tests.support.machine_time import MOMENT
from tests.support.vendor import Vendor


@dataclass
class NodeRow:
    """What the server knows of one activation."""

    activation: Activation
    key: Any
    epoch: int = 1
    seq: int = 0
    cum: int = 0
    token: str = "t0"
    closed: int = 0  # Σ of closed epochs
    granted: int = 0  # the highest epoch granted
    grants: dict[int, str] = field(default_factory=dict)
    leases: dict[str, tuple[int, int]] = field(default_factory=dict)  # id → emails, used
    last: tuple[str, bytes] = ("", b"")

    @property
    def total(self) -> int:
        return self.closed + self.cum


class LicenceServer:
    """`async with LicenceServer(vendor) as server: server.url`."""

    def __init__(self, vendor: Vendor, *, quota: int = 1_000_000, block: int = 1_000) -> None:
        self.vendor = vendor
        self.quota, self.block = quota, block
        self.rows: dict[str, NodeRow] = {}
        self.faults: list[str] = []
        self.roots_asked: list[int] = []
        self.is_down = False
        self.requests: list[tuple[str, bytes]] = []
        self.reports: list[UsageReport] = []
        self.refusal: Refusal | None = None
        self.next_report_s = 60
        self.now = lambda: MOMENT  # a test that lets time pass puts its own clock here
        self.forger = Vendor()
        self.ack_extra: dict[str, Any] = {}

    async def __aenter__(self) -> "LicenceServer":
        app = web.Application()
        app.router.add_post("/v1/reports", self._report)
        app.router.add_post("/v1/activations", self._activate)
        app.router.add_delete("/v1/activations/{id}", self._release)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/v1/trust/{number}.root.json", self._root)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    @property
    def total(self) -> int:
        """What is billed."""
        return sum(row.total for row in self.rows.values())

    # -- requests -------------------------------------------------------------------------------------

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _root(self, request: web.Request) -> web.Response:
        self.roots_asked.append(number := int(request.match_info["number"]))
        if number > len(self.vendor.roots):
            return web.Response(status=404)
        return web.Response(body=encode_envelope(self.vendor.roots[number - 1]))

    async def _activate(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path, body))
        if (fault := self._fault(request)) is not None and fault != "lost":
            return self._failing(fault)
        if self.refusal is not None:
            return _refused(403, self.refusal)
        answer = self.activate(decode_envelope(body))
        if fault == "lost":
            return self._failing(fault)
        return web.Response(body=encode_envelope(answer))

    def activate(self, envelope: Envelope) -> Envelope:
        """What the portal does with a request carried by hand, too."""
        asked = decode_closed(envelope.payload_bytes(), ActivationRequest)
        key = read_key(asked.node_pub)
        verify(envelope, ACTIVATION_REQUEST, {"": key})
        node = node_id(key.public_bytes_raw())
        rows = (each for each in self.rows.values() if each.activation.node_id == node)
        row = next((each for each in rows if each.activation.license_id == asked.license_id), None)
        activation = Activation(
            activation_id=row.activation.activation_id if row else new_id("A", self.now()),
            license_id=asked.license_id,
            node_id=node,
            seats=asked.seats,
            role=asked.role,
            epoch=row.epoch if row else 1,
            token=row.token if row else "t0",
            valid_until=int(self.now() + 35 * 86_400),
            fp=asked.fp,
            server_time=int(self.now()),
            in_reply_to=envelope.payload_sha256(),
        )
        if row is None:
            self.rows[activation.activation_id] = NodeRow(activation, key)
        return self.vendor.sign(ACTIVATION, activation)

    async def _release(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path, body))
        gone = self.rows.pop(request.match_info["id"], None)
        return web.Response(status=204 if gone else 404)

    async def _report(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path, body))
        if (fault := self._fault(request)) is not None and fault != "lost":
            return self._failing(fault, body)
        if self.refusal is not None:
            return _refused(403, self.refusal)
        answer = self.take(body)
        return self._failing(fault) if fault == "lost" else answer

    def take(self, body: bytes) -> web.Response:
        """The rule for a report (design 3.5)."""
        presented = None
        try:
            envelope = decode_envelope(body)
        except LicenseError:
            both = decode_closed(body, Presented)
            envelope, presented = both.report, both.last_ack
        report = decode_closed(envelope.payload_bytes(), UsageReport)
        row = self.rows.get(report.activation_id)
        if row is None:
            return _refused(401, Refusal(error="unknown_node", text="activate first"))
        verify(envelope, USAGE_REPORT, {"": row.key})
        sha256 = envelope.payload_sha256()
        if row.last[0] == sha256:
            return web.Response(body=row.last[1])
        if presented is not None:
            self._catch_up(row, presented)
        if (reason := self._why_not(row, report)) is not None:
            return self._grant(row, reason, sha256)
        return self._count(row, report, sha256)

    # -- within ---------------------------------------------------------------------------------------

    def _why_not(self, row: NodeRow, report: UsageReport) -> str | None:
        if report.epoch > row.epoch:
            return None if row.grants.get(report.epoch) == report.token else "EPOCH"
        if report.epoch < row.epoch or report.seq < row.seq:
            return "REWIND"
        if report.seq == row.seq:
            return "FORK"
        return "REWIND" if report.token != row.token or (report.cum or 0) < row.cum else None

    def _catch_up(self, row: NodeRow, presented: Envelope) -> None:
        opened = self.vendor.trust.open(presented, USAGE_ACK)
        ack = decode_closed(opened.payload, UsageAck)
        if (ack.ack.epoch, ack.ack.seq) > (row.epoch, row.seq):
            row.epoch, row.seq, row.cum = ack.ack.epoch, ack.ack.seq, ack.ack.cum or 0
            row.token = ack.token

    def _count(self, row: NodeRow, report: UsageReport, sha256: str) -> web.Response:
        self.reports.append(report)
        if report.epoch > row.epoch:
            row.closed += row.cum
            row.epoch = report.epoch
            row.leases.clear()
        row.seq, row.cum = report.seq, report.cum or 0
        row.token = f"t{report.epoch}.{report.seq}"
        for use in report.leases or ():
            if use.id in row.leases:
                row.leases[use.id] = (row.leases[use.id][0], use.used)
        ack = UsageAck(
            in_reply_to=sha256,
            activation_id=report.activation_id,
            server_time=int(self.now()),
            ack=Acked(epoch=report.epoch, seq=report.seq, cum=report.cum, head=report.head),
            token=row.token,
            activation_until=int(self.now() + 35 * 86_400),
            leases=self._cut(row, report),
            pool=self._pool() if report.cum is not None else None,
            next_report_s=self.next_report_s,
            **self.ack_extra,
        )
        data = encode_envelope(self.vendor.sign(USAGE_ACK, ack))
        row.last = (sha256, data)
        return web.Response(body=data)

    def _cut(self, row: NodeRow, report: UsageReport) -> tuple[Lease, ...]:
        free = self.quota - self.total - self._outstanding()
        emails = min(self.block, free)
        if report.want is None or emails <= 0:
            return ()
        name = f"ls_{row.activation.activation_id[-6:]}_{report.epoch}_{report.seq}"
        row.leases[name] = (emails, 0)
        return (
            Lease(
                id=name,
                fence=report.epoch * 1_000 + report.seq,
                period="2026-11",
                emails=emails,
                use_until=int(self.now() + 86_400 * 30),
            ),
        )

    def _outstanding(self) -> int:
        return sum(
            emails - used for row in self.rows.values() for emails, used in row.leases.values()
        )

    def _pool(self) -> Pool:
        free = max(0, self.quota - self.total - self._outstanding())
        nodes = max(1, len(self.rows))
        return Pool(
            period="2026-11",
            quota=self.quota,
            used=self.total,
            reserved=self._outstanding(),
            nodes=nodes,
            share=free // nodes,
        )

    def _grant(self, row: NodeRow, reason: Any, sha256: str) -> web.Response:
        row.granted = max(row.granted, row.epoch) + 1
        token = f"g{row.granted}"
        row.grants[row.granted] = token
        grant = RewindGrant(
            in_reply_to=sha256,
            server_time=int(self.now()),
            reason=reason,
            new_epoch=row.granted,
            closed=Closed(epoch=row.epoch, seq=row.seq, cum=row.cum),
            token=token,
        )
        envelope = self.vendor.sign(REWIND_GRANT, grant)
        return web.Response(status=409, body=encode_envelope(envelope))

    def _fault(self, request: web.Request) -> str | None:
        if self.is_down:
            request.transport.close()  # type: ignore[union-attr]
            return "down"
        fault = self.faults.pop(0) if self.faults else None
        if fault in ("down", "lost"):
            request.transport.close()  # type: ignore[union-attr]
        return fault

    def _failing(self, fault: str, body: bytes = b"") -> web.Response:
        if fault == "busy":
            busy = Refusal(error="busy", text="try again later", retry_after_s=120)
            return web.Response(
                status=503, body=msgspec.json.encode(busy), headers={"Retry-After": "120"}
            )
        if fault in ("tampered", "forged") and body:
            good = self.take(body).body
            assert isinstance(good, bytes)
            return web.Response(body=self._changed(decode_envelope(good), fault))
        return web.Response(status=500)

    def _changed(self, envelope: Envelope, fault: str) -> bytes:
        ack = decode_closed(envelope.payload_bytes(), UsageAck)
        if fault == "forged":
            return encode_envelope(self.forger.sign(USAGE_ACK, ack))
        more = msgspec.json.encode(msgspec.structs.replace(ack, next_report_s=86_400))
        return encode_envelope(
            msgspec.structs.replace(envelope, payload=base64.b64encode(more).decode())
        )


def _refused(status: int, refusal: Refusal) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(refusal))
