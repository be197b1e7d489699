"""The tree of commands. Each stands in a module of its own; this one only hangs them up."""

from pathlib import Path
from typing import Annotated

import typer

from mta.cli import config, dkim, messages, operate, queue, spool
from mta.cli.send import send

DEFAULT_CONFIG = Path("/etc/sluice/sluice.toml")

app = typer.Typer(
    name="sluice",
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


@app.command()
def version() -> None:
    """Which Sluice this is."""
    from mta import __version__

    typer.echo(f"sluice {__version__}")


app.command()(send)
operate.add_to(app)
app.add_typer(queue.app, name="queue", help="One queue: show, pause, resume, retry.")
app.add_typer(messages.app, name="messages", help="Queued messages: list, show, delete.")
app.add_typer(config.app, name="config", help="The configuration: check, show, explain.")
app.add_typer(dkim.app, name="dkim", help="DKIM keys and signatures: generate, check.")
app.add_typer(spool.app, name="spool", help="The spool on disk: check.")
