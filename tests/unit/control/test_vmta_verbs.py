"""The verbs of virtual MTAs over several workers: sums, states, who is silent, and what is refused before anybody is asked."""

from typing import Any

import pytest

from mta.control.protocol import ControlError
from mta.control.registry import NoArguments
from mta.control.vmta_verbs import RerouteArgs, VmtaArgs, VmtaVerbs
from tests.support.faces import Face, GoneFace, SilentFace

Row = dict[str, Any]


def told(vmta: str, count: int, state: str = "running") -> Row:
    """What a worker says of one."""
    sums = dict.fromkeys(("recipients", "queues", "connections"), count)
    of_time = {"delivered": count, "delivered_last_minute": count}
    return (
        {"vmta": vmta, "state": state, "reason": "" if state == "running" else state}
        | sums
        | of_time
    )


class Server:
    """Two virtual MTAs, one pool, and a disk that may be full."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.states: dict[str, str] = {}

    def vmta_rows(self) -> list[Row]:
        return [{"vmta": name, "addresses": [f"192.0.2.{n}"]} for n, name in enumerate("ab")]

    def pool_names(self) -> list[str]:
        return ["p"]

    async def put_vmta_state(self, name: str, state: str, by: str) -> None:
        if self.is_full:
            raise OSError("no room")
        self.states[name] = state


def four() -> list[Face]:
    """Two that answer, one that never does, one whose process has just died."""
    first = Face(0, vmta_rows=[told("a", 1), told("old", 2, "gone")])
    third = Face(2, vmta_rows=[told("a", 4, "paused"), told("b", 8)])
    return [first, SilentFace(1), third, GoneFace(3)]


def verbs(faces: list[Face], server: Server | None = None) -> VmtaVerbs:
    return VmtaVerbs(server or Server(), faces, look_s=0.2, mass_s=0.2)


async def test_rows_are_summed_and_one_that_is_gone_stands_last() -> None:
    answer = await verbs(four()).vmtas(NoArguments())
    assert [(row["vmta"], row["state"], row["recipients"]) for row in answer["vmtas"]] == [
        ("a", "paused", 5),
        ("b", "running", 8),
        ("old", "gone", 2),
    ]
    assert answer["vmtas"][0]["addresses"] == ["192.0.2.0"]
    assert answer["vmtas"][2]["addresses"] == []
    assert answer["silent"] == [1, 3]


async def test_where_no_worker_answers_the_configuration_is_shown() -> None:
    answer = await verbs([GoneFace(0)]).vmtas(NoArguments())
    assert [(row["vmta"], row["state"]) for row in answer["vmtas"]] == [
        ("a", "unknown"),
        ("b", "unknown"),
    ]


async def test_a_state_is_kept_and_every_worker_told() -> None:
    server, faces = Server(), four()
    of = verbs(faces, server)
    assert await of.pause(VmtaArgs(" A ")) == {"vmta": "a", "state": "paused", "silent": [1, 3]}
    assert (await of.drain(VmtaArgs("b")))["state"] == "drained"
    assert server.states == {"a": "paused", "b": "drained"}
    assert (await of.resume(VmtaArgs("a")))["state"] == "running"
    assert faces[0].asked == ["look at vmtas"] * 3


async def test_what_cannot_be_kept_on_disk_is_not_done() -> None:
    faces = four()
    with pytest.raises(ControlError, match="nothing was changed: no room"):
        await verbs(faces, Server(is_full=True)).pause(VmtaArgs("a"))
    assert faces[0].asked == []


async def test_a_reroute_asks_every_worker_with_the_queue_taken_apart() -> None:
    faces = four()
    answer = await verbs(faces).reroute(RerouteArgs(to="P", queue="d.example/a", dry_run=True))
    assert answer == {"to": "p", "would_move": 4, "silent": [1, 3]}
    assert faces[0].asked == ["reroute d.example/a to p dry"]
    assert (await verbs(four()).reroute(RerouteArgs(to="b", all=True)))["moved"] == 4


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (RerouteArgs(to="bb", all=True), "no virtual MTA or pool 'bb'"),
        (RerouteArgs(to="b"), "that would move all mail"),
        (RerouteArgs(to="b", queue="d.example/a", vmta="b"), "is of another"),
        (RerouteArgs(to="b", queue="d.example/a", domain="e.example"), "is of another"),
    ],
)
async def test_a_reroute_that_cannot_be_meant_asks_nobody(args: RerouteArgs, text: str) -> None:
    faces = four()
    with pytest.raises(ControlError, match=text):
        await verbs(faces).reroute(args)
    assert faces[0].asked == []
