"""`except Exception` stands only at task borders (architecture: when things go wrong), each with its reason in the line."""

import re
from pathlib import Path

MTA = Path(__file__).parents[2] / "mta"

PURE = ("model", "mime", "smtp", "dkim", "bounce", "policy", "queue")
BROAD = re.compile(r"^\s*except (Exception|BaseException)\b.*$", re.MULTILINE)


def _broad_handlers() -> list[tuple[Path, str]]:
    return [
        (path, found.group().strip())
        for path in sorted(MTA.rglob("*.py"))
        for found in BROAD.finditer(path.read_text())
    ]


def test_the_pure_floors_catch_nothing_broad() -> None:
    assert [
        (path, line) for path, line in _broad_handlers() if path.relative_to(MTA).parts[0] in PURE
    ] == []


def test_every_broad_handler_says_why_it_stands_there() -> None:
    assert [(path, line) for path, line in _broad_handlers() if "#" not in line] == []


def test_nothing_is_caught_bare() -> None:
    bare = re.compile(r"^\s*except\s*:", re.MULTILINE)
    assert [path for path in MTA.rglob("*.py") if bare.search(path.read_text())] == []
