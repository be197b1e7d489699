"""The guard as the daemon sees it: install, activate, take, count, report, hold, flow again."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from licensing.entitlement import Entitlement, State
from licensing.envelope import decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.fingerprint import Machine
from licensing.guard import Delivered, Guard
from licensing.installation import AlreadyRunning
from licensing.model.bodies import Refusal
from licensing.model.license import Kind, LeaseTerms
from licensing.model.usage import Notice
from licensing.nodekey import NodeKey
from tests.support.licence_server import LicenceServer
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard, passes
from tests.support.vendor import Vendor


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def time() -> MachineTime:
    return MachineTime()


@pytest.fixture
async def server(vendor: Vendor, time: MachineTime) -> AsyncIterator[LicenceServer]:
    async with LicenceServer(vendor) as server:
        server.now = lambda: time.true
        yield server


@pytest.fixture
async def guard(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> AsyncIterator[Guard]:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    yield guard
    await guard.stop()


async def test_without_a_licence_nothing_goes_in_or_out(guard: Guard) -> None:
    assert guard.entitlement.state is State.UNLICENSED
    assert not guard.entitlement.deliver
    status = await guard.status()
    assert status["exit_code"] == 5 and status["licenses"] == []


async def test_a_licence_flows_from_the_moment_it_is_installed(
    guard: Guard, vendor: Vendor
) -> None:
    told: list[Entitlement] = []
    guard.subscribe(told.append)
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    assert guard.entitlement.state is State.PENDING and guard.entitlement.deliver
    assert told[-1] is guard.entitlement
    assert guard.take(7) == 7


async def test_a_seat_is_taken_by_itself_and_the_licence_is_valid(
    guard: Guard, vendor: Vendor, server: LicenceServer
) -> None:
    await guard.install(vendor.file(Kind.STANDARD_SERVER, quantity=2, **EARLY))
    await guard.talk()
    assert guard.entitlement.state is State.VALID
    assert guard.entitlement.max_connections == 6
    assert len(server.rows) == 1
    (report,) = server.reports
    assert (report.cum, report.days, report.leases, report.want) == (None, None, None, None)


async def test_a_broken_file_changes_nothing(guard: Guard, vendor: Vendor) -> None:
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    before = guard.entitlement
    file = bytearray(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    file[200] ^= 1
    with pytest.raises(LicenseError):
        await guard.install(bytes(file))
    assert guard.entitlement == before


async def test_a_volume_licence_leases_counts_and_reports(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    assert guard.entitlement.state is State.VALID and guard.entitlement.is_metered
    assert guard.take(400) == 400
    guard.refund(100)
    await guard.delivered([Delivered("spool", 0, 350, 300)])
    await passes(guard, time, 61)
    assert server.total == 300
    usage = await guard.usage()
    assert usage["acknowledged"] == 300 and usage["difference"] == 0
    assert (await guard.cursors()) == {"spool": 350}


async def test_at_the_end_of_the_quota_mail_is_held_and_an_upgrade_lets_it_flow(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    server.quota = 500
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    assert guard.take(600) == 500
    await guard.delivered([Delivered("spool", 0, 500, 500)])
    await passes(guard, time, 61)
    assert guard.entitlement.state is State.OVER_LIMIT and not guard.entitlement.deliver
    assert guard.take(1) == 0
    server.quota = 1_000
    await passes(guard, time, 61)
    assert guard.entitlement.deliver and guard.take(1) == 1
    assert server.total == 500


async def test_a_new_lease_is_asked_for_at_once_near_the_end_of_one(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard.take(950)
    await guard.delivered([Delivered("spool", 0, 950, 950)])
    await passes(guard, time, 6)
    assert guard.take(500) == 500


async def test_before_activation_one_start_block_is_allowed_and_reported(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    server.is_down = True
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    assert guard.entitlement.state is State.PENDING
    assert guard.take(5_000) == LeaseTerms().min
    await guard.delivered([Delivered("spool", 0, 70, 70)])
    server.is_down = False
    await passes(guard, time, 901)
    assert server.total == 70


async def test_an_activation_by_hand(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, reporting=False)
    await guard.open()
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    answer = server.activate(decode_envelope(await guard.request()))
    await guard.install(encode_envelope(answer))
    assert guard.entitlement.state is State.VALID
    with pytest.raises(LicenseError, match="no request"):
        await guard.install(encode_envelope(answer))
    assert server.requests == []
    await guard.stop()


async def test_a_refused_seat_says_who_has_them(
    guard: Guard, vendor: Vendor, server: LicenceServer
) -> None:
    server.refusal = Refusal(error="SEAT_LIMIT", text="all seats are taken")
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    with pytest.raises(LicenseError, match="all seats are taken"):
        await guard.activate()
    assert guard.entitlement.state is State.PENDING
    assert (await guard.status())["licenses"][0]["refusal"]


async def test_a_seat_given_back_is_free_and_not_taken_again_by_itself(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard.take(10)
    await guard.delivered([Delivered("spool", 0, 10, 10)])
    row = next(iter(server.rows.values()))
    await guard.deactivate()
    assert row.total == 10 and server.rows == {}
    await passes(guard, time, 4_000)
    assert server.rows == {}
    await guard.activate()
    assert len(server.rows) == 1
    await passes(guard, time, 61)
    assert server.total == 0, "what the old seat has reported is not told again"
    assert [each.final for each in server.reports] == [False, True, False]


async def test_two_copies_of_a_server_are_a_finding_until_the_vendor_no_longer_says_so(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    await guard.talk()
    server.ack_extra = {"notices": (Notice(id="clone:7", level="error", text="copied"),)}
    await passes(guard, time, 86_401)
    assert guard.entitlement.state is State.GRACE and guard.entitlement.deliver
    server.ack_extra = {}
    await passes(guard, time, 86_401)
    assert guard.entitlement.state is State.VALID


@pytest.mark.parametrize("kind", [Kind.VOLUME, Kind.ENTERPRISE_SERVER])
async def test_a2_a_copy_that_is_told_to_begins_anew_with_what_it_has_not_reported(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime, kind: Kind
) -> None:
    await guard.install(vendor.file(kind, **EARLY))
    await guard.talk()
    await guard.delivered([Delivered("spool", 0, 10, 10)])
    before = (await guard.status())["node_id"]
    server.ack_extra = {"notices": (Notice(id="rekey:7", level="error", text="a copy"),)}
    await passes(guard, time, 86_401)
    server.ack_extra = {}
    await guard.delivered([Delivered("spool", 10, 15, 5)])
    await passes(guard, time, 61)
    await passes(guard, time, 61)
    after = await guard.status()
    assert after["node_id"] != before
    assert [row.activation.node_id for row in server.rows.values()] == [before, after["node_id"]]
    if kind is Kind.VOLUME:
        assert [row.total for row in server.rows.values()] == [10, 5]
    assert guard.entitlement.state is State.VALID and guard.entitlement.deliver
    home = guard.home()
    await guard.stop()
    assert NodeKey.load(home.state_dir / "node.key").id == after["node_id"]
    assert len(list((home.state_dir / "activations").iterdir())) == 1


@pytest.mark.parametrize("last", ["record", "seats", "key"])
async def test_a2_killed_while_it_begins_anew_a_copy_has_one_identity_and_every_count(
    tmp_path: Path,
    vendor: Vendor,
    server: LicenceServer,
    time: MachineTime,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    await guard.delivered([Delivered("spool", 0, 10, 10)])

    make = NodeKey.replace

    def dies(path: Path) -> None:
        if last == "key":
            make(path)
        raise OSError("killed")

    if last == "record":
        monkeypatch.setattr("licensing.rekey.forget_anchor", dies)
    else:
        monkeypatch.setattr("licensing.rekey.NodeKey.replace", dies)
    server.ack_extra = {"notices": (Notice(id="rekey:7", level="error", text="a copy"),)}
    await passes(guard, time, 61)
    monkeypatch.undo()
    server.ack_extra = {}
    home = guard.home()
    await asyncio.to_thread(home.close)  # as after kill -9: nothing is saved

    again = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await again.open()
    await again.delivered([Delivered("spool", 10, 15, 5)])
    for _ in range(4):
        await passes(again, time, 61)
    assert server.total == 15
    assert again.entitlement.deliver
    await again.stop()


async def test_every_server_licence_reports_each_day_also_over_lost_answers_and_a_restart(
    tmp_path: Path, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    kinds = (Kind.STANDARD_SERVER, Kind.STANDARD_SERVER, Kind.ENTERPRISE_SERVER)
    for kind in kinds:
        await guard.install(vendor.file(kind, **EARLY))
    await guard.talk()
    guard.connections(5, 5)
    for _ in range(2):
        await passes(guard, time, 86_401)
    assert [(row.epoch, row.seq) for row in server.rows.values()] == [(1, 3)] * 3
    second = server.reports[3:6]
    assert [each.conn_peak for each in second] == [5, 5, 5] and len(server.reports) == 9
    assert len({each.license_id for each in second}) == 3
    server.faults = ["lost", "lost", "lost"]
    await passes(guard, time, 86_401)
    await guard.stop()

    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    for _ in range(3):
        await passes(guard, time, 1_000)
    await passes(guard, time, 86_401)
    assert {row.epoch for row in server.rows.values()} == {1}, "nothing was taken for a copy"
    assert {row.seq for row in server.rows.values()} <= {5, 6}
    assert (await guard.deactivate())["deactivated"] and server.rows == {}
    assert not any((tmp_path / "state/heartbeats").iterdir())
    await guard.stop()


async def test_a_renewal_comes_with_the_heartbeat_of_a_further_licence(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    for _ in range(2):
        await guard.install(vendor.file(Kind.STANDARD_SERVER, **EARLY))
    await guard.talk()
    main = guard.home().books.license_id
    (other,) = (each for each in (await guard.status())["licenses"] if each["license_id"] != main)
    plain = vendor.license(Kind.STANDARD_SERVER, **EARLY)
    newer = msgspec.structs.replace(plain, license_id=other["license_id"], revision=2, quantity=2)
    server.ack_extra = {"license": vendor.sign_license(newer)}
    await passes(guard, time, 86_401)
    await passes(guard, time, 1)
    licenses = (await guard.status())["licenses"]
    assert {each["license_id"]: each["revision"] for each in licenses} == {
        main: 1,
        other["license_id"]: 2,
    }


async def test_a_trusted_time_that_is_set_back_stops_neither_reports_nor_the_look_at_files(
    tmp_path: Path, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    right, time.true = time.true, time.true + 20 * 86_400
    server.now = lambda: right
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    assert (await guard.status())["clock"]["now"] < right + 1
    server.now = lambda: time.true - 20 * 86_400
    reported = len(server.reports)
    await passes(guard, time, 61)
    assert len(server.reports) == reported + 1
    for path in (tmp_path / "license.d").iterdir():
        path.unlink()
    await passes(guard, time, 61)
    assert (await guard.status())["licenses"] == []
    await guard.stop()


async def test_what_was_sent_can_be_read(
    guard: Guard, vendor: Vendor, server: LicenceServer
) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    shown = await guard.report_show(10)
    assert [each["bytes"].encode() for each in reversed(shown)] == [
        body for _, body in server.requests
    ]
    assert shown[0]["statement"]["seq"] == 1


async def test_a_restart_goes_on_with_seat_lease_and_count(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard.take(100)
    await guard.delivered([Delivered("spool", 0, 60, 60)])
    await guard.stop()
    again = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await again.open()
    assert again.entitlement.state is State.VALID
    assert again.take(5_000) == 940
    assert await again.cursors() == {"spool": 60}
    await again.stop()


async def test_after_a_crash_nothing_is_granted_until_the_journals_were_read(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard._home.close()  # type: ignore[union-attr] # as a crash leaves it: nothing is said
    again = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await again.open()
    assert again.take(10) == 0 and again.entitlement.deliver
    await again.delivered([Delivered("spool", 0, 300, 300)])
    await passes(again, time, 11, talk=False)
    assert again.take(5_000) == 700
    await again.stop()


async def test_another_licence_begins_at_nought_and_the_journals_go_on(
    guard: Guard, vendor: Vendor, server: LicenceServer, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await guard.talk()
    guard.take(10)
    await guard.delivered([Delivered("spool", 0, 10, 10)])
    await guard.install(vendor.file(Kind.DEVELOPMENT, **EARLY), replace=True)
    assert guard.entitlement.stamp is not None
    assert (await guard.usage())["counted"] == 0
    assert await guard.cursors() == {"spool": 10}
    assert guard.take(5_000) == 1_000


async def test_a_second_guard_on_the_same_state_is_told_who_has_it(
    guard: Guard, tmp_path: Path, vendor: Vendor, time: MachineTime
) -> None:
    second = a_guard(tmp_path, vendor, time)
    with pytest.raises(AlreadyRunning) as caught:
        await second.open()
    assert caught.value.pid == os.getpid()


async def test_a_fault_within_leaves_the_last_entitlement_and_an_event(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    await guard.talk()
    guard._selection = None  # type: ignore[assignment] # a bug of ours
    decided = guard.decide()
    assert decided.state is State.VALID and decided.deliver
    guard._read_at = 0.0
    await guard.tick()
    events = [each["code"] for each in await guard.events()]
    assert "license_internal_error" in events
    await guard.stop()


async def test_the_guard_turns_by_itself(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.start()
    valid = asyncio.Event()
    guard.subscribe(lambda told: valid.set() if told.state is State.VALID else None)
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    await asyncio.wait_for(valid.wait(), 5)
    await guard.stop()


async def test_the_connection_is_tested_step_by_step(guard: Guard, vendor: Vendor) -> None:
    await guard.install(vendor.file(Kind.VOLUME, **EARLY))
    steps = await guard.test_connection()
    assert [each["step"] for each in steps] == ["endpoint", "dns", "http"]
    assert all(each["ok"] for each in steps)


async def test_another_machine_is_borne_for_72_hours_from_when_it_was_first_seen(
    tmp_path: Path, vendor: Vendor, time: MachineTime, server: LicenceServer
) -> None:
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url)
    await guard.open()
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    await guard.talk()
    assert guard.entitlement.state is State.VALID
    await guard.stop()
    other = Machine("vm", {"machine_id": "xx", "product_uuid": "yy", "rootfs_uuid": "zz"})
    codes = set()
    for hours in (1, 70):
        guard = a_guard(tmp_path, vendor, time, endpoint=server.url, machine=other)
        await guard.open()
        assert guard.entitlement.state is State.GRACE
        await passes(guard, time, hours * 3_600, talk=False)
        assert guard.entitlement.state is State.GRACE
        codes |= {each.code for each in guard.entitlement.remarks if "fp_mismatch" in each.code}
        await guard.stop()
    assert len(codes) == 1  # one finding, told once
    guard = a_guard(tmp_path, vendor, time, endpoint=server.url, machine=other)
    await guard.open()
    await passes(guard, time, 3_600, talk=False)
    assert guard.entitlement.state is State.TAMPERED
    assert guard.entitlement.deliver
    await guard.stop()


async def test_a_clock_that_is_days_behind_is_a_notice_until_it_is_right_again(
    guard: Guard, vendor: Vendor, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    await guard.talk()
    time.wall_error = -3 * 86_400
    await passes(guard, time, 1, talk=False)
    assert guard.entitlement.state is State.VALID
    assert [each.code.partition(":")[0] for each in guard.entitlement.remarks] == ["clock_step"]
    time.wall_error = 0
    await passes(guard, time, 1, talk=False)
    assert guard.entitlement.remarks == ()


async def test_each_change_of_the_state_is_an_event_of_the_ledger(
    guard: Guard, vendor: Vendor, time: MachineTime
) -> None:
    await guard.install(vendor.file(Kind.ENTERPRISE_SERVER, **EARLY))
    await guard.talk()
    for _ in range(3):
        await passes(guard, time, 1)
    changes = [each["text"] for each in await guard.events() if each["code"] == "license_state"]
    assert changes[0] == "pending → valid: "  # the latest first
    assert changes[1].startswith("unlicensed → pending: ")
    assert len(changes) == 2
