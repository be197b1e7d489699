"""The lab's DNS server in a thread of its own, for tests that are not async."""

import asyncio
import threading
from types import TracebackType
from typing import Self

from mta.lab.nameserver import LabDns


class Names:
    """A context manager; `dns` may be added to before the server under test asks."""

    def __init__(self) -> None:
        self.dns = LabDns()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def address(self) -> str:
        """`ip:port`, as `[dns] servers` takes it."""
        return self.dns.address

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.dns.start(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self.dns.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
