"""Questions and answers over a link: the asking side and the answering side, the same between any two of our processes.

The answering side offers an object's public async methods. Arguments travel as msgpack and become what the method's annotations
say, so that a method is written once and called the same way from near and far.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, get_type_hints

import msgspec
import structlog

from mta.io.link import Link
from mta.model.errors import ConfigError, SpoolError
from mta.runtime.messages import Answer, Call, Fault

logger = structlog.get_logger()

MAX_ASKED = 10_000  # questions under way; more is a fault of ours


class Sender(Protocol):
    """The way back to who asked."""

    def send(self, message: object) -> None: ...


class CallFailed(Exception):
    """The other process could not do what was asked; `kind` is the name of the exception there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Asker:
    """Asks over one link. Every question is answered, times out, or fails with the link."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._next = 1
        self._asked: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, method: str, timeout_s: float, **arguments: Any) -> Any:
        """The answer. Raises CallFailed, TimeoutError, or ConnectionError when the process is gone."""
        link = self.link
        if link is None or link.is_lost or len(self._asked) >= MAX_ASKED:
            raise ConnectionError("the process does not run")
        number, self._next = self._next, self._next + 1
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            link.send(Call(number, method, arguments))
            async with asyncio.timeout(timeout_s):
                return await future
        finally:
            del self._asked[number]

    def answered(self, message: Answer | Fault) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        future = self._asked.get(message.number)
        if future is None or future.done():
            return
        if isinstance(message, Fault):
            future.set_exception(CallFailed(message.kind, message.text))
        else:
            future.set_result(message.result)

    def lost(self, link: Link) -> None:
        """This link is gone: so are all answers that would have come over it."""
        if link is not self.link:
            return  # another process has taken its place, and was asked already
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionError("the process ended"))


class Answerer:
    """Answers calls with the methods of `targets`; a name is looked for in each of them."""

    def __init__(self, *targets: object) -> None:
        self._targets = targets
        self._tasks: set[asyncio.Task[None]] = set()
        self._methods: dict[
            str, tuple[Callable[..., Coroutine[Any, Any, Any]], dict[str, Any]]
        ] = {}

    def take(self, call: Call, link: Sender) -> None:
        """Begin to answer; the answer goes out over `link` whenever it is there."""
        task = asyncio.get_running_loop().create_task(self._answer(call, link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, call: Call, link: Sender) -> None:
        try:
            method, kinds = self._method(call.method)
            arguments = {
                name: msgspec.convert(value, kinds[name]) for name, value in call.arguments.items()
            }
            answer: Answer | Fault = Answer(call.number, await method(**arguments))
        except (SpoolError, ConfigError) as error:
            answer = Fault(call.number, type(error).__name__, str(error))
        except Exception as error:  # a task border: who asked hears of it
            logger.exception("a fault of ours in an answer to another process", method=call.method)
            answer = Fault(call.number, type(error).__name__, str(error))
        link.send(answer)

    def _method(self, name: str) -> tuple[Callable[..., Coroutine[Any, Any, Any]], dict[str, Any]]:
        found = self._methods.get(name)
        if found is None:
            method = next(
                (getattr(each, name) for each in self._targets if hasattr(each, name)), None
            )
            if name.startswith("_") or not inspect.iscoroutinefunction(method):
                raise LookupError(f"there is no call named {name}")
            found = self._methods[name] = (method, get_type_hints(method))
        return found
