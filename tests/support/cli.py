"""The command line in this process, against a real server: what it printed and how it ended."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from mta.cli.answers import LINES, check_answer, command_of
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
    ended = Ended(result.exit_code, result.stdout, result.stderr)
    if "--json" in words:
        check_json(words, ended)
    return ended


EX_CONFIG = 78
answered: set[str] = set()  # commands whose real answers were held against their shapes


def check_json(words: Sequence[str], ended: Ended) -> None:
    """Whatever a command prints with --json has the shape that is documented for it."""
    command = command_of(words)
    assert command, f"sluice {' '.join(words)} has no shape in mta.cli.answers"
    if not ended.out:
        assert ended.code != 0, words
        return
    if command == "license usage" and "--reconcile" in words:
        command = "license usage --reconcile"
    if ended.code == EX_CONFIG:
        command = "config check"
    texts = ended.out.splitlines() if command in LINES else [ended.out]
    for text in texts:
        check_answer(command, json.loads(text))
    answered.add(command)


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
