"""The pool law with real nodes: whatever is lost, doubled or killed, no more is sent than was bought, and all of it is billed.

`test_license_pool_laws` holds the server to it with nodes as the protocol knows them; here ledger, allowance, meter and reporter
are the customer's own, and only the network between is made up.
"""

import random
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.books import AckedFigures, Times
from licensing.chain import genesis
from licensing.envelope import decode_closed, decode_envelope
from licensing.errors import LicenseError
from licensing.lease import Allowance
from licensing.ledger import Ledger, LedgerThread
from licensing.meter import Delivered, Meter
from licensing.model.activation import Activation, ActivationRequest
from licensing.model.bodies import Presented
from licensing.model.fields import ACTIVATION_REQUEST
from licensing.model.license import License
from licensing.model.usage import UsageAck
from licensing.nodekey import NodeKey
from licensing.reporter import Circumstances, Reporter
from licensing.wire import Answer, Unreachable
from tests.support.licence_office import Office, a_volume
from tests.support.vendor import Vendor

QUOTA = 4_000
VENDOR = Vendor()


class Network:
    """To an office that is always there, over a line that loses either way and repeats what passed."""

    endpoint = "https://license.vendor.example"

    def __init__(self, office: Office, node_id: str, chance: random.Random) -> None:
        self._office, self._node_id, self._chance = office, node_id, chance
        self._passed: list[bytes] = []
        self.is_calm = False

    async def send(self, path: str, body: bytes, now: float, *, method: str = "POST") -> Answer:
        """As `Wire.send`."""
        luck = 1.0 if self.is_calm else self._chance.random()
        if luck < 0.1:
            raise Unreachable("lost on its way there")
        if luck < 0.2 and self._passed:
            self._arrives(self._chance.choice(self._passed))  # a proxy sends an old one again
        answer = self._arrives(body)
        self._passed = [*self._passed[-5:], body]
        if luck < 0.35:
            raise Unreachable("lost on its way back")
        return answer

    def _arrives(self, body: bytes) -> Answer:
        try:
            report, shown = decode_envelope(body), None
        except LicenseError:
            both = decode_closed(body, Presented)
            report = both.report
            shown = decode_closed(both.last_ack.payload_bytes(), UsageAck)
        said = self._office.report(report, self._node_id, shown)
        return Answer(said.status, said.body, said.retry_after_s)


class Node:
    """One customer's server. Its journal survives everything; memory does not survive `crash`."""

    def __init__(self, folder: Path, office: Office, license: License, seed: int) -> None:
        self.key = NodeKey(Ed25519PrivateKey.generate())
        self.license, self.office = license, office
        self.chance = random.Random(seed)
        self.path = folder / f"{self.key.id}.db"
        self.network = Network(office, self.key.id, self.chance)
        self.journal = 0  # Emails that remote hosts have accepted
        self.thread = LedgerThread()

    def close(self) -> None:
        self.thread.close()
        self.ledger.close()

    async def begin(self) -> None:
        """Activate, and start for the first time."""
        request = ActivationRequest(
            license_sha256=self.office.sha256(self.license.license_id),
            license_id=self.license.license_id,
            revision=self.license.revision,
            node_pub=self.key.public,
            fp={},
            server_class="vm",
            version="1",
            nonce="n" * 16,
            wall=self.office.now,
        )
        answer = self.office.activate(
            self.key.sign(ACTIVATION_REQUEST, msgspec.json.encode(request))
        )
        found = decode_closed(decode_envelope(answer.body).payload_bytes(), Activation)
        await self.start()
        books = self.books
        books.license_id, books.activation_id = found.license_id, found.activation_id
        books.epoch, books.token = found.epoch, found.token
        books.acked, books.contact_at = AckedFigures(epoch=found.epoch), float(self.office.now)
        await self.store(books.copy())

    async def start(self) -> None:
        self.ledger = await self.thread.run(
            Ledger, self.path, genesis_hash=genesis("", self.key.public, "start")
        )
        self.books = await self.thread.run(self.ledger.books)
        assert self.license.limits.volume is not None
        self.allowance = Allowance(self.books, self.license.limits.volume, 14 * 86_400.0)
        self.meter = Meter(
            self.books,
            self.store,
            now=lambda: float(self.office.now),
            counted=lambda emails: self.allowance.count(emails, float(self.office.now)),
            flush_every=0,
        )
        self.reporter = Reporter(
            self.books,
            self.ledger,
            self.thread,
            wire=self.network,  # type: ignore[arg-type] # the part of Wire that a reporter uses
            key=self.key,
            opener=lambda: VENDOR.trust,
            allowance=self.allowance,
            signed_time=lambda at, asked_at: float(at),
            chance=self.chance,
            told=lambda code, text: None,
        )
        await self.reporter.load()
        # As after any crash: nothing is given out before the journal was read.
        self.allowance.block(True, float(self.office.now))
        await self.follow()
        self.allowance.block(False, float(self.office.now))

    async def store(self, books: object) -> None:
        await self.thread.run(self.ledger.save, books)  # type: ignore[arg-type]

    async def crash(self) -> None:
        """Memory is gone: what was taken, what was folded and not written."""
        await self.thread.run(self.ledger.close)
        await self.start()

    def send(self, wanted: int) -> int:
        """Mail goes out; now and then a host refuses, and the Emails are returned."""
        self.allowance.advance(float(self.office.now))
        granted = self.allowance.take(wanted)
        refused = self.chance.randint(0, granted) if self.chance.random() < 0.2 else 0
        self.allowance.refund(refused)
        self.journal += granted - refused
        return granted - refused

    async def follow(self) -> None:
        since = self.books.cursors.get("spool", 0)
        await self.meter.delivered([Delivered("spool", since, self.journal, self.journal - since)])

    async def talk(self, *, now_please: bool = False) -> None:
        now = float(self.office.now)
        here = Circumstances(
            self.license, 1, "0/0", "0" * 32, Times(now, now, now), flags=(), version="1"
        )
        await self.reporter.turn(here, now_please=now_please)


async def _simulate(folder: Path, steps: int, seed: int) -> None:
    chance = random.Random(seed)
    license = a_volume(VENDOR, QUOTA, period="term")
    office = Office(license, vendor=VENDOR)
    nodes = [Node(folder, office, license, seed * 10 + n) for n in range(3)]
    for node in nodes:
        await node.begin()
    for _ in range(steps):
        node = chance.choice(nodes)
        step = chance.random()
        if step < 0.4:
            node.send(chance.randint(1, 60))
        elif step < 0.6:
            await node.follow()
        elif step < 0.9:
            await node.talk(now_please=chance.random() < 0.3)
        else:
            await node.crash()
        office.now += chance.randint(0, 30)
        assert sum(each.journal for each in nodes) <= QUOTA
    for node in nodes:
        node.network.is_calm = True
        await node.follow()
        for _ in range(3):
            await node.talk(now_please=True)
    sent = sum(each.journal for each in nodes)
    assert office.total(license.license_id) == sent <= QUOTA
    assert sent > QUOTA // 2, "a law that is kept by sending nothing is none"
    for node in nodes:
        assert await node.thread.run(node.ledger.verify) is None
        node.close()


@pytest.mark.parametrize("seed", range(3))
async def test_real_nodes_never_send_more_than_the_pool_holds_and_all_is_billed(
    tmp_path: Path, seed: int
) -> None:
    await _simulate(tmp_path, 600, seed)


@pytest.mark.soak
async def test_real_nodes_keep_the_law_over_a_long_time(tmp_path: Path) -> None:
    for seed in range(100, 150):
        (tmp_path / str(seed)).mkdir()
        await _simulate(tmp_path / str(seed), 2_000, seed)
