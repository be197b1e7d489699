"""Each notice once per threshold and period, on every channel that works."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from licensing.entitlement import Remark
from licensing.evaluate import evaluate
from licensing.facts import VolumeUse
from licensing.model.license import Kind
from licensing.model.usage import Notice as VendorNotice
from licensing.notices import (
    MAX_WAITING,
    Channel,
    ChannelError,
    Log,
    Mail,
    Notices,
    Telling,
    Webhook,
    due,
    of_the_vendor,
    told_by,
)
from tests.support.license_facts import EXPIRES, MIDDLE, the_facts

DAY = 86_400.0


def at_percent(percent: float, period: str = "2027-03") -> tuple[Remark, ...]:
    use = VolumeUse(period, 1_000_000, int(percent * 10_000), 10)
    return evaluate(the_facts(Kind.VOLUME, volume=use), MIDDLE).remarks


def fired(steps: Sequence[tuple[Remark, ...]]) -> list[str]:
    """The codes that are told, without the licence's id, when these remarks stand one after the other."""
    sent: set[str] = set()
    codes = []
    for remarks in steps:
        for remark in due(remarks, sent):
            sent |= told_by(remark)
            what, _, rest = remark.code.partition(":")
            codes.append(f"{what} {rest.rpartition(':')[2]}")
    return codes


# -- which are due ------------------------------------------------------------------------------------


def test_crossing_a_threshold_again_fires_once() -> None:
    assert fired([at_percent(each) for each in (79, 81, 79, 82)]) == ["volume_80 2027-03"]


def test_each_threshold_fires_and_the_next_period_begins_anew() -> None:
    steps = [at_percent(each) for each in (80, 91, 96, 100, 104)]
    steps += [at_percent(each, "2027-04") for each in (3, 80)]
    assert fired(steps) == [
        "volume_80 2027-03",
        "volume_90 2027-03",
        "volume_95 2027-03",
        "volume_100 2027-03",
        "volume_80 2027-04",
    ]


def test_who_jumps_over_a_threshold_is_told_the_highest_and_not_the_lower_ones_later() -> None:
    assert fired([at_percent(each) for each in (50, 96, 85, 97)]) == ["volume_95 2027-03"]


def test_what_another_remark_of_the_same_moment_covers_is_not_told() -> None:
    lower, higher = Remark("a", "less"), Remark("b", "more", covers=("a",))
    assert due((lower, higher, higher), set()) == (higher,)


@given(st.lists(st.floats(0, 130), max_size=40))
def test_whatever_the_use_does_no_threshold_fires_twice(percents: list[float]) -> None:
    codes = fired([at_percent(each) for each in percents])
    assert len(codes) == len(set(codes))
    assert (max(percents, default=0) >= 80) == bool(codes)


def test_an_expiry_is_told_at_60_30_14_7_3_and_1_days_then_the_grace() -> None:
    steps = []
    for hours in range(70 * 24, -24, -1):
        at = EXPIRES.timestamp() - hours * 3_600
        facts = the_facts(Kind.ENTERPRISE_SERVER, last_contact=at)
        steps.append(evaluate(facts, at).remarks)
    told = [each.partition(" ")[0] for each in fired(steps)]
    expected = [f"expiry_{days}" for days in (60, 30, 14, 7, 3, 1)]
    assert told == [*expected, "expired_grace"]


def test_each_silence_is_told_once_and_the_next_one_again() -> None:
    def after(contact: float, days: float) -> tuple[Remark, ...]:
        return evaluate(the_facts(Kind.VOLUME, last_contact=contact), contact + days * DAY).remarks

    steps = [after(MIDDLE, days) for days in (0.5, 1, 2, 3, 10, 14, 20)]
    steps += [after(MIDDLE + 20 * DAY, days) for days in (0, 1)]
    told = [each.partition(" ")[0] for each in fired(steps)]
    assert told == ["silence", "silence_grace", "silence_held", "silence"]


def test_the_text_names_licence_node_period_figures_and_remedy() -> None:
    text = at_percent(81)[0].text
    for word in (
        "L00000000000000000000000001",
        "mx1",
        "2027-03",
        "800,000",
        "1,000,000",
        "upgrade",
    ):
        assert word in text


def test_the_vendors_words_are_told_and_a_notice_without_words_is_not() -> None:
    notices = (
        VendorNotice(id="n1", level="warn", text="Version 1.4.3 mends a fault."),
        VendorNotice(id="vol80:2027-03", level="warn"),
    )
    assert of_the_vendor(notices) == (Remark("vendor:n1", "Version 1.4.3 mends a fault."),)


# -- the channels -------------------------------------------------------------------------------------

REMARK = Remark("volume_80:L1:2027-03", "80 % is used", covers=("volume_70:L1:2027-03",))


class Box:
    """A channel that keeps what it was told; the first `failures` times it raises."""

    def __init__(self, name: str = "box", failures: int = 0, *, is_final: bool = False) -> None:
        self.name = name
        self.failures = failures
        self.is_final = is_final
        self.tries = 0
        self.got: asyncio.Queue[Telling] = asyncio.Queue()

    async def tell(self, telling: Telling) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise ChannelError("no", is_final=self.is_final)
        self.got.put_nowait(telling)


@asynccontextmanager
async def notices(*channels: Channel, **options: Any) -> AsyncIterator[Notices]:
    found = Notices(channels, node_label="mx1", **({"pauses_s": (0, 0)} | options))
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


async def first(box: Box) -> Telling:
    async with asyncio.timeout(5):
        return await box.got.get()


async def both(kept: asyncio.Queue[frozenset[str]]) -> None:
    """Until two notices are done with, told or given up."""
    async with asyncio.timeout(5):
        await kept.get()
        await kept.get()


async def test_a_notice_goes_to_every_channel_and_is_kept_as_told() -> None:
    one, two = Box("one"), Box("two")
    kept: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    async with notices(one, two, keep=kept.put_nowait) as telling:
        telling.tell([REMARK], MIDDLE)
        assert (await first(one)).remark == (await first(two)).remark == REMARK
        async with asyncio.timeout(5):
            assert await kept.get() == {REMARK.code, *REMARK.covers}
        telling.tell([REMARK], MIDDLE + 1)
        telling.tell([Remark("volume_70:L1:2027-03", "covered")], MIDDLE + 2)
        telling.tell([Remark("next", "another")], MIDDLE + 3)
        assert (await first(one)).remark.code == "next"


async def test_a_restart_tells_nothing_again() -> None:
    box = Box()
    async with notices(box, sent={REMARK.code}) as telling:
        telling.tell([REMARK, Remark("next", "another")], MIDDLE)
        assert (await first(box)).remark.code == "next"


async def test_what_was_not_told_at_the_stop_is_told_at_the_next_start() -> None:
    kept: list[frozenset[str]] = []
    stopped = Notices([Box()], keep=kept.append)
    stopped.tell([REMARK], MIDDLE)  # it was never started
    await stopped.stop()
    assert kept == []


async def test_a_channel_that_fails_is_tried_again() -> None:
    box = Box(failures=2)
    async with notices(box) as telling:
        telling.tell([REMARK], MIDDLE)
        assert (await first(box)).remark == REMARK
        assert sum(telling.failures.values()) == 0


async def test_a_channel_that_keeps_failing_stops_no_other_and_is_given_up() -> None:
    broken, sound = Box("broken", failures=1_000), Box("sound")
    with capture_logs() as lines:
        kept: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        async with notices(broken, sound, keep=kept.put_nowait) as telling:
            telling.tell([REMARK, Remark("next", "another")], MIDDLE)
            assert (await first(sound)).remark == REMARK
            assert (await first(sound)).remark.code == "next"
            await both(kept)
            assert telling.failures == {"broken": 2, "sound": 0}
    assert broken.tries == 6  # three for each
    assert lines[0]["event"] == "a licence notice did not get through"
    assert lines[0]["channel"] == "broken"


async def test_what_is_refused_for_good_is_not_tried_again() -> None:
    broken = Box("broken", failures=1_000, is_final=True)
    kept: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    async with notices(broken, keep=kept.put_nowait) as telling:
        telling.tell([REMARK, Remark("next", "another")], MIDDLE)
        await both(kept)
        assert broken.tries == 2


async def test_a_ledger_that_cannot_be_written_does_not_stop_the_telling() -> None:
    box = Box()

    def keep(codes: frozenset[str]) -> None:
        raise OSError("disk full")

    async with notices(box, keep=keep) as telling:
        telling.tell([REMARK, Remark("next", "another")], MIDDLE)
        await first(box)
        assert (await first(box)).remark.code == "next"


async def test_what_waits_is_bounded_and_the_newest_are_told() -> None:
    box = Box()
    waiting = Notices([box])
    codes = [str(number) for number in range(MAX_WAITING * 3)]
    waiting.tell([Remark(code, "x") for code in codes], MIDDLE)
    await waiting.start()
    assert [(await first(box)).remark.code for _ in range(MAX_WAITING)] == codes[-MAX_WAITING:]
    await waiting.stop()
    assert waiting.failures == {"box": MAX_WAITING * 2}


async def test_a_channel_that_hangs_holds_up_no_other() -> None:
    class Hanging:
        name = "hanging"

        async def tell(self, telling: Telling) -> None:
            await asyncio.Event().wait()

    box = Box()
    async with notices(Hanging(), box) as telling:
        telling.tell([REMARK, Remark("next", "another")], MIDDLE)
        await first(box)
        assert (await first(box)).remark.code == "next"


async def test_where_there_is_no_channel_a_notice_counts_as_told() -> None:
    kept: list[frozenset[str]] = []
    Notices([], keep=kept.append).tell([REMARK], MIDDLE)
    assert kept == [told_by(REMARK)]


async def test_a_mail_has_recipients_subject_and_text() -> None:
    got: list[tuple[Sequence[str], str, str]] = []

    async def send(recipients: Sequence[str], subject: str, text: str) -> None:
        got.append((recipients, subject, text))

    await Mail(send, ["ops@example.test"]).tell(Telling(REMARK, "mx1", MIDDLE))
    recipients, subject, text = got[0]
    assert recipients == ("ops@example.test",)
    assert "mx1" in subject
    assert "volume 80" in subject
    assert text.startswith("80 % is used")


@pytest.mark.parametrize(
    ("level", "written"), [("info", "info"), ("warn", "warning"), ("error", "error")]
)
async def test_the_log_has_a_line_of_the_right_level(level: Any, written: str) -> None:
    with capture_logs() as lines:
        await Log().tell(Telling(Remark("a:b", "text", level=level), "mx1", MIDDLE))
    assert [(line["log_level"], line["code"]) for line in lines] == [(written, "a:b")]


# -- the webhook, over the wire -----------------------------------------------------------------------


@asynccontextmanager
async def a_receiver(*statuses: int) -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """An HTTP server that answers with these, one after the other, then 200; and what it was sent."""
    left, got = list(statuses), []

    async def receive(request: web.Request) -> web.Response:
        got.append(await request.json())
        status = left.pop(0) if left else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", got
    finally:
        await runner.cleanup()


async def test_a_webhook_is_sent_the_notice_as_json() -> None:
    async with a_receiver() as (url, got):
        await Webhook(url).tell(Telling(REMARK, "mx1", MIDDLE))
    assert got == [
        {
            "product": "sluice",
            "code": "volume_80:L1:2027-03",
            "level": "warn",
            "text": "80 % is used",
            "node": "mx1",
            "at": "2027-03-01T12:00:00+00:00",
        }
    ]


@pytest.mark.parametrize(
    ("status", "is_final"), [(500, False), (503, False), (429, False), (404, True), (302, True)]
)
async def test_a_webhook_that_answers_otherwise_has_failed(status: int, is_final: bool) -> None:
    async with a_receiver(status) as (url, got):
        with pytest.raises(ChannelError, match=str(status)) as caught:
            await Webhook(url).tell(Telling(REMARK, "mx1", MIDDLE))
        assert caught.value.is_final is is_final
        assert len(got) == 1  # a redirect is not followed


async def test_a_webhook_that_recovers_gets_the_notice() -> None:
    async with a_receiver(500, 503) as (url, got):
        kept: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        async with notices(Webhook(url), keep=kept.put_nowait) as telling:
            telling.tell([REMARK], MIDDLE)
            async with asyncio.timeout(5):
                await kept.get()
            assert telling.failures == {"webhook": 0}
        assert [each["code"] for each in got] == [REMARK.code] * 3


async def test_a_webhook_nobody_listens_to_is_a_failure_that_may_pass() -> None:
    async with a_receiver() as (url, _):
        pass
    with pytest.raises(ChannelError) as caught:
        await Webhook(url).tell(Telling(REMARK, "mx1", MIDDLE))
    assert not caught.value.is_final


async def test_a_webhook_that_does_not_answer_is_given_up_in_time() -> None:
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side gives up
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ChannelError):
            hook = Webhook(f"http://127.0.0.1:{port}/", timeout_s=0.05)
            await hook.tell(Telling(REMARK, "mx1", MIDDLE))
        async with asyncio.timeout(5):
            await ended.wait()
