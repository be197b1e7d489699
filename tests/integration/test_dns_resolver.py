"""The resolver against real DNS messages over real sockets (mta.lab.nameserver)."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from mta.dns import health, resolver
from mta.dns.answers import (
    Addresses,
    Found,
    MxHost,
    NoAddress,
    NoMx,
    NoSuchDomain,
    NullMx,
    Temporary,
    Texts,
)
from mta.dns.resolver import Resolver
from mta.lab.nameserver import HUGE_MX, DnsTemper, LabDns
from tests.support.fake_spool import FakeClock

TIMEOUT_S = 0.6


@pytest_asyncio.fixture
async def zone() -> AsyncIterator[LabDns]:
    server = LabDns()
    server.add("a.example", "MX", "20 mx2.a.example.", "10 MX1.a.example.", ttl=100)
    server.add("mx1.a.example", "A", "192.0.2.1", "192.0.2.2")
    server.add("mx1.a.example", "AAAA", "2001:db8::1")
    server.add("mx2.a.example", "A", "192.0.2.3")
    server.add("null.example", "MX", "0 .")
    server.add("bare.example", "A", "192.0.2.9")
    server.add("alias.example", "CNAME", "a.example.")
    server.add("loop1.example", "CNAME", "loop2.example.")
    server.add("loop2.example", "CNAME", "loop1.example.")
    server.add_text("s1._domainkey.a.example", "v=DKIM1; k=rsa; p=" + "A" * 400)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def names(zone: LabDns, clock: FakeClock) -> AsyncIterator[Resolver]:
    found = Resolver([zone.address], TIMEOUT_S, clock)
    yield found
    await found.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_mx_hosts_come_best_first(names: Resolver) -> None:
    hosts = (MxHost(10, "mx1.a.example"), MxHost(20, "mx2.a.example"))
    assert await names.mx("a.example") == Found(hosts, 100.0)


async def test_case_and_final_dot_do_not_matter(names: Resolver, zone: LabDns) -> None:
    assert await names.mx("A.Example.") == await names.mx("a.example")
    assert zone.asked.total() == 1


async def test_both_families_are_looked_up_or_the_one_that_is_wanted(names: Resolver) -> None:
    both = await names.addresses("mx1.a.example")
    assert isinstance(both, Addresses)
    assert sorted(both.v4) == ["192.0.2.1", "192.0.2.2"]  # a DNS server may turn them round
    assert both.v6 == ("2001:db8::1",)
    assert await names.addresses("mx1.a.example", v6=False) == Addresses(both.v4, ())
    assert await names.addresses("mx1.a.example", v4=False) == Addresses((), both.v6)
    assert await names.addresses("mx2.a.example", v4=False) == NoAddress()


async def test_what_there_is_not_is_told_apart(names: Resolver) -> None:
    assert await names.mx("null.example") == NullMx()
    assert await names.mx("bare.example") == NoMx()
    assert await names.mx("missing.example") == NoSuchDomain()
    assert await names.addresses("missing.example") == NoSuchDomain()
    assert await names.addresses("a.example") == NoAddress()


async def test_a_long_text_record_comes_back_in_one_piece(names: Resolver) -> None:
    expected = b"v=DKIM1; k=rsa; p=" + b"A" * 400
    assert await names.txt("s1._domainkey.a.example") == Texts((expected,))


async def test_an_alias_is_followed(names: Resolver) -> None:
    answer = await names.mx("alias.example")
    assert isinstance(answer, Found)
    assert answer.hosts[0].host == "mx1.a.example"


async def test_an_alias_whose_target_another_answer_holds_is_followed_by_asking_again(
    names: Resolver, zone: LabDns
) -> None:
    for n in range(4):
        zone.add(f"c{n}.example", "CNAME", f"c{n + 1}.example.")
        zone.spoil(f"c{n}.example", DnsTemper.CNAME_ONLY)
    zone.add("c4.example", "MX", "10 mx1.a.example.")
    assert isinstance(await names.mx("c0.example"), Found)
    assert zone.asked["c4.example", "MX"] == 1


async def test_an_endless_chain_of_aliases_is_temporary_and_bounded(
    names: Resolver, zone: LabDns
) -> None:
    for n in range(40):
        zone.add(f"e{n}.example", "CNAME", f"e{n + 1}.example.")
        zone.spoil(f"e{n}.example", DnsTemper.CNAME_ONLY)
    assert isinstance(await names.mx("e0.example"), Temporary)
    assert zone.asked.total() == resolver.MAX_CHAIN
    assert isinstance(await names.mx("loop1.example"), Temporary)


async def test_an_answer_is_kept_for_its_time_to_live(
    names: Resolver, zone: LabDns, clock: FakeClock
) -> None:
    for _ in range(3):
        await names.mx("a.example")
    assert zone.asked["a.example", "MX"] == 1
    clock.advance(101)
    await names.mx("a.example")
    assert zone.asked["a.example", "MX"] == 2


async def test_absence_is_kept_as_long_as_the_soa_says(
    names: Resolver, zone: LabDns, clock: FakeClock
) -> None:
    await names.mx("missing.example")
    clock.advance(59)
    await names.mx("missing.example")
    assert zone.asked.total() == 1
    zone.add("missing.example", "MX", "10 mx1.a.example.")
    clock.advance(2)
    assert isinstance(await names.mx("missing.example"), Found)


async def test_one_question_is_on_the_wire_however_many_ask(names: Resolver, zone: LabDns) -> None:
    answers = await asyncio.gather(*(names.mx("a.example") for _ in range(100)))
    assert len(set(answers)) == 1
    assert zone.asked.total() == 1


async def test_who_is_cancelled_leaves_the_others_their_answer(
    names: Resolver, zone: LabDns
) -> None:
    zone.temper, zone.delay_s = DnsTemper.SLOW, 0.1
    first = asyncio.create_task(names.mx("a.example"))
    second = asyncio.create_task(names.mx("a.example"))
    await until(lambda: zone.asked.total() == 1)
    first.cancel()
    assert isinstance(await second, Found)


@pytest.mark.parametrize(
    "temper", [DnsTemper.SERVFAIL, DnsTemper.REFUSED, DnsTemper.LAME, DnsTemper.GARBAGE]
)
async def test_a_server_that_answers_nonsense_is_a_temporary_failure(
    names: Resolver, zone: LabDns, temper: DnsTemper
) -> None:
    zone.temper = temper
    answer = await names.mx("a.example")
    assert isinstance(answer, Temporary)
    assert not answer.servers_down


async def test_a_temporary_failure_is_asked_again_after_seconds(
    names: Resolver, zone: LabDns, clock: FakeClock
) -> None:
    zone.temper = DnsTemper.SERVFAIL
    await names.mx("a.example")
    zone.temper = DnsTemper.GOOD
    assert isinstance(await names.mx("a.example"), Temporary)
    clock.advance(resolver.TEMPORARY_TTL_S + 0.1)
    assert isinstance(await names.mx("a.example"), Found)


async def test_an_answer_that_is_too_large_comes_over_tcp(names: Resolver, zone: LabDns) -> None:
    zone.temper = DnsTemper.HUGE_MX
    answer = await names.mx("a.example")
    assert isinstance(answer, Found)
    assert len(answer.hosts) == HUGE_MX
    assert zone.asked_over_tcp == 1


async def test_a_truncated_answer_is_asked_for_over_tcp(names: Resolver, zone: LabDns) -> None:
    zone.temper = DnsTemper.TRUNCATED
    assert isinstance(await names.mx("a.example"), Found)
    assert zone.asked_over_tcp == 1


async def test_a_server_without_edns_is_asked_without(names: Resolver, zone: LabDns) -> None:
    zone.temper = DnsTemper.NO_EDNS
    assert isinstance(await names.mx("a.example"), Found)


async def test_forged_answers_before_the_real_one_are_passed_over(
    names: Resolver, zone: LabDns
) -> None:
    zone.temper = DnsTemper.FORGED_FIRST
    assert isinstance(await names.mx("a.example"), Found)


async def test_a_name_that_cannot_be_in_the_dns_is_not_asked(names: Resolver, zone: LabDns) -> None:
    for name in ("a..b", "x" * 64 + ".example", "a b.example", ""):
        assert await names.mx(name) == NoSuchDomain()
    assert zone.asked.total() == 0


async def test_a_lost_question_is_sent_again(names: Resolver, zone: LabDns) -> None:
    zone.temper = DnsTemper.SILENT
    asked = asyncio.create_task(names.mx("a.example"))
    await until(lambda: zone.asked["a.example", "MX"] == 1)
    zone.temper = DnsTemper.GOOD
    assert isinstance(await asked, Found)


async def test_the_next_server_answers_when_the_first_does_not(
    zone: LabDns, clock: FakeClock
) -> None:
    for temper in (DnsTemper.SILENT, DnsTemper.SERVFAIL, DnsTemper.REFUSED, None):
        bad = LabDns()
        await bad.start()
        if temper is None:
            await bad.stop()  # nobody listens any more: ICMP says so
        else:
            bad.temper = temper
        names = Resolver([bad.address, zone.address], TIMEOUT_S, clock)
        assert isinstance(await names.mx("a.example"), Found), temper
        await names.close()
        await bad.stop()


async def test_a_server_that_stays_silent_is_asked_last(zone: LabDns, clock: FakeClock) -> None:
    silent = LabDns()
    await silent.start()
    silent.temper = DnsTemper.SILENT
    names = Resolver([silent.address, zone.address], TIMEOUT_S, clock)
    for n in range(5):
        await names.mx(f"n{n}.example")
    assert silent.asked.total() - silent.asked["", "NS"] == 3
    await names.close()
    await silent.stop()


async def test_when_no_server_answers_questions_fail_at_once_and_flow_resumes_when_one_is_back(
    zone: LabDns, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_WAIT_S", 0.1)
    monkeypatch.setattr(health, "PROBE_EVERY_S", 0.1)
    changes: list[bool] = []
    names = Resolver([zone.address], 5.0, clock, on_health=changes.append)
    zone.temper = DnsTemper.SILENT
    waiting = [asyncio.create_task(names.mx(f"w{n}.example")) for n in range(1000)]
    # The first share of five seconds passes without an answer, a probe too: then all fail together.
    assert all(answer == resolver.SERVERS_DOWN for answer in await asyncio.gather(*waiting))
    assert names.down
    asked = zone.asked.total() - zone.asked["", "NS"]
    for n in range(20_000):
        assert await names.mx(f"d{n}.example") == resolver.SERVERS_DOWN
    assert zone.asked.total() - zone.asked["", "NS"] == asked
    assert names.cached == 0
    zone.temper = DnsTemper.GOOD
    await until(lambda: not names.down)
    assert isinstance(await names.mx("a.example"), Found)
    assert changes == [True, False]
    await names.close()


async def test_a_refused_connection_is_noticed_without_waiting(clock: FakeClock) -> None:
    gone = LabDns()
    await gone.start()
    await gone.stop()
    names = Resolver([gone.address], 5.0, clock)
    started = asyncio.get_running_loop().time()
    assert isinstance(await names.mx("a.example"), Temporary)
    await until(lambda: names.down)
    assert asyncio.get_running_loop().time() - started < 1.0
    await names.close()


async def test_one_silent_domain_does_not_stop_the_others(names: Resolver, zone: LabDns) -> None:
    zone.spoil("lame.example", DnsTemper.SILENT)
    assert isinstance(await names.mx("lame.example"), Temporary)
    assert not names.down
    assert isinstance(await names.mx("a.example"), Found)


async def test_questions_on_the_wire_and_waiting_are_bounded(
    zone: LabDns, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "MAX_WAITING", 600)
    zone.temper, zone.delay_s = DnsTemper.SLOW, 1.0
    names = Resolver([zone.address], 20.0, clock)
    asked = [asyncio.create_task(names.mx(f"w{n}.example")) for n in range(700)]
    await until(lambda: zone.asked.total() >= resolver.MAX_ON_THE_WIRE)
    assert zone.asked.total() == resolver.MAX_ON_THE_WIRE
    zone.temper = DnsTemper.GOOD
    answers = await asyncio.gather(*asked)
    assert answers.count(resolver.TOO_MANY) == 100
    assert answers.count(NoSuchDomain()) == 600
    await names.close()


async def test_closing_answers_those_who_wait(names: Resolver, zone: LabDns) -> None:
    zone.temper = DnsTemper.SILENT
    waiting = [asyncio.create_task(names.mx(f"w{n}.example")) for n in range(600)]
    await until(lambda: zone.asked.total() >= 1)
    await names.close()
    assert set(await asyncio.gather(*waiting)) == {resolver.CLOSED}
    assert await names.mx("a.example") == resolver.CLOSED
