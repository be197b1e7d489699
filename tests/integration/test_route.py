"""Routes found over real DNS messages: what is taken, in which order, and what is refused."""

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from mta.dns.resolver import Resolver
from mta.egress.route import MAX_ADDRESSES, MAX_MX, find_route, refusal
from mta.lab.nameserver import DnsTemper, LabDns
from mta.model.envelope import QueueKey
from mta.model.outcome import Deferred, Extent, Failed
from mta.policy.rules import QueuePolicy, VmtaRules
from mta.queue.actions import Candidate, Route
from tests.support.fake_spool import FakeClock


class Sites:
    """A book that knows one site: whoever's best MX are all below google.example."""

    def site_for(self, domain: str, mx_hosts: Sequence[str]) -> str:
        if mx_hosts and all(host.endswith(".google.example") for host in mx_hosts):
            return "google"
        return domain


@pytest_asyncio.fixture
async def zone() -> AsyncIterator[LabDns]:
    server = LabDns()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def names(zone: LabDns) -> AsyncIterator[Resolver]:
    found = Resolver([zone.address], 0.3, FakeClock())
    yield found
    await found.close()


async def a_route(
    names: Resolver,
    domain: str = "d.example",
    *,
    policy: QueuePolicy | None = None,
    vmta: VmtaRules | None = None,
    seed: int = 1,
    **options: Any,
) -> Route | Deferred | Failed:
    return await find_route(
        QueueKey(domain, "a"),
        policy or QueuePolicy(),
        vmta,
        names,
        Sites(),
        rng=random.Random(seed),
        **options,
    )


async def candidates(names: Resolver, domain: str = "d.example", **options: Any) -> list[Candidate]:
    route = await a_route(names, domain, **options)
    assert isinstance(route, Route), route
    return list(route.candidates)


async def addresses(names: Resolver, domain: str = "d.example", **options: Any) -> list[str]:
    return [candidate.address for candidate in await candidates(names, domain, **options)]


def status(outcome: Route | Deferred | Failed) -> str:
    assert not isinstance(outcome, Route), outcome
    assert outcome.local
    assert outcome.extent is Extent.SITE
    return outcome.reply.enhanced


async def test_candidates_come_in_the_order_of_preference_with_host_and_port(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "20 b.example.", "10 a.example.")
    zone.add("a.example", "A", "9.9.9.1")
    zone.add("b.example", "A", "9.9.9.2")
    assert await a_route(names) == Route(
        "d.example",
        (Candidate("a.example", "9.9.9.1", 25, 10), Candidate("b.example", "9.9.9.2", 25, 20)),
    )
    assert [c.port for c in await candidates(names, policy=QueuePolicy(port=2525))] == [2525, 2525]


async def test_equal_preferences_are_shuffled_by_the_generator_that_is_passed_in(
    names: Resolver, zone: LabDns
) -> None:
    for n in range(3):
        zone.add("d.example", "MX", f"10 m{n}.example.")
        zone.add(f"m{n}.example", "A", f"9.9.9.{n}")
    orders = [tuple(await addresses(names, seed=seed)) for seed in range(60)]
    assert len(set(orders)) == 6
    assert orders[7] == tuple(await addresses(names, seed=7))


async def test_equal_hosts_take_turns_so_that_none_uses_up_the_attempt(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.", "10 b.example.")
    zone.add("a.example", "A", *(f"9.9.1.{n}" for n in range(1, 9)))
    zone.add("b.example", "A", "9.9.2.1")
    found = await addresses(names)
    assert len(found) == MAX_ADDRESSES
    assert "9.9.2.1" in found[:2]


async def test_no_more_hosts_and_addresses_are_used_than_the_caps_allow(
    names: Resolver, zone: LabDns
) -> None:
    zone.temper = DnsTemper.HUGE_MX
    assert status(await a_route(names)) == "4.4.4"
    looked_up = {name for name, kind in zone.asked if kind == "A"}
    assert len(looked_up) == MAX_MX


async def test_hosts_behind_enough_addresses_are_not_looked_up(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.", "20 b.example.")
    zone.add("a.example", "A", *(f"9.9.1.{n}" for n in range(1, 9)))
    assert len(await addresses(names)) == MAX_ADDRESSES
    assert zone.asked["b.example", "A"] == 0


async def test_without_mx_the_addresses_of_the_domain_are_used(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "A", "9.9.9.1")
    assert await candidates(names) == [Candidate("d.example", "9.9.9.1", 25, 0)]


async def test_an_alias_is_followed(names: Resolver, zone: LabDns) -> None:
    zone.add("d.example", "CNAME", "e.example.")
    zone.add("e.example", "MX", "10 a.example.")
    zone.add("a.example", "A", "9.9.9.1")
    assert await addresses(names) == ["9.9.9.1"]


async def test_only_nxdomain_and_null_mx_are_permanent(names: Resolver, zone: LabDns) -> None:
    zone.add("null.example", "MX", "0 .")
    zone.add("text.example", "TXT", '"no mail host"')
    zone.add("dangling.example", "MX", "10 gone.example.")
    for domain, kind, enhanced in (
        ("gone.example", Failed, "5.1.2"),
        ("null.example", Failed, "5.1.10"),
        ("text.example", Deferred, "4.4.4"),
        ("dangling.example", Deferred, "4.4.4"),
    ):
        outcome = await a_route(names, domain)
        assert isinstance(outcome, kind), domain
        assert status(outcome) == enhanced


@pytest.mark.parametrize(
    "temper", [DnsTemper.SERVFAIL, DnsTemper.REFUSED, DnsTemper.LAME, DnsTemper.SILENT]
)
async def test_dns_that_does_not_answer_defers(
    names: Resolver, zone: LabDns, temper: DnsTemper
) -> None:
    zone.temper = temper
    outcome = await a_route(names)
    assert isinstance(outcome, Deferred)
    assert status(outcome) == "4.4.3"


async def test_a_host_that_cannot_be_looked_up_leaves_the_others(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.", "20 b.example.")
    zone.spoil("a.example", DnsTemper.SERVFAIL)
    zone.add("b.example", "A", "9.9.9.2")
    assert await addresses(names) == ["9.9.9.2"]
    zone.spoil("b2.example", DnsTemper.SERVFAIL)
    zone.add("e.example", "MX", "10 a.example.", "20 b2.example.")
    assert status(await a_route(names, "e.example")) == "4.4.3"


FORBIDDEN = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.2.1",
    "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:9.9.9.9",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1", "2002:a00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_an_mx_at_an_address_that_is_no_public_host_is_refused(
    names: Resolver, zone: LabDns, address: str
) -> None:
    zone.add("d.example", "MX", "10 evil.example.")
    zone.add("evil.example", "AAAA" if ":" in address else "A", address)
    outcome = await a_route(names)
    assert isinstance(outcome, Deferred)
    assert status(outcome) == "4.4.4"
    assert address in outcome.reply.text or ":" in address


@pytest.mark.parametrize(
    "address", ["9.9.9.9", "2600::1", "64:ff9b::909:909", "2002:909:909::1", "192.88.99.2"]
)
def test_public_addresses_are_taken(address: str) -> None:
    assert refusal(address, lab=False) == ""


async def test_a_refused_address_leaves_the_others_of_its_host(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.")
    zone.add("a.example", "A", "127.0.0.1", "9.9.9.1")
    assert await addresses(names) == ["9.9.9.1"]


async def test_in_lab_mode_only_loopback_is_taken_wherever_it_came_from(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.")
    zone.add("a.example", "A", "127.0.0.9", "9.9.9.1", "10.0.0.1")
    assert await addresses(names, lab=True) == ["127.0.0.9"]
    away = QueuePolicy(hosts=("9.9.9.1", "10.0.0.1", "[::ffff:127.0.0.1]:25"))
    assert status(await a_route(names, policy=away, lab=True)) == "4.4.4"
    here = QueuePolicy(hosts=("127.0.0.1:2600", "[::1]:2600"))
    assert await addresses(names, policy=here, lab=True) == ["127.0.0.1", "::1"]


async def test_the_operators_hosts_stand_in_for_mx_in_the_order_given(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("relay.example", "A", "10.0.0.7")
    policy = QueuePolicy(
        hosts=("127.0.0.1:2600", "[::1]:2601", "10.0.0.1", "relay.example", "relay.example:587"),
        port=26,
    )
    found = await candidates(names, "unknown.example", policy=policy)
    assert [(c.host, c.address, c.port) for c in found] == [
        ("127.0.0.1", "127.0.0.1", 2600),
        ("::1", "::1", 2601),
        ("10.0.0.1", "10.0.0.1", 26),
        ("relay.example", "10.0.0.7", 26),
        ("relay.example", "10.0.0.7", 587),
    ]
    assert zone.asked["unknown.example", "MX"] == 0


async def test_the_operators_host_that_does_not_exist_defers(names: Resolver) -> None:
    policy = QueuePolicy(hosts=("gone.example",))
    assert status(await a_route(names, policy=policy)) == "4.4.4"


@pytest.mark.parametrize(
    "own", [{"own_names": {"mta.example"}}, {"own_addresses": {"9.9.9.3"}}], ids=["name", "address"]
)
async def test_our_own_mx_and_all_it_is_preferred_to_are_left_out(
    names: Resolver, zone: LabDns, own: dict[str, set[str]]
) -> None:
    zone.add(
        "d.example", "MX", "10 a.example.", "20 MTA.example.", "20 c.example.", "30 b.example."
    )
    zone.add("a.example", "A", "9.9.9.1")
    zone.add("b.example", "A", "9.9.9.2")
    zone.add("c.example", "A", "9.9.9.4")
    zone.add("mta.example", "A", "9.9.9.3")
    assert await addresses(names, **own) == ["9.9.9.1"]


async def test_a_domain_whose_best_mx_we_are_is_a_loop(names: Resolver, zone: LabDns) -> None:
    zone.add("d.example", "MX", "10 mta.example.", "20 b.example.")
    zone.add("b.example", "A", "9.9.9.2")
    zone.add("mta.example", "A", "9.9.9.3")
    for own in ({"own_names": {"mta.example"}}, {"own_addresses": {"9.9.9.3"}}):
        outcome = await a_route(names, **own)
        assert isinstance(outcome, Deferred)
        assert status(outcome) == "4.4.6"


async def test_families_follow_the_source_addresses_of_the_virtual_mta(
    names: Resolver, zone: LabDns
) -> None:
    zone.add("d.example", "MX", "10 a.example.")
    zone.add("a.example", "A", "9.9.9.1", "9.9.9.2")
    zone.add("a.example", "AAAA", "2600::1", "2600::2")
    v4, v6 = ("192.0.2.10",), ("2001:db8::10",)

    async def families(**sources: tuple[str, ...]) -> str:
        found = await addresses(names, vmta=VmtaRules("a", **sources))
        return "".join("6" if ":" in address else "4" for address in found)

    assert await families(source_v4=v4) == "44"
    assert await families(source_v6=v6) == "66"
    assert await families(source_v4=v4, source_v6=v6) == "6464"
    assert await families() == "4646"


async def test_the_site_is_found_by_the_most_preferred_hosts(names: Resolver, zone: LabDns) -> None:
    zone.add("d.example", "MX", "10 mx.google.example.", "20 backup.example.")
    zone.add("mx.google.example", "A", "9.9.9.1")
    zone.add("backup.example", "A", "9.9.9.2")
    route = await a_route(names)
    assert isinstance(route, Route)
    assert route.site == "google"


async def test_an_address_literal_is_its_own_destination(names: Resolver, zone: LabDns) -> None:
    assert await addresses(names, "[9.9.9.9]") == ["9.9.9.9"]
    assert await addresses(names, "[IPv6:2600::1]") == ["2600::1"]
    assert status(await a_route(names, "[127.0.0.1]")) == "4.4.4"
    assert status(await a_route(names, "[9.9.9.9]", own_addresses={"9.9.9.9"})) == "4.4.6"
    assert status(await a_route(names, "[x400:what]")) == "4.4.4"
    assert zone.asked.total() == 0
