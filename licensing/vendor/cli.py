"""The command `sluice-license`: its tree. Each command stands in a module of its own; this one only hangs them up.

The licence server's commands (`serve`, `node`, `lease`, …) come from `licensing.server.cli`, where that is installed. A mistake
is told in one line on standard error, and the exit code is 1; nothing has changed then.
"""

from importlib import import_module, util
from typing import Any

import typer
from typer.core import TyperGroup

from licensing.errors import LicenseError
from licensing.vendor import inspecting, key_commands, license_commands, root_commands

SERVER = "licensing.server.cli"


class Telling(TyperGroup):
    """Says what is wrong with a file, a key or an order, instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what is refused is told."""
        try:
            return super().invoke(ctx)
        except LicenseError as error:
            typer.echo(f"sluice-license: {error}", err=True)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"sluice-license: {where}{error.strerror or error}", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    name="sluice-license",
    cls=Telling,
    rich_markup_mode=None,
    help="Keys, licences and revocations of the vendor of Sluice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(root_commands.app, name="root")
app.add_typer(key_commands.app, name="key")
app.command("issue")(license_commands.issue_command)
app.command("renew")(license_commands.renew_command)
app.command("upgrade")(license_commands.upgrade_command)
app.command("revoke")(license_commands.revoke_command)
app.command("activate-offline")(license_commands.activate_offline_command)
app.command("inspect")(inspecting.inspect_command)


def _is_there(name: str) -> bool:
    """Whether the module can be imported; its package may be missing as well."""
    try:
        return util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


# `vendor` and `server` do not import each other (floors of licensing): the command only hangs up what it finds.
if _is_there(SERVER):
    app.add_typer(import_module(SERVER).app)


def main() -> None:
    """The entry point of `sluice-license`."""
    app()


if __name__ == "__main__":
    main()
