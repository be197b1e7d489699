import asyncio
from itertools import pairwise

from mta.dns.exchange import WORK_A_TURN, Pace


async def test_work_is_done_in_order_and_only_so_much_a_turn() -> None:
    pace, done = Pace(), list[int]()
    count = 3 * WORK_A_TURN + 1
    for number in range(count):
        pace.soon(lambda number=number: done.append(number))  # type: ignore[misc]
    sizes = [0]
    while len(done) < count:
        await asyncio.sleep(0)
        sizes.append(len(done))
    assert done == list(range(count))
    assert max(b - a for a, b in pairwise(sizes)) <= WORK_A_TURN
