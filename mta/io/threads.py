"""A few threads for work that would hold up the loop: signatures (the library releases the GIL) and password hashes.

Bounded, and cheap: results of many jobs come back to the loop in one wake-up, where concurrent.futures costs one each.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Post = Callable[[Callable[[], None]], Any]


class Workshop:
    """`threads` threads and at most `limit` jobs under way; answers come on the loop, through `post`."""

    def __init__(self, name: str, post: Post, *, threads: int, limit: int) -> None:
        self._post = post
        self._limit = limit
        self._under_way = 0  # touched on the loop only
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = (
            queue.SimpleQueue()
        )
        self._finished: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = threading.Lock()  # held: a wake-up is on its way
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_full(self) -> bool:
        return self._under_way >= self._limit

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> bool:
        """Run `job` in a thread; `done` gets its result, or the exception it raised. False: full, ask again later."""
        if self.is_full:
            return False
        self._under_way += 1
        self._jobs.put((job, done))
        return True

    def close(self) -> None:
        """End the threads once they are through with what they have."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            try:
                result: Any = job()
            except Exception as error:  # a thread's border: the caller gets it as its answer
                result = error
            self._finished.append((done, result))
            if self._woken.acquire(blocking=False):
                try:
                    self._post(self._answer)
                except RuntimeError:
                    return  # the loop is closed: nobody waits for an answer any more

    def _answer(self) -> None:
        # Released first: a job finishing from here on wakes us again, at worst for nothing.
        self._woken.release()
        while self._finished:
            done, result = self._finished.popleft()
            self._under_way -= 1
            done(result)
