"""Which queued messages a command means: the options that such commands share, and what these come to."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mta.cli.ask import Row, in_units
from mta.cli.completing import GROUPS, VMTAS, words
from mta.control.arguments import STATUSES
from mta.model.envelope import is_message_id
from mta.model.units import parse_duration, parse_size

Command = Callable[..., None]


def checked_id(text: str) -> str:
    """A message's id as the server takes it; said at once if it is none."""
    if text and not is_message_id(text):
        raise typer.BadParameter(f"{text!r} is no message id; they look like 1f2e3d4c-17, or 17")
    return text.strip().lower()


# In the order of the help pages: name → what it is, and what it is where it is not given.
_OPTIONS: dict[str, tuple[Any, object]] = {
    "domain": (
        Annotated[
            str, typer.Option(help="recipients of this domain", autocompletion=GROUPS["domain"])
        ],
        "",
    ),
    "site": (
        Annotated[
            str,
            typer.Option(
                help="of this site, as far as routes are known", autocompletion=GROUPS["site"]
            ),
        ],
        "",
    ),
    "vmta": (
        Annotated[str, typer.Option(help="sent by this virtual MTA", autocompletion=VMTAS)],
        "",
    ),
    "job": (
        Annotated[str | None, typer.Option(help="of this job", autocompletion=GROUPS["job"])],
        None,
    ),
    "sender": (
        Annotated[str | None, typer.Option(help="with this sender; * stands for anything")],
        None,
    ),
    "recipient": (
        Annotated[str, typer.Option(help="to this recipient; * stands for anything")],
        "",
    ),
    "status": (
        Annotated[
            str,
            typer.Option(help="due, deferred, scheduled or held", autocompletion=words(*STATUSES)),
        ],
        "",
    ),
    "older_than": (
        Annotated[str, typer.Option("--older-than", help="queued longer than this, like 2h")],
        "",
    ),
    "younger_than": (
        Annotated[str, typer.Option("--younger-than", help="queued since no longer than this")],
        "",
    ),
    "larger_than": (
        Annotated[str, typer.Option("--larger-than", help="of more bytes than this, like 1M")],
        "",
    ),
    "smaller_than": (
        Annotated[str, typer.Option("--smaller-than", help="of fewer bytes than this")],
        "",
    ),
    "held": (
        Annotated[bool | None, typer.Option("--held/--not-held", help="only (not) held ones")],
        None,
    ),
    "message": (
        Annotated[str, typer.Option(help="this message, by its id", callback=checked_id)],
        "",
    ),
    "everything": (Annotated[bool, typer.Option("--all", help="all queued mail")], False),
    "dry_run": (Annotated[bool, typer.Option("--dry-run", help="only say how many")], False),
}
_NOT_EVERYWHERE = frozenset({"status", "held", "message", "everything", "dry_run"})
TO_CHANGE = ("message", "everything", "dry_run")


def choosing(*others: str) -> Callable[[Command], Command]:
    """A command that gets what is chosen as `chosen`, the verb's arguments; its options stand where `chosen` does.

    `others`: of the options that not every command has, those that this one has.
    """
    names = [name for name in _OPTIONS if name in others or name not in _NOT_EVERYWHERE]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            options = {name: given.pop(name) for name in names}
            command(chosen=_arguments(options), **given)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command).parameters.values():
            if own.name == "chosen":
                parameters += [_parameter(name) for name in names]
            else:
                parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return with_options

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    kind, default = _OPTIONS[name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _arguments(options: Row) -> Row:
    """The verb's arguments from the options that its command has."""
    chosen: Row = {
        name: options[name]
        for name in ("job", "sender", "recipient", "status", "held", "message", "dry_run")
        if name in options
    }
    for name in ("domain", "site", "vmta"):
        chosen[name] = options[name].lower()
    for name in ("older_than", "younger_than"):
        chosen[f"{name}_s"] = float(in_units(parse_duration, options[name] or "0s"))
    for name in ("larger_than", "smaller_than"):
        chosen[name] = in_units(parse_size, options[name] or "0")
    if "everything" in options:
        chosen["all"] = options["everything"]
    return chosen
