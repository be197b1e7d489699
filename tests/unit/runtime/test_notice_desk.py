"""The desk of notices: who is told what of one spool's mail, with a real spool, and an intake that stores into it or refuses."""

import asyncio
import email
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from mta.config.notice_texts import shipped_wordings
from mta.ingress.intake import Intake, Submission
from mta.metrics.counts import Counts
from mta.model.envelope import Draft, Entry, Message, QueueKey
from mta.model.event import Attempt, local_attempt
from mta.model.reply import Reply, a_reply
from mta.model.units import Rate
from mta.policy.notices import NoticeBook, NoticeLimit
from mta.policy.rules import ServerRules, SourceRules
from mta.runtime import notices
from mta.runtime.notices import RETRY_S, NoticeDesk
from mta.spool.store import Settlement, Spool, open_spool
from tests.support.spools import BOOT, FakeClock

KEY = QueueKey("example.net", "default")
OK = a_reply(250, "2.0.0", "ok")


class Door:
    """An intake: what it takes stands in `mail`, and in the spool."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.answer = OK
        self.mail: list[tuple[Submission, bytes]] = []

    def begin(self, submission: Submission) -> "Door":
        self.submission = submission
        return self

    def add(self, data: bytes) -> None:
        self.data = data

    def finish(self, done: Callable[[Reply], None]) -> None:
        if self.answer.code != 250:
            done(self.answer)
            return
        self.mail.append((self.submission, self.data))
        message = Message(0, 0, "", 10, 0.0, "default", source_kind="notice")
        to = self.submission.recipients[0].address
        draft = Draft(message, [Entry(message, KEY, to)], b"", b"x\r\n")
        draft.answers = self.submission.answers
        self.spool.accept(draft, lambda error: done(OK))

    def parsed(self) -> list[Any]:
        return [email.message_from_bytes(data) for _, data in self.mail]


class Stage:
    """A desk with all it needs."""

    def __init__(self, place: Path) -> None:
        self.clock = FakeClock()
        self.spool = open_spool(
            place,
            clock=self.clock,
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_broken=lambda error: None,
            on_report=lambda text: None,
            boot=BOOT,
        )
        self.door = Door(self.spool)
        self.counts = Counts()
        self.rules = ServerRules(
            "mta.example.com", "spool", notices="send", notice_delay=1.0, notice_rate=Rate(2, 60.0)
        )
        self.sources: tuple[SourceRules, ...] = ()
        self.desk = NoticeDesk(
            self.spool,
            intake=cast("Intake", self.door),
            limit=NoticeLimit(),
            clock=self.clock,
            counts=self.counts,
            rules=lambda: self.rules,
            book=lambda: NoticeBook(self.rules, self.sources),
            wordings=shipped_wordings,
        )

    async def end(
        self,
        *kinds: str,
        header: str = "Subject: a",
        notify: str = "",
        sender: str = "me@a.example",
    ) -> list[bool]:
        """A message whose recipients end so (b, d); whether each is owed a notice."""
        message = Message(0, 0, sender, 10, self.clock.now(), "default")
        entries = [
            Entry(message, KEY, f"{kind}{n}@example.net", notify=notify)
            for n, kind in enumerate(kinds)
        ]
        body = f"{header}\r\n\r\nb\r\n".encode()
        await self._done(lambda done: self.spool.accept(Draft(message, entries, b"", body), done))
        settlements = []
        for entry, kind in zip(entries, kinds, strict=True):
            settlement = Settlement(entry, None, self._event(entry, kind))
            settlement.owes_notice = self.desk.owes(entry, cast("Attempt", settlement.event))
            settlements.append(settlement)
        await self._done(lambda done: self.spool.settle(settlements, lambda: done(None)))
        return [each.owes_notice for each in settlements]

    def _event(self, entry: Entry, kind: str) -> Attempt:
        status = "2.0.0" if kind == "d" else "5.1.1"
        return local_attempt(entry, kind, self.clock.now(), enhanced=status, text="so", code=550)

    async def _done(self, begin: Callable[[Callable[[Any], None]], object]) -> None:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        begin(done.set_result)
        assert await done is None

    async def look(self, after: float = 1.0) -> int:
        self.clock.time += after
        return await self.desk.look()

    async def owed(self) -> list[int]:
        return (await asyncio.wrap_future(self.spool.owed_notices(1e12, 100)))[0]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    assert stage.counts.bugs == 0
    await stage.spool.close()


async def test_a_notice_ends_the_debt_and_is_written_once(stage: Stage) -> None:
    assert await stage.end("b", "d", "b") == [True, False, True]
    assert await stage.look(0.5) == 0
    assert await stage.look() == 1
    assert await stage.look() == 0
    ((submission, _),) = stage.door.mail
    assert (submission.sender, submission.source_kind) == ("", "notice")
    assert submission.recipients[0].notify == "NEVER"
    assert await stage.owed() == []


async def test_a_notice_that_cannot_be_stored_now_is_written_later(stage: Stage) -> None:
    stage.door.answer = a_reply(452, "4.3.1", "no room")
    await stage.end("b")
    assert await stage.look() == 0
    stage.door.answer = OK
    assert await stage.look(1.0) == 0
    assert await stage.look(RETRY_S) == 1


async def test_a_notice_that_never_can_be_stored_is_forgotten_with_a_line_in_the_log(
    stage: Stage,
) -> None:
    stage.door.answer = a_reply(550, "5.6.0", "no")
    await stage.end("b")
    with capture_logs() as log:
        assert await stage.look() == 0
    assert "refused by ourselves" in log[0]["event"]
    assert await stage.owed() == []


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Subject: a", ["failed", "relayed"]),
        ("Precedence: list", ["failed"]),
        ("Auto-Submitted: auto-generated", ["failed"]),
        ("Auto-Submitted: no", ["failed", "relayed"]),
        ("Content-Type: multipart/report; boundary=x", []),
    ],
)
async def test_robots_hear_of_failures_alone_and_reports_of_nothing(
    stage: Stage, header: str, told: list[str]
) -> None:
    await stage.end("b", "d", header=header, notify="SUCCESS,FAILURE")
    await stage.look()
    found = [
        block["Action"]
        for notice in stage.door.parsed()
        for block in notice.get_payload(1).get_payload()[1:]
    ]
    assert found == told
    assert await stage.owed() == []


async def test_what_is_beyond_the_rate_is_told_in_a_digest_when_the_time_is_over(
    stage: Stage,
) -> None:
    for _ in range(5):
        await stage.end("b")
    assert await stage.look() == 2
    assert stage.counts.notices_folded == 3
    assert await stage.owed() == []
    assert await stage.look(30.0) == 0
    assert await stage.look(31.0) == 1
    assert await stage.look(90.0) == 0
    *_, digest = stage.door.parsed()
    assert digest.get_content_type() == "multipart/mixed"
    assert len(digest.get_payload()) == 1 + 3
    assert stage.counts.notices == 3


async def test_a_digest_that_is_full_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MAX_DIGEST", 3)
    for _ in range(4):
        await stage.end("b", "b")
    with capture_logs() as log:
        assert await stage.look() == 2
    assert [(each["event"][:10], each["recipients"]) for each in log] == [("the digest", 1)]
    assert stage.counts.notices_waived == 1
    assert await stage.look(61.0) == 1
    _, *reports = stage.door.parsed()[-1].get_payload()
    assert sum(len(report.get_payload()) - 1 for report in reports) == 3


async def test_a_reload_that_wants_no_notices_ends_what_is_owed(stage: Stage) -> None:
    for _ in range(3):
        await stage.end("b")
    await stage.look()
    await stage.end("b")
    stage.sources = (SourceRules("all", senders=("*@a.example",), notices="never"),)
    assert await stage.end("b") == [False]
    assert await stage.look(61.0) == 0
    assert await stage.look(1.0) == 0
    assert await stage.owed() == []
    assert await asyncio.wrap_future(stage.spool.digests("", 10)) == []


async def test_one_mailbox_that_is_told_of_many_senders_has_one_share(stage: Stage) -> None:
    stage.sources = (SourceRules("all", senders=("*@*.example",), notices="to:ops@home.test"),)
    for number in range(4):
        await stage.end("b", sender=f"me@s{number}.example")
    assert await stage.look() == 2
    assert {submission.recipients[0].address for submission, _ in stage.door.mail} == {
        "ops@home.test"
    }
    assert await stage.look(61.0) == 1
    assert b"X-Sluice-Sender: rfc822; me@s3.example" in stage.door.mail[-1][1]


async def test_a_digest_tells_robots_of_failures_alone(stage: Stage) -> None:
    for _ in range(4):
        await stage.end("b", "d", header="Precedence: bulk", notify="SUCCESS,FAILURE")
    assert await stage.look() == 2
    assert await stage.look(61.0) == 1
    (_, *reports) = stage.door.parsed()[-1].get_payload()
    found = [block["Action"] for each in reports for block in each.get_payload()[1:]]
    assert found == ["failed", "failed"]
    assert await stage.owed() == []
