"""Asks every worker the same, side by side, each with the same deadline; who does not answer costs nobody else's answer.

A worker is *silent* when it takes too long or its process has gone. Any other exception is a fault of ours and is raised.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """A worker, as far as asking goes."""

    @property
    def number(self) -> int: ...


# A verb may take so much longer than its workers: it must be able to say who is silent.
SLACK_S = 5.0


@dataclass(frozen=True, slots=True)
class Times:
    """How long workers have to answer."""

    look_s: float = 1.0
    change_s: float = 5.0  # to change one thing
    mass_s: float = 120.0  # to change, or count, as much as there is

    @property
    def mass_verb_s(self) -> float:
        """The deadline of a verb that changes as much as there is."""
        return self.mass_s + SLACK_S


W = TypeVar("W", bound=Numbered)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What they said by worker's number, in the workers' order, and the numbers of the silent."""

    by_worker: dict[int, T]
    silent: list[int]

    @property
    def all(self) -> list[T]:
        """The answers alone."""
        return list(self.by_worker.values())


async def ask_all(
    workers: Sequence[W], question: Callable[[W], Awaitable[T]], *, deadline_s: float
) -> Answers[T]:
    """Every worker's answer within `deadline_s`, in all, not each after the other."""

    async def ask(worker: W) -> T:
        async with asyncio.timeout(deadline_s):
            return await question(worker)

    said = await asyncio.gather(*map(ask, workers), return_exceptions=True)
    answers: Answers[T] = Answers({}, [])
    for worker, answer in zip(workers, said, strict=True):
        if isinstance(answer, TimeoutError | ConnectionError):
            answers.silent.append(worker.number)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers.by_worker[worker.number] = answer
    return answers
