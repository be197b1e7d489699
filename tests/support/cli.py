"""The command line in this process, against a real server: what it printed and how it ended."""

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from mta.cli.app import app
from tests.support.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON. Raises AssertionError when it is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            raise AssertionError(f"no JSON: {self.out!r} {self.err!r}") from None


def run(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ended:
    """`sluice` with these words."""
    # Wide, so that tables are not folded: what is searched for stands in one line.
    environment = {"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb", **(env or {})}
    result = CliRunner().invoke(app, list(words), input=stdin, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


class Cli:
    """The commands of one server, found by its configuration."""

    def __init__(self, server: Daemon) -> None:
        self.server = server

    def __call__(self, *words: str) -> Ended:
        """Run one, whatever becomes of it."""
        return run(*words, "--config", str(self.server.config))

    def json(self, *words: str) -> Any:
        """Run it with --json; its answer. It must end well."""
        ended = self(*words, "--json")
        assert ended.code == 0, ended
        return ended.json

    def text(self, *words: str) -> str:
        """Run it; what it printed for people. It must end well."""
        ended = self(*words)
        assert ended.code == 0, ended
        return ended.out
