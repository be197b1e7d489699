"""Reports over a bad network, to a server that answers badly: no figure is lost, doubled or believed without a signature."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from licensing.envelope import decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.guard import Delivered, Guard
from licensing.model.bodies import BatchAnswer, BatchAnswers, Refusal
from licensing.model.license import Kind, Reporting
from licensing.wire import SentLog, Unreachable, Wire, check_endpoint
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor

VENDOR = Vendor()


@pytest.fixture
async def server(time: MachineTime) -> AsyncIterator[LicenceServer]:
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        yield server


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def guard(tmp_path: Path, time: MachineTime, server: LicenceServer) -> AsyncIterator[Guard]:
    """Activated under a Volume licence, its first report acknowledged."""
    guard = a_guard(tmp_path, VENDOR, time, endpoint=server.url)
    await guard.open()
    await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    server.requests.clear()
    server.reports.clear()
    yield guard
    await guard.stop()


class Journal:
    """Of one spool: hands out ranges of events that were delivered."""

    def __init__(self) -> None:
        self.at = 0

    async def sends(self, guard: Guard, emails: int) -> None:
        since, self.at = self.at, self.at + emails
        guard.take(emails)
        await guard.delivered([Delivered("spool", since, self.at, emails)])


async def test_a_lost_answer_is_followed_by_the_same_bytes_and_counts_once(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    journal = Journal()
    await journal.sends(guard, 10)
    server.faults = ["lost", "down", "lost"]
    await passes(guard, time, 61)
    for _ in range(3):
        await journal.sends(guard, 1)
        await passes(guard, time, 901)
    await passes(guard, time, 1)
    # The stored report four times, and one fresh one behind it.
    bodies = [body for _, body in server.requests]
    assert len(set(bodies[:4])) == 1 and bodies[4] != bodies[0]
    assert [report.cum for report in server.reports] == [10, 13]
    assert server.total == 13


async def test_an_answer_that_was_changed_on_the_way_changes_nothing_here(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    await Journal().sends(guard, 10)
    before = (await guard.status())["report"]
    server.faults = ["tampered"]
    await passes(guard, time, 61)
    status = await guard.status()
    assert status["report"]["last_contact"] == before["last_contact"]
    assert "signature" in status["report"]["failure"] and status["report"]["under_way"]
    await passes(guard, time, 901)
    assert (await guard.usage())["difference"] == 0


async def test_a_full_server_is_left_alone_for_as_long_as_it_asks(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    server.faults = ["busy"]
    await passes(guard, time, 61)
    assert len(server.requests) == 1
    await passes(guard, time, 119)
    assert len(server.requests) == 1
    await passes(guard, time, 2)
    assert len(server.requests) >= 2 and server.reports


async def test_back_off_grows_to_a_quarter_of_an_hour_and_is_never_given_up(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    server.is_down = True
    for _ in range(400):
        await passes(guard, time, 30)
    tries = (await guard.status())["report"]["tries"]
    # Full jitter: half of 15 minutes in the mean; 12,000 s hold some 27 tries, and a few quick ones at the beginning.
    assert 15 <= tries <= 60
    server.is_down = False
    await passes(guard, time, 901)
    assert (await guard.status())["report"]["tries"] == 0


async def test_a_refusal_is_told_and_tried_again_later(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    server.refusal = Refusal(error="revoked", text="the licence was taken back")
    await passes(guard, time, 61)
    assert "taken back" in (await guard.status())["report"]["failure"]
    assert guard.entitlement.deliver
    server.refusal = None
    await passes(guard, time, 901)
    assert server.reports


async def test_a_server_that_forgot_the_node_is_asked_for_a_seat_again(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    journal = Journal()
    await journal.sends(guard, 10)
    await passes(guard, time, 61)
    server.rows.clear()
    await journal.sends(guard, 5)
    await passes(guard, time, 61)
    assert guard.entitlement.deliver
    await passes(guard, time, 61)
    # The new seat is told what the old one had not: no Email twice.
    assert server.total == 5
    assert (await guard.usage())["difference"] == 0


async def test_a_report_says_only_the_days_that_are_not_signed_for(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    journal = Journal()
    await journal.sends(guard, 3)
    await passes(guard, time, 61)
    await passes(guard, time, 86_400)
    await journal.sends(guard, 4)
    await passes(guard, time, 61)
    days = [report.days for report in server.reports]
    assert days[0] == {"2026-11-18": 3} and days[1] == {}
    assert {"2026-11-19": 4} in days


async def test_a_renewal_comes_with_an_acknowledgement(
    guard: Guard, server: LicenceServer, time: MachineTime
) -> None:
    found = guard._selection.chosen[0].license
    renewal = msgspec.structs.replace(found, revision=2, order_ref="OF-2027-0001")
    server.ack_extra = {"license": VENDOR.sign_license(renewal)}
    await passes(guard, time, 61)
    assert (await guard.status())["licenses"][0]["revision"] == 2


async def test_reports_go_by_hand_where_the_licence_allows_it(
    tmp_path: Path, server: LicenceServer, time: MachineTime
) -> None:
    guard = a_guard(tmp_path, VENDOR, time, endpoint="http://127.0.0.1:9")
    await guard.open()
    reporting = Reporting(
        required=True, endpoints=("https://license.vendor.example",), offline_allowed=True
    )
    await guard.install(VENDOR.file(Kind.VOLUME, reporting=reporting, **EARLY))
    answer = server.activate(decode_envelope(await guard.request()))
    await guard.install(encode_envelope(answer))
    await Journal().sends(guard, 10)
    report = await guard.report_export()
    assert await guard.report_export() == report
    body = server.take(report).body
    assert isinstance(body, bytes)
    batch = BatchAnswers(answers=(BatchAnswer(status=200, envelope=decode_envelope(body)),))
    assert await guard.report_import(msgspec.json.encode(batch)) == {"outcome": "acknowledged"}
    assert server.total == 10 and (await guard.usage())["difference"] == 0
    with pytest.raises(LicenseError, match="no report waits"):
        await guard.report_import(body)
    await guard.stop()


async def test_reports_by_hand_are_refused_where_the_licence_says_https(guard: Guard) -> None:
    with pytest.raises(LicenseError, match="over HTTPS"):
        await guard.report_export()


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 30), st.sampled_from(["", "", "lost", "down", "busy", "tampered"])
        ),
        max_size=8,
    )
)
async def test_whatever_the_network_does_both_sides_agree_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    time = MachineTime()
    async with LicenceServer(VENDOR) as server:
        server.now = lambda: time.true
        guard = a_guard(tmp_path_factory.mktemp("node"), VENDOR, time, endpoint=server.url)
        await guard.open()
        await guard.install(VENDOR.file(Kind.VOLUME, **EARLY))
        journal, sent = Journal(), 0
        for emails, fault in steps:
            if emails:
                await journal.sends(guard, emails)
            sent += emails
            server.faults = [fault] if fault else []
            await passes(guard, time, 120)
        server.faults = []
        for _ in range(4):
            await passes(guard, time, 901)
        assert server.total == sent
        assert (await guard.usage())["difference"] == 0
        await guard.stop()


# -- the wire ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://license.vendor.example", "ftp://x", "license.vendor"])
def test_an_endpoint_is_https(url: str) -> None:
    with pytest.raises(LicenseError):
        check_endpoint(url)


async def test_the_next_endpoint_is_tried_after_one_that_does_not_answer(
    tmp_path: Path, server: LicenceServer
) -> None:
    wire = Wire(("http://127.0.0.1:9", server.url), SentLog(tmp_path))
    with pytest.raises(Unreachable):
        await wire.look("/healthz")
    assert (await wire.look("/healthz")).status == 200


async def test_what_cannot_be_kept_for_the_customer_is_not_sent(
    tmp_path: Path, server: LicenceServer
) -> None:
    (tmp_path / "sent").write_text("a file stands where the folder belongs")
    wire = Wire((server.url,), SentLog(tmp_path / "sent"))
    with pytest.raises(Unreachable, match="no copy"):
        await wire.send("/v1/reports", b"{}", 0.0)
    assert server.requests == []


def test_sent_bodies_are_kept_by_day_for_four_hundred_days(tmp_path: Path) -> None:
    log = SentLog(tmp_path)
    for day in range(405):
        log.keep(b'{"n":%d}' % day, 1_795_000_000.0 + day * 86_400)
        log.keep(b'{"n":%d}' % day, 1_795_000_000.0 + day * 86_400)
    assert len(list(tmp_path.iterdir())) == 400
    assert log.last(2) == [b'{"n":404}', b'{"n":403}']


def test_days_that_are_over_are_compressed_and_every_byte_is_still_shown(tmp_path: Path) -> None:
    log, bodies = SentLog(tmp_path), [b"body %d " % number + b"x" * 500 for number in range(30)]
    for number, body in enumerate(bodies):
        log.keep(body, 1_795_000_000.0 + 86_400 * (number // 10))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gz", ".gz", ".jsonl"]
    assert SentLog(tmp_path).last(100) == bodies[::-1]
    # The clock was set back: what is sent then joins the day that is compressed already.
    log.keep(b"late", 1_795_000_000.0)
    log.keep(b"new", 1_795_000_000.0 + 3 * 86_400)
    assert sorted(SentLog(tmp_path).last(100)) == sorted([*bodies, b"late", b"new"])
