"""The simulated internet keeps its promises: each temper as scripted, each domain's fate as announced."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aiosmtplib
import pytest
import pytest_asyncio
import uvloop

from mta.dns.answers import Addresses, Found, NoSuchDomain, NullMx, Temporary, Texts
from mta.dns.resolver import Resolver
from mta.io.clock import Clock
from mta.lab.certificate import make_server_context
from mta.lab.internet import ROOT, Fate, Internet
from mta.lab.mailbox import Mailbox, Taken, find_faults
from mta.lab.ports import bind_hosts
from mta.lab.receiver import Receiver
from mta.lab.tempers import Moment, Temper

MESSAGE = b"Subject: one\r\n\r\nline\r\n..dot\r\n"
ENVELOPE = ("a@sender.example", ["b@d.example"])


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def a_receiver(temper: Temper) -> AsyncIterator[Receiver]:
    _, (sock,) = bind_hosts(1, first=200)
    receiver = Receiver("mx.lab.example", temper, sock, Mailbox())
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


@asynccontextmanager
async def a_client(host: str, port: int, **options: bool) -> AsyncIterator[aiosmtplib.SMTP]:
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        tls_context=trusting(),
        local_hostname="client.example",
        timeout=10,
        **options,
    )
    async with client:
        yield client


@pytest_asyncio.fixture
async def internet() -> AsyncIterator[Internet]:
    lab = Internet()
    await lab.start()
    yield lab
    await lab.stop()


async def talk(receiver: Receiver, *lines: bytes, replies: int) -> list[bytes]:
    """Send everything at once, read so many reply lines."""
    reader, writer = await asyncio.open_connection(receiver.address, receiver.port)
    writer.write(b"".join(lines))
    async with asyncio.timeout(10):
        found = [await reader.readline() for _ in range(replies)]
    writer.close()
    await writer.wait_closed()
    return found


async def test_a_polite_dialogue_in_one_segment_is_understood_and_the_message_kept() -> None:
    async with a_receiver(Temper()) as receiver:
        replies = await talk(
            receiver,
            b"HELO c\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n",
            b"Subject: x\r\n\r\n..stuffed\r\n.\r\nMAIL FROM:<>\r\nQUIT\r\n",
            replies=8,
        )
        assert [reply[:3] for reply in replies] == [
            b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"221"
        ]  # fmt: skip
        (taken,) = receiver.mailbox.of("b@d.example")
        assert taken.data == b"Subject: x\r\n\r\n.stuffed\r\n"
        assert (taken.sender, taken.recipients, taken.tls) == (
            "a@s.example",
            ("b@d.example",),
            False,
        )
        assert taken.faults == ()


async def test_only_crlf_dot_crlf_ends_a_message_and_bare_newlines_are_noted() -> None:
    async with a_receiver(Temper()) as receiver:
        await talk(
            receiver,
            b"HELO c\r\nMAIL FROM:<a@s.example>\r\nRCPT TO:<b@d.example>\r\nDATA\r\n",
            b"one\n.\r\ntwo\n.\nthree\r\n.\r\nQUIT\r\n",
            replies=7,
        )
        (taken,) = receiver.mailbox.of("b@d.example")
        assert taken.data == b"one\n.\r\ntwo\n.\nthree\r\n"
        assert taken.faults == ("bare LF",)


def test_faults_are_found_by_kind() -> None:
    assert find_faults(b"a\rb\nc\0\r\n") == ("bare CR", "bare LF", "NUL")


async def test_a_greylisting_server_takes_the_second_try_only_after_its_time() -> None:
    async with a_receiver(Temper(greylist_s=0.2)) as receiver:
        async with a_client(receiver.address, receiver.port) as client:
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await client.sendmail(*ENVELOPE, MESSAGE)
            with pytest.raises(aiosmtplib.SMTPRecipientsRefused):
                await client.sendmail(*ENVELOPE, MESSAGE)
            await asyncio.sleep(0.25)
            await client.sendmail(*ENVELOPE, MESSAGE)
        assert receiver.mailbox.messages == 1


async def test_421_comes_after_so_many_messages_on_a_connection() -> None:
    async with a_receiver(Temper(messages_per_connection=2)) as receiver:
        for _ in range(2):
            async with a_client(receiver.address, receiver.port) as client:
                await client.sendmail(*ENVELOPE, MESSAGE)
                await client.sendmail(*ENVELOPE, MESSAGE)
                with pytest.raises(aiosmtplib.SMTPException):
                    await client.sendmail(*ENVELOPE, MESSAGE)
        assert receiver.mailbox.messages == 4


async def test_unknown_users_are_refused_one_by_one() -> None:
    async with a_receiver(
        Temper(refuse_recipients={"nobody": "550 5.1.1 user unknown"})
    ) as receiver:
        async with a_client(receiver.address, receiver.port) as client:
            errors, _ = await client.sendmail(
                "a@s.example", ["nobody1@d.example", "b@d.example"], MESSAGE
            )
        assert errors["nobody1@d.example"].code == 550
        assert receiver.mailbox.recipients == 1


@pytest.mark.parametrize("moment", [m for m in Moment if m not in (Moment.STARTTLS, Moment.RSET)])
@pytest.mark.parametrize("how", ["stall", "drop"])
async def test_a_server_can_stall_or_hang_up_at_every_step(how: str, moment: Moment) -> None:
    steps = {
        Moment.EHLO: b"EHLO c\r\n",
        Moment.MAIL: b"MAIL FROM:<a@s.example>\r\n",
        Moment.RCPT: b"RCPT TO:<b@d.example>\r\n",
        Moment.DATA: b"DATA\r\n",
        Moment.DOT: b"x\r\n.\r\n",
        Moment.QUIT: b"QUIT\r\n",
    }
    temper = Temper(stall=moment) if how == "stall" else Temper(drop=moment)
    async with a_receiver(temper) as receiver:
        reader, writer = await asyncio.open_connection(receiver.address, receiver.port)
        writer.write(b"".join(steps.values()))
        try:
            async with asyncio.timeout(0.3 if how == "stall" else 5):
                while await reader.read(4096):
                    pass
            ended = True
        except TimeoutError:
            ended = False
        except ConnectionError:
            ended = True
        assert ended is (how == "drop")
        assert receiver.counts[moment] == 1
        after = list(Moment)[list(Moment).index(moment) + 1 :]
        assert not any(receiver.counts[later] for later in after)
        # A lost answer to the dot does not undo that the message was taken.
        assert receiver.mailbox.messages == (moment in (Moment.DOT, Moment.QUIT))
        writer.close()


async def test_garbage_drips_and_endless_replies_come_as_scripted() -> None:
    async with a_receiver(Temper(garbage=Moment.GREETING)) as receiver:
        assert await talk(receiver, replies=1) == [b"\xff\xfe\x00 what?\r\n"]
    async with a_receiver(Temper(drip_s=0.001)) as receiver:
        assert await talk(receiver, replies=1) == [b"220 mx.lab.example ESMTP lab\r\n"]
    async with a_receiver(Temper(endless=Moment.EHLO)) as receiver:
        replies = await talk(receiver, b"EHLO c\r\n", replies=2000)
        assert set(replies[1:]) == {b"250-and there is more to say\r\n"}


async def test_a_long_line_a_reset_and_a_deaf_server_come_as_scripted() -> None:
    async with a_receiver(Temper(long_line=Moment.GREETING)) as receiver:
        reader, writer = await asyncio.open_connection(
            receiver.address, receiver.port, limit=2_000_000
        )
        assert len(await reader.readline()) > 1_000_000
        writer.close()
    async with a_receiver(Temper(reset_after=20)) as receiver:
        reader, writer = await asyncio.open_connection(receiver.address, receiver.port)
        await reader.readline()
        writer.write(b"EHLO c\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
        writer.write(b"MAIL FROM:<a@s.example>\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()
    async with a_receiver(Temper(deaf=Moment.EHLO)) as receiver:
        reader, writer = await asyncio.open_connection(receiver.address, receiver.port)
        writer.write(b"EHLO c\r\nNOOP\r\n")
        for _ in range(6):  # the greeting and the answer to EHLO
            await reader.readline()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.readline()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while receiver.open_now:  # it learns of the end although it reads nothing
                await asyncio.sleep(0.05)


async def test_recipients_are_refused_by_their_names_and_beyond_a_number() -> None:
    refused = {"later": "450 4.2.1 busy", "never": "550 5.1.1 unknown"}
    temper = Temper(refuse_recipients=refused, max_recipients=2, too_many="552 too many")
    async with a_receiver(temper) as receiver:
        names = ["later1", "a", "never1", "b", "c"]
        rcpts = [b"RCPT TO:<%s@d.example>\r\n" % name.encode() for name in names]
        replies = await talk(receiver, b"MAIL FROM:<a@s.example>\r\n", *rcpts, replies=7)
        assert [reply[:3] for reply in replies[2:]] == [b"450", b"250", b"550", b"250", b"552"]


async def test_a_server_can_hang_in_the_handshake_and_inject_a_reply() -> None:
    for temper, more in (
        (Temper(tls_hangs=True), b""),
        (Temper(tls_injects=True), b"250 2.0.0 in"),
    ):
        async with a_receiver(replace(temper, offers_tls=True)) as receiver:
            receiver.context = make_server_context("mx.lab.example")
            reader, writer = await asyncio.open_connection(receiver.address, receiver.port)
            writer.write(b"STARTTLS\r\n")
            await reader.readline()
            assert (await reader.readline()).startswith(b"220")
            assert not more or (await reader.readline()).startswith(more)
            writer.close()


async def test_refusals_come_as_often_as_scripted_and_421_hangs_up() -> None:
    temper = Temper(refuse={Moment.GREETING: "421 4.3.2 not now"}, refuse_times=2)
    async with a_receiver(temper) as receiver:
        replies = [(await talk(receiver, replies=2))[:2] for _ in range(2)]
        assert replies == [[b"421 4.3.2 not now\r\n", b""]] * 2
        assert (await talk(receiver, replies=1))[0].startswith(b"220")


async def test_a_host_without_8bitmime_does_not_offer_it_and_refuses_it() -> None:
    async with a_receiver(Temper(eight_bit=False)) as receiver:
        lines = [b"EHLO c\r\nMAIL FROM:<a@s.example> BODY=8BITMIME\r\n"]
        replies = await talk(receiver, *lines, replies=6)
        assert not any(b"8BITMIME" in reply for reply in replies)
        assert replies[-1].startswith(b"555")


async def test_connections_are_counted_with_their_peak() -> None:
    async with a_receiver(Temper()) as receiver:
        host, port = receiver.address, receiver.port
        async with a_client(host, port), a_client(host, port), a_client(host, port):
            assert (receiver.open_now, receiver.peak) == (3, 3)
        async with a_client(host, port):
            pass
        assert (receiver.counts["connections"], receiver.peak) == (4, 3)


async def test_every_domain_resolves_as_its_story_says(internet: Internet) -> None:
    names = Resolver([internet.dns_address], 2.0, Clock())
    for domain in internet.domains:
        answer = await names.mx(domain.name)
        match domain.name.removesuffix(f".{ROOT}"):
            case "nosuch":
                assert answer == NoSuchDomain()
            case "nullmx":
                assert answer == NullMx()
            case "broken":
                assert isinstance(answer, Temporary)
            case "nomx":
                assert isinstance(await names.addresses(domain.name), Addresses)
            case _:
                assert isinstance(answer, Found), domain
                for mx in answer.hosts:
                    found = await names.addresses(mx.host)
                    assert isinstance(found, Addresses)
                    assert all(address.startswith("127.0.0.") for address in found.v4)
                    assert "127.0.0.1" not in found.v4
    internet.publish_text("s1._domainkey.sender.lab.example", "v=DKIM1; p=" + "A" * 300)
    text = b"v=DKIM1; p=" + b"A" * 300
    assert await names.txt("s1._domainkey.sender.lab.example") == Texts((text,))
    assert internet.text_of(b"s1._domainkey.sender.lab.example.") == text
    await names.close()


async def deliver_once(internet: Internet, names: Resolver, address: str) -> Fate:
    """One honest try by an independent client; a greylisted one comes twice."""
    domain = address.rpartition("@")[2]
    mx = await names.mx(domain)
    if isinstance(mx, NoSuchDomain | NullMx):
        return Fate.BOUNCED
    if isinstance(mx, Temporary):
        return Fate.DEFERRED
    fate = Fate.DEFERRED
    for host in [record.host for record in mx.hosts] if isinstance(mx, Found) else [domain]:
        found = await names.addresses(host)
        assert isinstance(found, Addresses)
        for again in (False, True) if domain.startswith("grey") else (False,):
            if again:
                await asyncio.sleep(2.1)
            try:
                async with asyncio.timeout(3):
                    async with a_client(found.v4[0], internet.smtp_port) as client:
                        await client.sendmail("a@sender.lab.example", [address], MESSAGE)
                return Fate.DELIVERED
            except aiosmtplib.SMTPRecipientsRefused as error:
                fate = Fate.BOUNCED if error.recipients[0].code >= 500 else Fate.DEFERRED
            except aiosmtplib.SMTPResponseException as error:
                fate = Fate.BOUNCED if error.code >= 500 else Fate.DEFERRED
            except (aiosmtplib.SMTPException, TimeoutError, OSError):
                fate = Fate.DEFERRED
    return fate


def test_every_domain_meets_the_fate_that_is_announced_on_both_event_loops() -> None:
    async def all_fates() -> None:
        seen: list[Taken] = []
        internet = Internet(seen.append)
        await internet.start()
        # All domains, their servers and their clients share this loop: an answer may be late.
        names = Resolver([internet.dns_address], 6.0, Clock())
        addresses = [f"b@{domain.name}" for domain in internet.domains]
        addresses.append(f"nobody@users.{ROOT}")
        fates = await asyncio.gather(*(deliver_once(internet, names, a) for a in addresses))
        expected = {address: internet.fate(address) for address in addresses}
        assert dict(zip(addresses, fates, strict=True)) == expected
        delivered = [a for a, fate in expected.items() if fate is Fate.DELIVERED]
        assert sorted(taken.recipients[0] for taken in seen) == sorted(delivered)
        secure = internet.mailbox.of(f"b@secure.{ROOT}")
        assert [taken.tls for taken in secure] == [True]
        assert internet.mailbox.sample(f"polite1.{ROOT}") is not None
        assert internet.mailbox.faults.total() == 0
        kept = {taken.data for a in delivered for taken in internet.mailbox.of(a)}
        assert kept == {MESSAGE}
        await names.close()
        await internet.stop()

    with asyncio.Runner() as runner:
        runner.run(all_fates())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_fates())


async def test_two_internets_live_side_by_side() -> None:
    first, second = Internet(), Internet()
    await first.start()
    await second.start()
    assert first.smtp_port != second.smtp_port
    assert first.dns_address != second.dns_address
    await first.stop()
    await second.stop()
