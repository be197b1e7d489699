"""What the spool promises those who stand before its door."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.model.envelope import QueueKey
from mta.model.event import Received
from mta.queue.actions import NEVER, QueueState
from mta.spool.store import Settlement
from mta.spool.words import Filter, QueueRow, SpoolLocked
from tests.support.spools import GMAIL, YAHOO, SpoolUnderTest, deferred, delivered


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[SpoolUnderTest]:
    under_test = SpoolUnderTest(tmp_path / "spool")
    yield under_test
    under_test.close()


def reopened(spool: SpoolUnderTest, **options: Any) -> SpoolUnderTest:
    spool.close()
    return SpoolUnderTest(spool.spool.path, clock=spool.clock, **options)


def addresses(found: tuple[list[Any], float | None]) -> list[str]:
    return [entry.address for entry in found[0]]


def test_what_was_accepted_comes_back_as_it_was_after_a_restart(tmp_path: Path) -> None:
    before = SpoolUnderTest(tmp_path)
    (entry,) = before.accept(("a@gmail.com", GMAIL), job="march", due=1_759_999_999.1234567)
    after = reopened(before)
    (found,), _ = after.due()
    for name in ("number", "key", "address", "notify", "orcpt", "due", "attempts", "may_repeat"):
        assert getattr(found, name) == getattr(entry, name)
    assert found.message == entry.message
    assert after.body(found.message) == (b"Received: here\r\n", b"Subject: a\r\n\r\nb\r\n")
    assert after.spool.start.clean
    after.close()


def test_entries_of_one_message_share_their_message(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    (first, second), _ = spool.due()
    assert first.message is second.message


def test_numbers_never_come_again_even_when_the_spool_was_emptied(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.settle(delivered(entry))
    last_event = spool.spool.last_event
    spool.spool.prune(last_event)
    spool = reopened(spool)
    (again,) = spool.accept()
    assert again.number > entry.number
    assert again.message.number > entry.message.number
    assert spool.ask(spool.spool.events(0, 10))[0][0] > last_event
    spool.close()


def test_a_message_goes_with_its_last_recipient_and_not_before(spool: SpoolUnderTest) -> None:
    first, second = spool.accept(("a@gmail.com", GMAIL), ("b@yahoo.com", YAHOO))
    spool.settle(delivered(first))
    assert not isinstance(spool.body(first.message), Exception)
    spool.settle(delivered(second))
    assert "is not in the spool" in str(spool.body(first.message))
    counts = spool.ask(spool.spool.counts())
    assert (counts.messages, counts.recipients) == (0, 0)


def test_due_gives_entries_by_time_and_number_and_says_when_the_next_is(
    spool: SpoolUnderTest,
) -> None:
    now = spool.clock.time
    spool.accept(("late@gmail.com", GMAIL), due=now - 1)
    spool.accept(("early@gmail.com", GMAIL), ("too@gmail.com", GMAIL), due=now - 2)
    spool.accept(("tomorrow@gmail.com", GMAIL), due=now + 86_400)
    spool.accept(("other@yahoo.com", YAHOO), due=now - 9)
    found = spool.due()
    assert addresses(found) == ["early@gmail.com", "too@gmail.com", "late@gmail.com"]
    assert found[1] == now + 86_400
    known = found[0][0].number
    assert addresses(spool.due(limit=1, exclude=(known,))) == ["too@gmail.com"]
    assert spool.due(QueueKey("nowhere.example", "default")) == ([], None)


def test_a_deferred_entry_keeps_its_history_over_a_restart(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    entry.may_repeat = True
    due = spool.clock.time + 600
    spool.settle(deferred(entry, due))
    spool = reopened(spool)
    assert spool.due() == ([], due)
    spool.clock.time = due
    (found,), _ = spool.due()
    assert (found.attempts, found.first_attempt, found.may_repeat) == (1, due - 60, True)
    (listed,) = spool.ask(spool.spool.list_messages(Filter()))
    assert listed.reply == "451 4.7.1 come back later"
    spool.close()


def test_a_settlement_may_hold_the_entry_instead(spool: SpoolUnderTest) -> None:
    (entry,) = spool.accept()
    spool.settle(Settlement(entry, spool.clock.time, hold="over its quota"))
    assert spool.due() == ([], None)
    (listed,) = spool.ask(spool.spool.list_messages(Filter(held=True)))
    assert listed.hold_reason == "over its quota"


def test_text_that_is_no_utf8_spoils_only_its_own_message(spool: SpoolUnderTest) -> None:
    good, bad, other = spool.draft(), spool.draft(("\ud800@gmail.com", GMAIL)), spool.draft()
    answers = spool.try_accept(good, bad, other)
    assert [answer is None for answer in answers].count(True) == 2
    assert len(spool.due()[0]) == 2
    assert any("could not be written" in text for text in spool.reports)
    assert not spool.broken


def test_completions_of_one_commit_come_in_few_turns_of_the_loop(spool: SpoolUnderTest) -> None:
    spool.try_accept(*[spool.draft() for _ in range(500)])
    # However the thread cut it into batches, nothing like one turn a message.
    assert spool.loop.turns < 50


def test_a_failing_callback_does_not_keep_the_others_from_being_told(
    spool: SpoolUnderTest,
) -> None:
    answers: list[object] = []

    def fail(_: object) -> None:
        raise ValueError("a bug of the caller")

    # One transaction: both wait while the thread is asked something slow.
    spool.spool.accept(spool.draft(), fail)
    spool.spool.accept(spool.draft(), answers.append)
    failed = False
    while not answers:
        try:
            spool.loop.until(lambda: answers)
        except ValueError:
            failed = True
    assert failed


# Queues


def test_due_queues_are_found_once_until_they_are_evicted(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept(("a@gmail.com", GMAIL))
    spool.accept(("b@yahoo.com", YAHOO))
    spool = reopened(spool)
    assert spool.due_queues(limit=1)[0] == ["gmail.com/default"]
    assert spool.due_queues()[0] == ["yahoo.com/default"]
    assert spool.due_queues() == ([], None)
    later = spool.clock.time + 60
    spool.spool.evict(YAHOO, later)
    assert spool.due_queues() == ([], later)
    spool.clock.time = later
    assert spool.due_queues() == (["yahoo.com/default"], None)
    spool.close()


def test_mail_for_a_queue_on_disk_makes_it_due_again_after_a_crash(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept()
    spool.spool.evict(GMAIL, spool.clock.time + 3600)
    spool = reopened(spool)
    assert spool.due_queues() == ([], spool.clock.time + 3600)
    spool.accept()
    spool = reopened(spool)
    assert spool.due_queues()[0] == ["gmail.com/default"]
    spool.close()


def test_evicting_an_empty_queue_removes_its_row_and_a_paused_one_stays(
    spool: SpoolUnderTest,
) -> None:
    (entry,) = spool.accept()
    (other,) = spool.accept(("a@yahoo.com", YAHOO))
    spool.settle(delivered(entry), delivered(other))
    spool.spool.postpone(QueueState(YAHOO, paused=True, reason="by hand"), None)
    spool.spool.evict(GMAIL, None)
    spool.spool.evict(YAHOO, None)
    assert spool.ask(spool.spool.queue_state(GMAIL)) is None
    state = spool.ask(spool.spool.queue_state(YAHOO))
    assert state == QueueState(YAHOO, paused=True, reason="by hand")
    (entry,) = spool.accept()
    assert addresses(spool.due()) == ["someone@gmail.com"]


def test_a_queue_evicted_as_empty_while_mail_for_it_is_on_its_way_is_not_lost(
    tmp_path: Path,
) -> None:
    spool = SpoolUnderTest(tmp_path)
    (entry,) = spool.accept()
    spool.settle(delivered(entry))
    answers: list[object] = []
    spool.spool.accept(spool.draft(), answers.append)
    # The scheduler has not heard of that message: nothing of it is on its loop yet.
    spool.spool.evict(GMAIL, spool.clock.time + 3600)
    spool.loop.until(lambda: answers)
    spool = reopened(spool)
    assert spool.due_queues()[0] == ["gmail.com/default"]
    spool.close()


def test_a_postponed_queue_touches_no_entry_and_survives(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept()
    state = QueueState(GMAIL, spool.clock.time + 600, 3, "backoff", "421 too much")
    spool.spool.postpone(state, None)
    spool = reopened(spool)
    found: list[Any] = []
    spool.spool.due_queues(spool.clock.time, 10, lambda *answer: found.append(answer))
    spool.loop.until(lambda: found)
    assert found == [([state], None)]
    assert len(spool.due()[0]) == 1
    spool.close()


def test_a_paused_queue_is_not_found_until_it_is_resumed(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept()
    spool.spool.postpone(QueueState(GMAIL, paused=True), None)
    spool = reopened(spool)
    assert spool.due_queues() == ([], None)
    spool.accept(("a@yahoo.com", YAHOO))
    spool.due_queues()
    spool.spool.postpone(QueueState(GMAIL), None)
    assert spool.due_queues()[0] == ["gmail.com/default"]
    spool.close()


# Holds


def test_a_held_job_is_passed_over_and_found_again_when_released(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL), job="march")
    spool.accept(("b@gmail.com", GMAIL), job="april")
    (only,) = spool.accept(("c@yahoo.com", YAHOO), job="march")
    spool.due_queues()
    spool.spool.hold_job("march", "wrong link")
    assert addresses(spool.due()) == ["b@gmail.com"]
    assert spool.due(YAHOO) == ([], None)
    spool.spool.evict(YAHOO, None)
    assert spool.due_queues() == ([], None)
    assert spool.ask(spool.spool.holds()).jobs == {"march": "wrong link"}
    spool.spool.release_job("march")
    assert spool.due_queues()[0] == ["yahoo.com/default"]
    assert addresses(spool.due(YAHOO)) == [only.address]


def test_holding_everything_stops_all_and_survives_a_restart(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept()
    spool.spool.hold_everything("maintenance")
    spool = reopened(spool)
    assert spool.due() == ([], None)
    assert spool.due_queues() == ([], None)
    assert spool.ask(spool.spool.holds()).everything == "maintenance"
    spool.spool.release_everything()
    assert spool.due_queues()[0] == ["gmail.com/default"]
    spool.close()


def test_under_a_licence_hold_nothing_is_due_and_nothing_ages(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    (before,) = spool.accept()
    spool.spool.hold_all(spool.clock.time)
    spool.clock.time += 100
    spool = reopened(spool)
    assert spool.due() == ([], None)
    spool.clock.time += 100
    assert spool.spool.licence_held_s(spool.clock.time) == 200
    (during,) = spool.accept()
    spool.clock.time += 50
    spool.spool.release_all(spool.clock.time)
    spool.clock.time += 1000
    held = spool.spool.licence_held_s()
    now = spool.clock.time
    ages = [
        now - entry.message.received_at - (held - entry.message.licence_held_s)
        for entry in spool.ask(spool.spool.oldest(10))
    ]
    assert ages == [1000, 1000]
    assert before.message.licence_held_s == 0
    assert during.message.licence_held_s == 200
    spool.close()


# The operator


def test_filters_find_what_they_name(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL), job="march", sender="x@one.example")
    spool.accept(("b@gmail.com", GMAIL), sender="")
    spool.accept(("c[1]@yahoo.com", YAHOO), sender="y@two.example")
    spool.clock.time += 100
    number = spool.ask(spool.spool.list_messages(Filter()))[2].entry.message.number

    def found(wanted: Filter) -> list[str]:
        return [one.entry.address[0] for one in spool.ask(spool.spool.list_messages(wanted))]

    assert found(Filter(domain="gmail.com")) == ["a", "b"]
    assert found(Filter(job="march")) == ["a"]
    assert found(Filter(sender="")) == ["b"]
    assert found(Filter(sender="*@two.example")) == ["c"]
    assert found(Filter(recipient="c[1]@*")) == ["c"]
    assert found(Filter(message=number)) == ["c"]
    uuid = spool.spool.uuid
    assert found(Filter(message=number, spool=uuid[:8])) == ["c"]
    assert found(Filter(spool=uuid)) == ["a", "b", "c"]
    assert found(Filter(message=number, spool="0" * 8 if uuid[0] != "0" else "f" * 8)) == []
    assert found(Filter(older_than_s=100)) == ["a", "b", "c"]
    assert found(Filter(older_than_s=101)) == []
    assert found(Filter(held=True)) == []


def test_queues_are_found_by_name_with_the_numbers_of_the_table(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL))
    spool.accept(("c@yahoo.com", YAHOO))
    paused = QueueKey("paused.example", "default")
    spool.spool.postpone(QueueState(paused, 0.0, 0, "normal", "", True))
    total, table = spool.ask(spool.spool.queue_table())
    assert (total, len(table)) == (3, 3)

    def named(*keys: QueueKey) -> list[QueueRow]:
        return spool.ask(spool.spool.call(lambda read: read.queues_named(keys)))

    for row in table:
        assert named(row.key) == [row]
    assert sorted(each.key for each in named(*(row.key for row in table))) == sorted(
        row.key for row in table
    )
    assert named(QueueKey("gmail.com", "other"), QueueKey("", "")) == []
    assert named() == []
    names = spool.ask(spool.spool.call(lambda read: read.queue_names("", 10)))
    assert sorted(names) == sorted(str(row.key) for row in table)
    assert spool.ask(spool.spool.call(lambda read: read.queue_names("yahoo", 10))) == [str(YAHOO)]
    assert len(spool.ask(spool.spool.call(lambda read: read.queue_names("", 2)))) == 2


def test_deleting_writes_an_event_each_and_leaves_what_is_in_flight(spool: SpoolUnderTest) -> None:
    entries = [spool.accept((f"{n}@gmail.com", GMAIL))[0] for n in range(3)]
    spool.spool.mark(entries[0])
    last = spool.spool.last_event
    deleted = spool.ask(spool.spool.delete(Filter(), claim=lambda found: found[1:]))
    assert deleted == 1
    assert addresses(spool.due()) == ["0@gmail.com", "1@gmail.com"]
    ((_, event),) = spool.ask(spool.spool.events(last, 10))
    assert (event.kind, event.by, event.recipient) == ("b", "administrator", "2@gmail.com")


def test_held_entries_wait_until_they_are_released(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL))
    spool.accept(("b@gmail.com", GMAIL))
    spool.due_queues()
    assert spool.ask(spool.spool.hold(Filter(recipient="a@*"), "a look first")) == 1
    assert addresses(spool.due()) == ["b@gmail.com"]
    assert spool.ask(spool.spool.release(Filter())) == 1
    assert spool.due_queues()[0] == ["gmail.com/default"]
    assert addresses(spool.due()) == ["a@gmail.com", "b@gmail.com"]


def test_a_large_delete_goes_in_chunks_and_due_is_answered_in_between(
    spool: SpoolUnderTest,
) -> None:
    many = [(f"{n}@gmail.com", GMAIL) for n in range(5000)]
    spool.accept(*many)
    spool.accept(("a@yahoo.com", YAHOO))
    deleting = spool.spool.delete(Filter(domain="gmail.com"))
    assert addresses(spool.due(YAHOO)) == ["a@yahoo.com"]
    assert not deleting.done()
    assert spool.ask(deleting) == 5000
    assert spool.ask(spool.spool.counts()).recipients == 1


def test_the_table_of_queues_adds_up(spool: SpoolUnderTest) -> None:
    spool.accept(*[(f"{n}@gmail.com", GMAIL) for n in range(3)])
    spool.clock.time += 10
    (held,) = spool.accept(("a@yahoo.com", YAHOO))
    spool.settle(Settlement(held, None, hold="x"))
    spool.spool.postpone(QueueState(YAHOO, 5.0, 2, "suspend", "dead"), None)
    _, (gmail, yahoo) = spool.ask(spool.spool.queue_table())
    assert (gmail.key, gmail.recipients, gmail.held) == (GMAIL, 3, 0)
    assert gmail.size_bytes == 3 * held.message.size
    assert gmail.oldest_at == gmail.due == spool.clock.time - 10
    assert (yahoo.recipients, yahoo.held, yahoo.due) == (1, 1, None)
    assert (yahoo.mode, yahoo.attempts, yahoo.reason) == ("suspend", 2, "dead")
    _, by_domain = spool.ask(spool.spool.queue_table(1, "domain"))
    assert [row.key for row in by_domain] == [GMAIL]
    for sort in ("recipients", "bytes", "oldest", "due", "domain"):
        number, (only,) = spool.ask(spool.spool.queue_table(10, sort, "oo.com/def"))
        assert (number, only.key) == (1, YAHOO)
    with pytest.raises(ValueError, match="sorted by"):
        spool.ask(spool.spool.queue_table(1, "size"))


def test_a_retried_queue_wakes_although_it_sleeps_on_disk(spool: SpoolUnderTest) -> None:
    (entry,) = spool.accept()
    later = spool.clock.time + 3600
    spool.settle(deferred(entry, later))
    spool.spool.evict(GMAIL, later)
    assert spool.due_queues() == ([], later)
    assert spool.ask(spool.spool.make_due(Filter(domain="gmail.com"), spool.clock.time)) == 1
    assert spool.due_queues()[0] == ["gmail.com/default"]
    assert addresses(spool.due()) == [entry.address]
    (listed,) = spool.ask(spool.spool.list_messages(Filter()))
    assert listed.reply == "451 4.7.1 come back later"


# Events


def test_a_subscriber_gets_each_event_after_its_commit_and_the_table_has_the_same(
    spool: SpoolUnderTest,
) -> None:
    heard: list[tuple[int, Any]] = []
    spool.spool.subscribe(heard.extend)
    (entry,) = spool.accept()
    spool.settle(delivered(entry))
    assert [type(event).__name__ for _, event in heard] == ["Received", "Attempt"]
    assert spool.ask(spool.spool.events(0, 10)) == heard
    assert spool.ask(spool.spool.events(heard[0][0], 10)) == heard[1:]
    assert isinstance(heard[0][1], Received)


def test_pruning_takes_chunks_and_the_pending_bytes_follow(spool: SpoolUnderTest) -> None:
    spool.try_accept(*[spool.draft() for _ in range(3000)])
    assert spool.spool.pending_event_bytes > 0
    spool.spool.prune(spool.spool.last_event - 1)
    # A chunk goes with every turn of the thread; so does an answer.
    left = [spool.ask(spool.spool.counts()).events for _ in range(5)]
    assert left[0] > 1
    assert left[-1] == 1
    ((_, event),) = spool.ask(spool.spool.events(0, 10))
    assert isinstance(event, Received)
    assert 0 < spool.spool.pending_event_bytes < 200


# The file


def test_a_second_owner_is_told_who_the_first_is(spool: SpoolUnderTest) -> None:
    import os

    with pytest.raises(SpoolLocked, match=f"process {os.getpid()}"):
        SpoolUnderTest(spool.spool.path)


def test_small_values_survive(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.spool.put_meta("governor", b"\x00counts")
    spool.spool.put_meta("old", b"1")
    spool.spool.put_meta("old", None)
    uuid = spool.spool.uuid
    spool = reopened(spool)
    assert spool.spool.meta("governor") == b"\x00counts"
    assert spool.spool.meta("old") is None
    assert spool.spool.uuid == uuid
    spool.close()


def test_free_pages_count_as_free_space(spool: SpoolUnderTest) -> None:
    space = spool.spool.free_space()
    assert 0 < space.free_bytes <= space.total_bytes
    assert not space.is_under(0.0)
    assert space.is_under(space.total_bytes + 1)


MOVED = QueueKey("gmail.com", "other")


def reroute(spool: SpoolUnderTest, wanted: Filter, target: QueueKey = MOVED) -> int:
    """Move what matches; how many were."""
    told: list[set[QueueKey]] = []
    future = spool.spool.reroute(
        wanted,
        lambda entry: target,
        lambda entries: [each for each in entries if each.key != target],
        told.append,
    )
    moved = spool.ask(future)
    assert set().union(*told) == ({target} if moved else set())
    return moved


def test_what_is_rerouted_is_in_its_new_queue_as_it_was_after_a_restart(tmp_path: Path) -> None:
    spool = SpoolUnderTest(tmp_path)
    spool.accept(("a@gmail.com", GMAIL), ("b@gmail.com", GMAIL), job="march")
    spool.accept(("c@gmail.com", GMAIL))
    assert reroute(spool, Filter(job="march")) == 2
    assert reroute(spool, Filter(job="march")) == 0
    spool = reopened(spool)
    assert addresses(spool.due(GMAIL)) == ["c@gmail.com"]
    moved, _ = spool.due(MOVED)
    assert [(each.address, each.key, each.message.job) for each in moved] == [
        ("a@gmail.com", MOVED, "march"),
        ("b@gmail.com", MOVED, "march"),
    ]
    spool.close()


def test_what_is_in_flight_is_not_rerouted_and_what_is_held_stays_held(
    spool: SpoolUnderTest,
) -> None:
    (flying,) = spool.accept(("a@gmail.com", GMAIL))
    spool.accept(("b@gmail.com", GMAIL))
    spool.ask(spool.spool.hold(Filter(recipient="b@gmail.com"), "ask first"))
    spool.spool.mark(flying)
    assert reroute(spool, Filter(vmta="default")) == 1
    (listed,) = spool.ask(spool.spool.list_messages(Filter(vmta="other")))
    assert (listed.entry.address, listed.held, listed.hold_reason) == (
        "b@gmail.com",
        True,
        "ask first",
    )
    assert addresses(spool.due(GMAIL)) == ["a@gmail.com"]


def found_due(spool: SpoolUnderTest) -> list[QueueKey]:
    spool.clock.time += 1
    answers: list[list[QueueState]] = []
    spool.spool.due_queues(spool.clock.now(), 100, lambda states, _: answers.append(states))
    spool.loop.until(lambda: answers)
    return [state.key for state in answers[0]]


def test_parked_queues_are_found_only_when_they_are_woken(spool: SpoolUnderTest) -> None:
    for key in (GMAIL, YAHOO, MOVED):
        spool.accept((f"a@{key.domain}", key))
        spool.spool.evict(key, NEVER)
    assert found_due(spool) == []
    woken: list[bool] = []
    spool.spool.wake_parked(["other"], lambda: woken.append(True))
    spool.loop.until(lambda: woken)
    assert found_due(spool) == [MOVED]
    spool.spool.wake_parked(None, lambda: woken.append(True))
    spool.loop.until(lambda: len(woken) == 2)
    assert sorted(found_due(spool)) == [GMAIL, YAHOO]


def test_a_queue_parked_in_the_same_commit_is_woken_too(spool: SpoolUnderTest) -> None:
    spool.accept(("a@gmail.com", GMAIL))
    woken: list[bool] = []
    spool.spool.evict(GMAIL, NEVER)
    spool.spool.wake_parked(["default"], lambda: woken.append(True))
    spool.loop.until(lambda: woken)
    assert found_due(spool) == [GMAIL]


def test_a_parked_queue_that_was_emptied_by_a_reroute_is_looked_at_and_goes(
    spool: SpoolUnderTest,
) -> None:
    spool.accept(("a@gmail.com", GMAIL))
    spool.spool.evict(GMAIL, NEVER)
    assert reroute(spool, Filter()) == 1
    assert GMAIL in found_due(spool)
    spool.spool.evict(GMAIL, NEVER)
    assert spool.ask(spool.spool.queue_state(GMAIL)) is None


def test_many_parked_queues_are_woken_in_chunks(spool: SpoolUnderTest) -> None:
    keys = [QueueKey(f"d{number}.example", "a") for number in range(2500)]
    spool.accept(*((f"x@{key.domain}", key) for key in keys))
    for key in keys:
        spool.spool.evict(key, NEVER)
    chunks: list[bool] = []
    spool.spool.wake_parked(["a"], lambda: chunks.append(True))
    spool.loop.until(lambda: len(chunks) == 3)
    assert len({key for _ in range(26) for key in found_due(spool)}) == 2500
