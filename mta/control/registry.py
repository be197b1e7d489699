"""The verbs a daemon understands: each a name, the shape of its arguments, and an async function.

The shape is a `msgspec.Struct` (best with `forbid_unknown_fields=True`): arguments are checked
before the function is called, and a mistake is answered with the field's name. A function returns
its answer, or is an async generator whose items are sent as they come.
"""

import difflib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from mta.control.protocol import ControlError

DEADLINE_S = 30.0
ITEMS_PER_LINE = 500  # of a stream

A = TypeVar("A", bound=msgspec.Struct)


class NoArguments(msgspec.Struct, forbid_unknown_fields=True):
    """The shape of a verb that takes none."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing the operator can ask for. `changes`: it is written to the log with who asked."""

    name: str
    args: type[msgspec.Struct]
    run: Callable[[Any], Awaitable[object] | AsyncIterator[object]]
    help: str = ""
    changes: bool = False
    deadline_s: float = DEADLINE_S
    items_per_line: int = ITEMS_PER_LINE


class Registry:
    """All verbs by name."""

    def __init__(self) -> None:
        self._verbs: dict[str, Verb] = {}

    def add(
        self,
        name: str,
        args: type[A],
        run: Callable[[A], Awaitable[object] | AsyncIterator[object]],
        *,
        help: str = "",
        changes: bool = False,
        deadline_s: float = DEADLINE_S,
        items_per_line: int = ITEMS_PER_LINE,
    ) -> None:
        """Teach a verb; raises ValueError if the name is taken."""
        if name in self._verbs:
            raise ValueError(f"the verb {name} is there already")
        self._verbs[name] = Verb(name, args, run, help, changes, deadline_s, items_per_line)

    def find(self, name: str) -> Verb:
        """The verb of this name; raises ControlError with the nearest name as a hint."""
        verb = self._verbs.get(name)
        if verb is not None:
            return verb
        near = difflib.get_close_matches(name, self._verbs, n=1)
        known = ", ".join(sorted(self._verbs))
        hint = f"did you mean {near[0]}?" if near else f"this daemon knows: {known}"
        raise ControlError(f"unknown verb {name!r}", hint)

    def parse_args(self, verb: Verb, args: dict[str, Any]) -> Any:
        """The arguments in the verb's shape; raises ControlError that names the wrong one."""
        try:
            return msgspec.convert(args, verb.args)
        except msgspec.ValidationError as error:
            fields = ", ".join(field.name for field in msgspec.structs.fields(verb.args))
            hint = f"{verb.name} takes: {fields}" if fields else f"{verb.name} takes no arguments"
            raise ControlError(f"{verb.name}: {error}", hint) from error

    @property
    def verbs(self) -> list[Verb]:
        """All of them, by name."""
        return [self._verbs[name] for name in sorted(self._verbs)]
