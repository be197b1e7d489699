"""`except Exception` stands only at task borders (architecture: when things go wrong), each with its reason in the line."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "mta", ROOT / "licensing")

PURE = ("model", "mime", "smtp", "dkim", "bounce", "policy", "queue")
# Of licensing: what decides. `decider` is the border around it (A37).
PURE_LICENSING = (
    *("errors", "envelope", "model", "entitlement", "facts", "remarks"),
    *("rules", "evaluate", "clock", "trust", "lease"),
)
# Also as the formatter breaks a line that is too long.
BROAD = re.compile(
    r"^\s*except (?:\(\s*(?:Exception|BaseException)\s*\)|(?:Exception|BaseException)\b).*$",
    re.MULTILINE,
)


def _broad_handlers() -> list[tuple[Path, str]]:
    return [
        (path, found.group().strip())
        for package in PACKAGES
        for path in sorted(package.rglob("*.py"))
        for found in BROAD.finditer(path.read_text())
    ]


def test_the_pure_floors_catch_nothing_broad() -> None:
    pure = {("mta", name) for name in PURE} | {
        ("licensing", f"{name}.py") for name in PURE_LICENSING
    }
    found = _broad_handlers()
    assert [(path, line) for path, line in found if path.relative_to(ROOT).parts[:2] in pure] == []


def test_every_broad_handler_says_why_it_stands_there() -> None:
    assert [(path, line) for path, line in _broad_handlers() if "#" not in line] == []


def test_nothing_is_caught_bare() -> None:
    bare = re.compile(r"^\s*except\s*:", re.MULTILINE)
    assert [
        path
        for package in PACKAGES
        for path in package.rglob("*.py")
        if bare.search(path.read_text())
    ] == []
