"""What an operator does with queued messages: list, show, hold, release, delete, retry – by filter, over all workers.

What changes mail may be asked with `dry_run` first: then only what matches is counted, by the same search.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from mta.control.arguments import (
    MAX_MESSAGES,
    ChangeArgs,
    FilterArgs,
    HoldArgs,
    make_filter,
    shown,
)
from mta.control.asking import Times, ask_all
from mta.control.faces import Row, WorkerFace
from mta.control.protocol import ControlError
from mta.control.registry import Registry
from mta.model.envelope import parse_message_id
from mta.spool.words import Filter

HELD_BY_OPERATOR = "by the operator"


class MessageVerbs:
    """All of them."""

    def __init__(self, workers: Sequence[WorkerFace], times: Times | None = None) -> None:
        self._workers = workers
        self._times = times or Times()

    def register(self, registry: Registry) -> None:
        """Teach them."""
        add, mass_s = registry.add, self._times.mass_verb_s
        add("messages.list", FilterArgs, self.list, help="queued recipients")
        add("messages.show", FilterArgs, self.show, help="one message, all recipients")
        changes: list[tuple[str, type[ChangeArgs], Callable[[Any], Awaitable[Row]], str]] = [
            ("hold", HoldArgs, self.hold, "stop queued recipients until they are released"),
            ("release", ChangeArgs, self.release, "let held recipients go on"),
            ("delete", ChangeArgs, self.delete, "remove queued recipients"),
            ("retry", ChangeArgs, self.retry, "try queued recipients now"),
        ]
        for name, args, run, text in changes:
            add(f"messages.{name}", args, run, help=text, changes=True, deadline_s=mass_s)

    async def list(self, args: FilterArgs) -> Row:
        """Queued recipients that match, oldest first."""
        which, limit = make_filter(args), shown(args.limit, MAX_MESSAGES)
        answers = await ask_all(
            self._workers, lambda each: each.messages(which, limit), deadline_s=self._times.look_s
        )
        rows = [row for rows in answers.all for row in rows]
        rows.sort(key=lambda row: (row["received_at"], row["message"], row["id"], row["recipient"]))
        return {"recipients": rows[:limit], "silent": answers.silent}

    async def show(self, args: FilterArgs) -> Row:
        """One message: its recipients, each with its state."""
        if not args.message:
            raise ControlError("which message?", "give its id, as `messages list` shows it")
        answer = await self.list(args)
        if not answer["recipients"]:
            raise not_queued(str(args.message), answer["silent"])
        return answer

    async def hold(self, args: HoldArgs) -> Row:
        """Stop queued recipients until they are released; it survives a restart."""
        reason = args.reason.strip() or HELD_BY_OPERATOR
        return await self._change(
            args, "hold", "held", lambda each, which: each.hold(which, reason), held=False
        )

    async def release(self, args: ChangeArgs) -> Row:
        """Let held recipients go on at once."""
        return await self._change(
            args, "release", "released", lambda each, which: each.release(which), held=True
        )

    async def delete(self, args: ChangeArgs) -> Row:
        """Remove queued recipients; each leaves a bounce record marked `administrator`."""
        return await self._change(
            args, "delete", "deleted", lambda each, which: each.delete(which), held=None
        )

    async def retry(self, args: ChangeArgs) -> Row:
        """Let recipients that are not held be due now, and end their queues' backoff."""
        return await self._change(
            args, "retry", "due", lambda each, which: each.retry_messages(which), held=False
        )

    async def _change(
        self,
        args: ChangeArgs,
        verb: str,
        done: str,
        change: Callable[[WorkerFace, Filter], Awaitable[int]],
        *,
        held: bool | None,
    ) -> Row:
        """Change, or count, what matches. `held`: only (not) held ones can be changed so."""
        which = make_filter(args)
        if which == Filter() and not args.all:
            raise ControlError(f"that would {verb} all mail", "narrow it down, or say --all")
        if held is not None and which.held is (not held):
            state = "held" if which.held else "not held"
            raise ControlError(f"what is {state} cannot be {done}", "leave that filter out")
        if which.message and not which.spool:
            which = await self._the_one(which)
        if held is not None:
            which = replace(which, held=held)
        if args.dry_run:
            counted = await ask_all(
                self._workers, lambda each: each.count(which), deadline_s=self._times.mass_s
            )
            return {f"would_{verb}": sum(counted.all), "silent": counted.silent}
        changed = await ask_all(
            self._workers, lambda each: change(each, which), deadline_s=self._times.mass_s
        )
        return {done: sum(changed.all), "silent": changed.silent}

    async def _the_one(self, which: Filter) -> Filter:
        """The filter with the spool of the one message that has this number.

        Raises ControlError where several spools have one: to change all of them would be a guess.
        """
        # Whatever else is said: a number that is no name is no name.
        number = Filter(message=which.message)
        answers = await ask_all(
            self._workers, lambda each: each.messages(number, 1), deadline_s=self._times.look_s
        )
        ids = {row["id"] for rows in answers.all for row in rows}
        if len(ids) > 1:
            text = f"{len(ids)} messages have the number {which.message}: {', '.join(sorted(ids))}"
            raise ControlError(text, "name the one that is meant by its id")
        if answers.silent and not ids:
            raise not_queued(str(which.message), answers.silent)
        return replace(which, spool=parse_message_id(ids.pop())[0]) if ids else which


def not_there(text: str, hint: str, silent: Sequence[int]) -> ControlError:
    """Nobody has it – as far as those know that answered."""
    if not silent:
        return ControlError(text, hint)
    names = ", ".join(map(str, silent))
    return ControlError(f"{text} in the workers that answered", f"{names} did not; ask again")


def not_queued(message: str, silent: Sequence[int]) -> ControlError:
    """No worker that answered has this message."""
    hint = "it was delivered, bounced or deleted: the accounting file says which"
    return not_there(f"message {message} is not queued", hint, silent)
