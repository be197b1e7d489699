"""The governor's desks of two workers: what one holds and the other waits for."""

from typing import Any

from mta.runtime.desk import Desk
from mta.runtime.messages import Granted, Release, Request, Wanted
from tests.unit.queue.test_governor import a_governor


class Link:
    """What the worker was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


def test_a_worker_that_holds_all_connections_of_a_destination_is_asked_for_one_by_another() -> None:
    governor, loop = a_governor()
    links = [Link(), Link()]
    desks = [Desk(governor, link, number) for number, link in enumerate(links)]

    def wanted(key: str, waiting: int, yielding: int) -> None:
        for desk in desks:
            desk.wanted(key, waiting, yielding)

    governor.on_wanted(wanted)
    demand = (("server", 3),)
    for number in (1, 2, 3):
        desks[0].takes[Request](Request(number, "big.example/default", demand))
    desks[1].takes[Request](Request(1, "big.example/default", demand))
    loop.turn()
    assert [each.request for each in links[0].sent if isinstance(each, Granted)] == [1, 2, 3]
    assert Wanted("server", 1, 1) in links[0].sent
    desks[0].takes[Release](Release(2, True))
    loop.turn()
    assert Granted(1) in links[1].sent
    # Two against one is as even as three can be: nobody is asked any more.
    desks[1].takes[Request](Request(2, "big.example/default", demand))
    loop.turn()
    assert links[0].sent[-1] == Wanted("server", 1, 0)
