"""The verbs over several workers: within their time, complete where workers answer, and naming those that do not."""

import time
from typing import Any

import pytest

from mta.control.arguments import (
    ChangeArgs,
    ExplainArgs,
    FilterArgs,
    HoldArgs,
    QueueArgs,
    QueuesArgs,
    ResolveArgs,
)
from mta.control.asking import Times
from mta.control.message_verbs import MessageVerbs
from mta.control.protocol import ControlError
from mta.control.registry import NoArguments, Registry
from mta.control.verbs import Verbs
from tests.support.faces import Face, FaultyFace, GoneFace, ServerFake, SilentFace, a_queue

QUICK = Times(look_s=0.2, change_s=0.2, mass_s=0.2)
IDS = ("aaaaaaaa-17", "bbbbbbbb-17")


def a_recipient(name: str, number: int, at: float = 1.0) -> dict[str, Any]:
    return {"id": name, "message": number, "received_at": at, "recipient": "r@d.example"}


def verbs(*faces: Face) -> Verbs:
    server = ServerFake()
    return Verbs(server, server, faces, QUICK)


def message_verbs(*faces: Face) -> MessageVerbs:
    return MessageVerbs(faces, QUICK)


def four() -> list[Face]:
    """Two that answer, one that never does, one whose process has just died."""
    return [
        Face(0, [a_queue("a.example", 2)], [a_recipient(IDS[0], 17)], totals={"delivered": 5}),
        SilentFace(1),
        Face(2, [a_queue("a.example", 3)], [a_recipient(IDS[1], 17)], totals={"delivered": 6}),
        GoneFace(3),
    ]


LOOKS = {
    "status": lambda each: each.status(NoArguments()),
    "queues": lambda each: each.queues(QueuesArgs()),
    "queue.show": lambda each: each.queue_show(QueueArgs("a.example")),
    "explain": lambda each: each.explain(ExplainArgs("a.example")),
}
CHANGES = {
    "pause": lambda each: each.queue_pause(QueueArgs("a.example")),
    "resume": lambda each: each.queue_resume(QueueArgs("a.example")),
    "retry": lambda each: each.queue_retry(QueueArgs("a.example")),
}
OF_MESSAGES = {
    "messages.list": lambda each: each.list(FilterArgs()),
    "messages.show": lambda each: each.show(FilterArgs(message="17")),
    "hold": lambda each: each.hold(HoldArgs(all=True)),
    "release": lambda each: each.release(ChangeArgs(all=True)),
    "retry": lambda each: each.retry(ChangeArgs(all=True)),
    "delete": lambda each: each.delete(ChangeArgs(all=True)),
    "dry run": lambda each: each.delete(ChangeArgs(all=True, dry_run=True)),
}


@pytest.mark.parametrize("name", [*LOOKS, *CHANGES, *OF_MESSAGES])
async def test_every_verb_names_the_silent_and_keeps_its_time(name: str) -> None:
    began = time.monotonic()
    if name in OF_MESSAGES:
        answer = await OF_MESSAGES[name](message_verbs(*four()))
    else:
        answer = await {**LOOKS, **CHANGES}[name](verbs(*four()))
    assert answer["silent"] == [1, 3]
    assert time.monotonic() - began < 1.0


async def test_a_look_with_a_silent_worker_takes_a_second_and_no_longer() -> None:
    began = time.monotonic()
    await Verbs(ServerFake(), ServerFake(), four()).queues(QueuesArgs())
    assert time.monotonic() - began < Times().look_s + 0.3
    assert Times().look_s == 1.0


async def test_status_lists_the_workers_and_adds_them_up() -> None:
    answer = await verbs(*four()).status(NoArguments())
    assert [each["number"] for each in answer["workers"]] == [0, 2]
    assert answer["totals"]["delivered"] == 11
    assert answer["loop_lag_p99_ms"] == 2.0
    assert answer["version"] == "1.2.3"


async def test_status_with_nobody_answering_is_an_answer() -> None:
    answer = await verbs(SilentFace(0)).status(NoArguments())
    assert (answer["workers"], answer["totals"], answer["silent"]) == ([], {}, [0])


async def test_a_queue_of_several_workers_is_one_row_everywhere() -> None:
    answer = await verbs(*four()).queues(QueuesArgs())
    assert [(row["queue"], row["recipients"]) for row in answer["queues"]] == [
        ("a.example/default", 5)
    ]
    assert (answer["total"], answer["total_is_exact"]) == (1, False)  # two did not say
    assert (await verbs(*four()).queue_show(QueueArgs("a.example")))["recipients"] == 5


async def test_what_cannot_be_sorted_or_counted_is_refused() -> None:
    with pytest.raises(ControlError, match="colour"):
        await verbs(*four()).queues(QueuesArgs(sort="colour"))
    for limit in (0, -1, 10_001):
        with pytest.raises(ControlError, match="limit"):
            await verbs(*four()).queues(QueuesArgs(limit=limit))


async def test_a_number_shows_the_messages_of_every_spool_each_with_its_id() -> None:
    answer = await message_verbs(*four()).show(FilterArgs(message=17))
    assert [row["id"] for row in answer["recipients"]] == list(IDS)


async def test_what_is_not_found_is_not_denied_for_those_who_did_not_answer() -> None:
    for asked in (
        message_verbs(*four()).show(FilterArgs(message="4711")),
        verbs(*four()).explain(ExplainArgs("4711")),
        verbs(*four()).queue_show(QueueArgs("b.example")),
    ):
        with pytest.raises(ControlError, match="in the workers that answered") as caught:
            await asked
        assert "1, 3" in caught.value.hint
    with pytest.raises(ControlError) as caught:
        await message_verbs(Face(0)).show(FilterArgs(message="4711"))
    assert "accounting" in caught.value.hint


async def test_a_number_that_several_spools_have_is_not_deleted_on_a_guess() -> None:
    faces = four()
    with pytest.raises(ControlError, match=f"{IDS[0]}, {IDS[1]}"):
        await message_verbs(*faces).delete(ChangeArgs(message=17))
    assert "delete" not in faces[0].asked
    answer = await message_verbs(faces[0], Face(5)).delete(ChangeArgs(message=17))
    assert answer["deleted"] == 1


async def test_what_no_message_can_be_is_refused() -> None:
    each = message_verbs(*four())
    for asked, words in (
        (each.list(FilterArgs(status="lost")), "status"),
        (each.list(FilterArgs(status="held", held=False)), "held"),
        (each.hold(HoldArgs(held=True)), "cannot be held"),
        (each.release(ChangeArgs(held=False)), "cannot be released"),
        (each.release(ChangeArgs(status="due", held=False)), "cannot be released"),
        (each.retry(ChangeArgs(status="held")), "cannot be due"),
        (each.list(FilterArgs(larger_than=1 << 70)), "beyond"),
        (each.list(FilterArgs(older_than_s=-1.0)), "negative"),
        (each.hold(HoldArgs()), "hold all mail"),
        (each.release(ChangeArgs()), "release all mail"),
        (each.retry(ChangeArgs()), "retry all mail"),
        (each.delete(ChangeArgs()), "delete all mail"),
    ):
        with pytest.raises(ControlError, match=words):
            await asked


async def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(ControlError, match="no message id"):
        await message_verbs(*four()).list(FilterArgs(message="x-y"))


@pytest.mark.parametrize("first", [SilentFace(0), GoneFace(0)])
async def test_resolve_takes_the_first_worker_that_answers(first: Face) -> None:
    second, third = Face(1), Face(2)
    answer = await verbs(first, second, third).resolve(ResolveArgs("D.example."))
    assert answer["site"] == "by worker 1"
    assert first.asked == second.asked == ["resolve d.example/default"]
    assert third.asked == []


async def test_resolve_with_nobody_there_says_so() -> None:
    with pytest.raises(ControlError, match="no worker answers"):
        await verbs(GoneFace(0), GoneFace(1)).resolve(ResolveArgs("d.example"))


async def test_a_fault_of_ours_is_not_taken_for_silence() -> None:
    for asked in (
        verbs(Face(0), FaultyFace(1)).status(NoArguments()),
        verbs(FaultyFace(0)).resolve(ResolveArgs("d.example")),
    ):
        with pytest.raises(KeyError):
            await asked


def test_no_verb_ends_before_its_workers_may() -> None:
    """Else the operator would hear of a time-out, and not whose."""
    registry = Registry()
    Verbs(ServerFake(), ServerFake(), four()).register(registry)
    MessageVerbs(four()).register(registry)
    deadlines = {verb.name: verb.deadline_s for verb in registry.verbs}
    for name in ("queue.retry", "messages.hold", "messages.release", "messages.delete"):
        assert deadlines[name] > Times().mass_s
    assert min(deadlines.values()) > Times().change_s + Times().look_s
