"""A vendor's folder as `sluice-license` makes it, driven by the command itself: three sticks, a root, a key for each role."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from licensing.envelope import Envelope, parse_armour
from licensing.trust import Trust
from licensing.vendor.cli import app

ROOT_NAMES = ("anna", "bela", "cleo")


class Office:
    """Runs the command in a folder of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "vendor"
        self.runner = CliRunner()

    def run(self, *words: str, secret: str = "", typed: str = "") -> Result:
        """The command, whatever comes of it."""
        surroundings = {
            "SLUICE_LICENSE_FOLDER": str(self.folder),
            "SLUICE_LICENSE_PASSPHRASE": secret,
        }
        return self.runner.invoke(app, list(words), env=surroundings, input=typed or None)

    def do(self, *words: str, secret: str = "", typed: str = "") -> str:
        """The command, which succeeds; what it printed."""
        result = self.run(*words, secret=secret, typed=typed)
        assert result.exit_code == 0, result.output
        return result.output

    def refusal(self, *words: str, secret: str = "", typed: str = "") -> str:
        """The command, which refuses in one line; the folder is as it was."""
        before = self.files()
        result = self.run(*words, secret=secret, typed=typed)
        assert result.exit_code == 1, result.output
        assert self.files() == before
        (line,) = [each for each in result.stderr.splitlines() if "sluice-license: " in each]
        return line

    def files(self) -> dict[str, bytes]:
        """Everything in the folder but the lock."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != ".lock"
        }

    def stick(self, name: str, half: str = "pem") -> str:
        """Where one person keeps their root key."""
        return str(self.place / "sticks" / name / f"{name}.{half}")

    def make_sticks(self, *names: str) -> None:
        """A root key for each person."""
        for name in names:
            self.do("key", "new", name, "--at", str(self.place / "sticks" / name), "--unprotected")

    def publics(self, *names: str) -> list[str]:
        """The options that name their public halves."""
        return [word for name in names for word in ("--key", self.stick(name, "pub"))]

    def open(self) -> "Office":
        """The whole ceremony."""
        self.make_sticks(*ROOT_NAMES)
        self.do("root", "init", *self.publics(*ROOT_NAMES))
        self.do("root", "sign", "1", "--key", self.stick("anna"), "--key", self.stick("bela"))
        for name, role in (
            ("issuing", "license-signing"),
            ("online", "server-online"),
            ("revoking", "revocation"),
        ):
            self.make_key(name, role)
        return self

    def copied_to(self, place: Path) -> "Office":
        """The same office elsewhere: what one test does there no other sees."""
        shutil.copytree(self.place, place, dirs_exist_ok=True)
        return Office(place)

    def make_key(self, name: str, role: str) -> None:
        """A key of the folder, delegated to by two root keys."""
        self.do("key", "new", name, "--unprotected")
        sticks = ("--root-key", self.stick("anna"), "--root-key", self.stick("bela"))
        self.do("key", "delegate", name, "--role", role, *sticks)

    def issue(self, kind: str, *more: str, output: str = "new.lic") -> Path:
        """A licence that has begun and lasts a year and a day."""
        path = self.place / output
        words = ("--licensee", "Example SA", "--order", "OF-1", "-o", str(path))
        self.do("issue", "--kind", kind, *words, *self.term(), *more)
        return path

    def term(self) -> tuple[str, ...]:
        """The options of a term that has begun."""
        year = datetime.now(UTC).year
        return "--from", f"{year - 1}-01-01", "--to", f"{year + 2}-01-01"

    @property
    def trust(self) -> Trust:
        """What a release believes that builds this root in."""
        path = self.place / "root.json"
        self.do("root", "export", "-o", str(path))
        return Trust.load(path.read_bytes())

    def read(self, path: Path) -> Envelope:
        """A file that was handed out."""
        return parse_armour(path.read_bytes())

    def log(self, name: str = "issued.jsonl") -> list[dict[str, Any]]:
        """The lines of a log."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]
