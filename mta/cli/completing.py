"""What the shell offers after TAB: commands and options by typer, names of queues, domains, sites, jobs and virtual MTAs here.

The server is asked for names and has half a second. Where none runs, or it does not answer, nothing is offered and nothing
said: what a completion prints would stand in the middle of the command that somebody is typing.
"""

import contextlib
import io
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mta.cli.ask import socket_of
from mta.control.client import ControlClient
from mta.control.protocol import ControlError

ANSWER_S = 0.5
MOST = 100  # names that are offered
FILES = {
    "bash": "sluice.bash",
    "zsh": "_sluice",
    "fish": "sluice.fish",
}  # as the shells look for them

Offer = Callable[[typer.Context, str], list[str]]


class Shell(StrEnum):
    """A shell that can complete our commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish")]) -> None:
    """Print what lets a shell complete these commands; docs/install.md says where it goes."""
    typer.echo(script(shell), nl=False)


def script(shell: str) -> str:
    """The same as text."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    text = get_completion_script(
        prog_name="sluice", complete_var="_SLUICE_COMPLETE", shell=str(shell)
    )
    return text.strip() + "\n"


def scripts() -> dict[str, str]:
    """File → text, as packages install them."""
    return {name: script(shell) for shell, name in FILES.items()}


def names(verb: str, column: str) -> Offer:
    """Offers the names that this verb lists."""

    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        args = {} if verb == "vmtas" else {"match": incomplete, "limit": MOST}
        rows = _ask(ctx, verb, args).get(verb, [])
        return sorted(row[column] for row in rows if row[column].startswith(incomplete))[:MOST]

    return offer


def words(*choices: str) -> Offer:
    """Offers these."""
    return lambda ctx, incomplete: [each for each in choices if each.startswith(incomplete)]


def _ask(ctx: typer.Context, verb: str, args: dict[str, Any]) -> dict[str, Any]:
    config, socket = ctx.params.get("config"), ctx.params.get("socket")
    try:
        # A configuration that cannot be read is said on standard error: not here.
        with contextlib.redirect_stderr(io.StringIO()):
            path = Path(socket) if socket else socket_of(Path(config) if config else None)
        with ControlClient(path, ANSWER_S) as client:
            answer: dict[str, Any] = client.call(verb, **args)
            return answer
    except (ControlError, typer.Exit, OSError):
        return {}


QUEUES = names("queues", "queue")
VMTAS = names("vmtas", "vmta")
GROUPS = {kind: names(f"{kind}s", "name") for kind in ("domain", "site", "job")}


QUEUE_ORDERS = words("recipients", "bytes", "oldest", "due", "domain")


def of_group(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of what a group of commands is about: `domains`, `sites`, `jobs` or `queue`."""
    group = (ctx.parent.info_name or "") if ctx.parent else ""
    offer = GROUPS.get(group.removesuffix("s"), QUEUES)
    return offer(ctx, incomplete)


def anything(ctx: typer.Context, incomplete: str) -> list[str]:
    """What `explain` and `trace` take: domains and queues."""
    found = QUEUES(ctx, incomplete)
    domains = dict.fromkeys(name.partition("/")[0] for name in found)
    return [*(each for each in domains if each.startswith(incomplete)), *found]
