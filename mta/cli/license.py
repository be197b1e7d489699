"""`sluice license …`: the commands of `licensing.cli`, answered by the running server; where none runs, from what lies on disk.

Without a server the guard is opened here, for this one command, without any task of its own: what it answers is what the server
would answer at its start.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import typer

from licensing.cli import make_app
from mta.cli.ask import CHANGE_TIMEOUT_S, DEFAULT_CONFIG, EXIT_FAILED, fail, socket_of
from mta.cli.config import load_or_exit
from mta.control.client import ControlClient
from mta.control.license_verbs import LicenseVerbs
from mta.control.protocol import ControlError
from mta.control.registry import Registry


def ask(verb: str, config: Path | None, socket: Path | None, **args: Any) -> Any:
    """The server's answer, or that of what it would find; on an error say it and end the command."""
    try:
        client = ControlClient(socket or socket_of(config), CHANGE_TIMEOUT_S)
    except ControlError as error:
        if socket is not None:
            fail(error.text, error.hint, EXIT_FAILED)
        return _ask_nobody(verb, config or DEFAULT_CONFIG, args)
    try:
        with client:
            return client.call(verb, **args)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_FAILED)


def _ask_nobody(verb: str, config: Path, args: dict[str, Any]) -> Any:
    """No server runs: the licences and the ledger are opened here, for a moment."""
    from mta.runtime.license import AlreadyRunning
    from mta.runtime.license_office import alone

    settings = load_or_exit(config)
    _require_owner(Path(settings.license.state_dir))
    typer.secho("no server runs; this is what lies on the disk", err=True, fg="yellow")

    async def answer() -> Any:
        async with alone(settings) as office:
            registry = Registry()
            LicenseVerbs(office).register(registry)
            found = registry.find(verb)
            return await found.run(registry.parse_args(found, args))  # type: ignore[misc]

    try:
        with _nothing_logged():
            return asyncio.run(answer())
    except AlreadyRunning as error:
        fail(str(error), "name its control socket with --socket", EXIT_FAILED)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_FAILED)


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """What a server would log is the answer itself here, and standard output may be JSON."""
    before = structlog.get_config()
    level = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=level)
    try:
        yield
    finally:
        structlog.configure(**before)


def _require_owner(state_dir: Path) -> None:
    """What is written here must be the server's to read: nobody else opens its state."""
    if state_dir.exists() and (owner := state_dir.stat().st_uid) != os.geteuid():
        text = f"no server runs, and {state_dir} belongs to another user (uid {owner})"
        fail(text, "start the server first, or run this as that user", EXIT_FAILED)


app = make_app(ask)
