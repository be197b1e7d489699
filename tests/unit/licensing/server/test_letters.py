"""Letters to billing contacts: each notice once to each, kept in the books until a real SMTP server has taken it over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from pathlib import Path

import apsw
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from licensing.errors import LicenseError
from licensing.model.license import Kind
from licensing.server.commit import Committer
from licensing.server.db_open import open_books
from licensing.server.db_sqlite import SqliteStore
from licensing.server.letters import LetterClerk
from licensing.server.post import GIVE_UP_S, Post, Smarthost
from licensing.server.rows import LetterRow
from tests.support.licence_office import BEGAN, DAY_S, Office, Twin, a_volume, renewed
from tests.support.vendor import Vendor

BILLING = "billing@customer.example"


class Desktop:
    """An office whose clerk writes letters."""

    def __init__(self, emails: int = 1_000) -> None:
        self.vendor = Vendor()
        self.license = a_volume(self.vendor, emails)
        self.office = Office(self.license, vendor=self.vendor)
        self.clerk = LetterClerk(self.office.desk, ["sales@vendor.example"])
        self.office.store.put_contacts(self.license.license_id, [BILLING])
        self.node = Twin(self.license, self.office.sha256(self.license.license_id), "mta1")
        self.node.activate(self.office)

    def use(self, emails: int) -> None:
        self.node.deliver_anyway(emails, self.office.now)
        assert self.node.report(self.office).status == 200

    def write(self) -> list[str]:
        """What the clerk finds to tell; the notices to the customer that are new."""
        before = set(self.told())
        self.clerk.write(self.office.store, self.clerk.licenses(), self.office.now)
        return sorted(
            name.partition(":")[0].partition("_")[2] or name.partition(":")[0]
            for name in set(self.told()) - before
        )

    def told(self) -> list[str]:
        rows = self.office.store.letters(None, 1_000)
        return [each.notice for each in rows if each.recipient == BILLING]


def test_c26_each_threshold_is_told_once_to_contact_and_vendor() -> None:
    desktop = Desktop()
    desktop.use(790)
    assert desktop.write() == []
    desktop.use(20)
    assert desktop.write() == ["80"] and desktop.write() == []
    letters = desktop.office.store.letters(None, 10)
    assert sorted(each.recipient for each in letters) == [BILLING, "sales@vendor.example"]
    assert "810 of the 1,000 Emails" in letters[0].body and "OF-2026-0117" in letters[0].body
    desktop.use(160)
    assert desktop.write() == ["95"], "of two that were crossed at once the higher one is told"
    desktop.use(30)
    assert desktop.write() == ["100"]
    desktop.office.now += 40 * DAY_S
    assert "80" not in desktop.write(), "the next period begins at nothing"


def test_an_expiry_is_told_at_each_of_its_days_and_not_once_it_is_renewed() -> None:
    desktop = Desktop()
    end = int(desktop.license.expires_at.timestamp())
    for days, told in ((61, []), (60, ["60"]), (45, []), (29, ["30"]), (2, ["3"])):
        desktop.office.now = end - days * DAY_S
        desktop.use(0)  # it reports, so that nothing is said of silence
        assert desktop.write() == told
    longer = renewed(
        desktop.license,
        expires_at=desktop.license.terminate_at,
    )
    desktop.office.learn(longer)
    desktop.office.now = end - DAY_S // 2
    desktop.use(0)
    assert "1" not in desktop.write()


def test_a_copied_machine_and_a_silent_one_are_told_with_the_servers_label() -> None:
    desktop = Desktop()
    desktop.use(1)
    twin = desktop.node.clone()
    for _ in range(2):
        for each in (desktop.node, twin):
            desktop.office.now += 60
            if each.report(desktop.office).status == 409:
                each.report(desktop.office)
    assert desktop.write() == ["finding"]
    desktop.office.now += DAY_S + 600
    assert desktop.write() == ["silence"] and desktop.write() == []
    bodies = [each.body for each in desktop.office.store.letters(None, 10)]
    assert all("Server mta1" in each for each in bodies)


def test_without_a_contact_nothing_is_written() -> None:
    desktop = Desktop()
    desktop.use(900)
    LetterClerk(desktop.office.desk).write(desktop.office.store, ["L"], desktop.office.now)
    desktop.office.store.put_contacts(desktop.license.license_id, [])
    LetterClerk(desktop.office.desk).write(
        desktop.office.store, [desktop.license.license_id], desktop.office.now
    )
    assert desktop.told() == []


def test_a_server_licence_does_not_stop_to_be_silent() -> None:
    vendor = Vendor()
    license = vendor.license(Kind.ENTERPRISE_SERVER)
    office = Office(license, vendor=vendor)
    Twin(license, office.sha256(license.license_id)).activate(office)
    office.now += 20 * DAY_S
    LetterClerk(office.desk, [BILLING]).write(office.store, [license.license_id], office.now)
    assert office.store.letters(None, 10) == []


# -- how they leave -----------------------------------------------------------------------------------


class Host:
    """A real SMTP server; `reply` is what it says to DATA."""

    def __init__(self) -> None:
        self.reply = "250 taken"
        self.got: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.reply.startswith("2"):
            self.got.append(envelope)
        return self.reply


@asynccontextmanager
async def a_host() -> AsyncIterator[tuple[Host, int]]:
    host = Host()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(host, hostname="smarthost.example"), "127.0.0.1", 0
    )
    try:
        yield host, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def a_letter(notice: str = "volume_80:L1") -> LetterRow:
    subject = "Sluice licence L1: 80 % – fast verbraucht"
    return LetterRow(notice, BILLING, "L1", subject, "This is about L1.\n", BEGAN, BEGAN)


class Clock:
    now = BEGAN


@asynccontextmanager
async def a_post(path: Path, port: int, clock: Clock) -> AsyncIterator[tuple[Post, Committer]]:
    committer = Committer(SqliteStore(open_books(path)))
    smarthost = Smarthost("127.0.0.1", port, "licences@vendor.example", tls="none")
    try:
        yield Post(committer, smarthost, now=lambda: clock.now), committer
    finally:
        await committer.close()


async def test_a_letter_is_taken_over_once_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with a_host() as (host, port):
        async with a_post(tmp_path / "books.db", port, clock) as (_, committer):
            await committer.run(lambda store: store.add_letter(a_letter()))
        for _ in range(2):
            async with a_post(tmp_path / "books.db", port, clock) as (post, committer):
                await post.turn()
                await committer.run(lambda store: store.add_letter(a_letter()))
                await post.turn()
    assert [each.rcpt_tos for each in host.got] == [[BILLING]]
    content = host.got[0].content
    assert isinstance(content, bytes)
    message = message_from_bytes(content)
    assert message["Auto-Submitted"] == "auto-generated" and message["To"] == BILLING
    assert message["From"] == "licences@vendor.example" and message["Message-ID"]


async def test_what_is_put_off_is_tried_again_and_what_is_refused_is_not(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        a_host() as (host, port),
        a_post(tmp_path / "books.db", port, clock) as (post, committer),
    ):
        await committer.run(lambda store: store.add_letter(a_letter()))
        host.reply = "451 later"
        assert await post.turn() == 0
        host.reply = "250 taken"
        assert await post.turn() == 0, "not before its time"
        clock.now += 61
        assert await post.turn() == 1
        await committer.run(lambda store: store.add_letter(a_letter("expiry_30:L1")))
        host.reply = "554 never"
        assert await post.turn() == 0
        host.reply = "250 taken"
        clock.now += DAY_S
        assert await post.turn() == 0
        rows = {row.notice: row for row in await committer.run(lambda s: s.letters("L1", 10))}
        assert rows["expiry_30:L1"].settled_at and "554" in rows["expiry_30:L1"].failure
        assert rows["volume_80:L1"].tries == 1 and rows["volume_80:L1"].failure == ""


async def test_a_smarthost_that_is_down_for_a_week_ends_a_letter(tmp_path: Path) -> None:
    clock = Clock()
    async with a_host() as (_, port):
        pass
    async with a_post(tmp_path / "books.db", port, clock) as (post, committer):
        await committer.run(lambda store: store.add_letter(a_letter()))
        for _ in range(60):  # ten days
            await post.turn()
            clock.now += 4 * 3_600
        (row,) = await committer.run(lambda store: store.letters(None, 10))
        assert row.settled_at is not None
        assert GIVE_UP_S <= row.settled_at - BEGAN < GIVE_UP_S + DAY_S


def test_no_mail_goes_in_the_clear_over_a_network() -> None:
    Smarthost("localhost", 25, "a@vendor.example", tls="none").check()
    for tls in ("none", "ssl"):
        with pytest.raises(LicenseError):
            Smarthost("smarthost.example", 25, "a@vendor.example", tls=tls).check()


def test_books_of_the_version_before_are_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    open_books(path).close()
    old = apsw.Connection(str(path))
    old.execute("DROP TABLE letter; DROP TABLE contact; PRAGMA user_version = 1").fetchall()
    old.close()
    store = SqliteStore(open_books(path))
    store.begin()
    store.put_contacts("L1", [BILLING, BILLING])
    store.commit()
    assert store.contacts("L1") == [BILLING]
    store.close()
