"""The tree of commands. Each stands in a module of its own; this one only hangs them up."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from mta import __version__, form
from mta.cli import groups, messages, operate, queue, refusals, spool, top, vmta, watching
from mta.cli.completing import completion
from mta.cli.schema import schema
from mta.cli.send import send

DEFAULT_CONFIG = Path("/etc/sluice/sluice.toml")


class LazyGroup(TyperGroup):
    """Imports the heavy groups when they are asked for: `sluice queues` took 0.86 s with them, 0.25 s without."""

    heavy: ClassVar[dict[str, str]] = {
        "bounce": "mta.cli.bounce",
        "config": "mta.cli.config",
        "dkim": "mta.cli.dkim",
        "doctor": "mta.cli.doctor",
        "license": "mta.cli.license",
    }

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, the heavy groups among them."""
        return [*super().list_commands(ctx), *self.heavy]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, imported now if it is heavy."""
        if cmd_name in self.heavy:
            return typer.main.get_command(import_module(self.heavy[cmd_name]).app)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="sluice",
    cls=LazyGroup,
    rich_markup_mode=None,  # rich costs 0.16 s to import, for nothing but frames
    help="Sluice: a self-hosted, high-volume outbound MTA.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path, typer.Option("--config", "-c", help="the configuration file", envvar="SLUICE_CONFIG")
]


@app.command()
def run(config: Config = DEFAULT_CONFIG) -> None:
    """Run the server in the foreground."""
    from mta.runtime.supervisor import run as serve

    raise typer.Exit(serve(config))


@app.command()
def demo(
    messages: Annotated[int, typer.Option(help="how many messages to send")] = 2000,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave it running, with a listener on 127.0.0.1:2525")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option(help="where to put spool and records (default: a temporary one)")
    ] = None,
) -> None:
    """Send mail through a real server to a simulated internet, and account for every message."""
    from mta.cli.demo import run_demo

    raise typer.Exit(run_demo(messages=messages, keep=keep, directory=directory))


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sluice {__version__} ({form()})")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="which Sluice")
    ] = False,
) -> None:
    """Sluice: a self-hosted, high-volume outbound MTA."""


app.command()(send)
operate.add_to(app)
app.command()(watching.trace)
app.command()(top.top)
app.command()(refusals.bounces)
app.add_typer(queue.app, name="queue", help="One queue: show, pause, resume, retry.")
app.add_typer(groups.make_app("domain"), name="domains", help="By domain: list, pause, limit.")
app.add_typer(groups.make_app("site"), name="sites", help="By site: list, pause, limit.")
app.add_typer(groups.make_app("job"), name="jobs", help="By job: list, pause.")
groups.add_drain(queue.app, "queue")
groups.add_limit(queue.app, "queue")
app.command()(vmta.vmtas)
app.add_typer(vmta.app, name="vmta", help="One virtual MTA: pause, resume, drain.")
messages.app.command()(vmta.reroute)
app.add_typer(
    messages.app,
    name="messages",
    help="Queued messages: list, show, hold, release, delete, retry, reroute, export, import.",
)
app.command()(schema)
app.command()(completion)
app.add_typer(spool.app, name="spool", help="The spool on disk: check.")
