"""Reads the operator's file and what it includes into one tree, remembering where each key stands.

No table may stand in two files: nobody should have to guess which wins. `[[listener]]` and
`[[dkim]]` add up over all files, in the order they are read. Line numbers come from a plain scan
for headers and keys, not from the parser: they only ever point an operator, so a rare miss is
cheap.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mta.model.errors import Problem

# Where a value stands in the tree: ("vmta", "a", "domain", "gmail.com", "tls"), ("listener", 0).
KeyPath = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_PARTS = re.compile(_PART)
_AT_LINE = re.compile(r"\s*\(at line (\d+), column (\d+)\)")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """The file and line of a key; `file` as the operator is shown it."""

    file: str
    directory: Path
    line: int = 0


@dataclass(slots=True)
class Tree:
    """All files as one tree, and the origin of each of its tables and keys."""

    main: Origin
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> Origin:
        """Where the key stands, or the nearest table around it; the main file for what is missing."""
        nearest: Origin | None = None
        for length in range(len(path), 0, -1):
            found = self.origins.get(path[:length])
            # Keys of an inline table have no line of their own: that of the table does.
            if found is not None and found.line:
                return found
            nearest = nearest or found
        return nearest or self.main


def format_key(path: KeyPath) -> str:
    """A path as the operator writes it: `vmta.a.domain."gmail.com".tls`; the first item is `[1]`."""
    parts: list[str] = []
    for part in path:
        if isinstance(part, int):
            parts[-1] += f"[{part + 1}]"
        else:
            parts.append(part if _BARE.fullmatch(part) else f'"{part}"')
    return ".".join(parts)


def read_tree(path: Path, problems: list[Problem]) -> Tree:
    """Read `path` and its includes; what goes wrong is appended to `problems`."""
    main = Origin(str(path), path.parent)
    tree = Tree(main)
    values = _read_file(path, main.file, problems)
    if values is None:
        return tree
    text_lines = find_lines(path.read_text("utf-8"))
    _Merge(tree, main, text_lines, problems).merge(values)
    for file in _included(path, values.get("include", []), problems):
        shown = _shown_name(file, path.parent)
        included = _read_file(file, shown, problems)
        if included is None:
            continue
        lines = find_lines(file.read_text("utf-8"))
        if included.pop("include", None) is not None:
            text = "only the main file may include others"
            problems.append(Problem(shown, "include", text, lines.get(("include",), 0)))
        _Merge(tree, Origin(shown, file.parent), lines, problems).merge(included)
    return tree


def _shown_name(file: Path, directory: Path) -> str:
    return str(file.relative_to(directory)) if file.is_relative_to(directory) else str(file)


def _read_file(path: Path, shown: str, problems: list[Problem]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.append(Problem(shown, "", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError:
        problems.append(Problem(shown, "", "is not UTF-8 text"))
    except tomllib.TOMLDecodeError as error:
        place = _AT_LINE.search(str(error))
        text = f"is no valid TOML: {_AT_LINE.sub('', str(error))}"
        if place:
            text += f" (column {place.group(2)})"
        problems.append(Problem(shown, "", text, int(place.group(1)) if place else 0))
    return None


def _included(main: Path, patterns: Any, problems: list[Problem]) -> Iterator[Path]:
    """The files of `include`, each once, sorted within a pattern. A wrong kind is told by the
    schema.
    """
    seen = {main.resolve()}
    for pattern in patterns if isinstance(patterns, list) else []:
        if not isinstance(pattern, str) or not pattern:
            continue
        if Path(pattern).is_absolute():
            found = sorted(Path("/").glob(pattern.lstrip("/")))
        else:
            found = sorted(main.parent.glob(pattern))
        if not found and not any(char in pattern for char in "*?["):
            problems.append(Problem(str(main), "include", f"there is no file {pattern!r}"))
        for file in found:
            if file.is_file() and file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


class _Merge:
    """Puts one file's tables into the tree."""

    def __init__(
        self, tree: Tree, origin: Origin, lines: dict[KeyPath, int], problems: list[Problem]
    ) -> None:
        self._tree = tree
        self._origin = origin
        self._lines = lines
        self._problems = problems

    def merge(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, list) and value and all(isinstance(i, dict) for i in value):
                self._append(key, value)
            else:
                self._put(self._tree.values, (key,), value)

    def _append(self, key: str, items: list[dict[str, Any]]) -> None:
        there = self._tree.values.setdefault(key, [])
        if not isinstance(there, list):
            self._twice((key,))
            return
        for local, item in enumerate(items):
            path: KeyPath = (key, len(there))
            there.append(item)
            self._note(path, (key, local))
            for name in item:
                self._note((*path, name), (key, local, name))

    def _put(self, target: dict[str, Any], path: KeyPath, value: Any) -> None:
        name = str(path[-1])
        there = target.get(name)
        if not isinstance(value, dict):
            if there is not None:
                self._twice(path)
                return
            target[name] = value
            self._note(path, path)
            return
        if there is None:
            there = target[name] = {}
            self._note(path, path)
        elif not isinstance(there, dict) or (
            _own_keys(value) and self._stands_elsewhere(path, there)
        ):
            self._twice(path)
            return
        elif _own_keys(value):
            self._note(path, path)
        for key, inner in value.items():
            self._put(there, (*path, key), inner)

    def _stands_elsewhere(self, path: KeyPath, there: dict[str, Any]) -> bool:
        """Whether another file already gave this table keys of its own (not only tables within)."""
        owners = {self._tree.origins[(*path, key)].file for key in _own_keys(there)}
        return bool(owners - {self._origin.file})

    def _note(self, path: KeyPath, local: KeyPath) -> None:
        line = self._lines.get(local, 0)
        if not line:  # a table that only has tables within: [accounting] by [accounting.main]
            size = len(local)
            within = [at for key, at in self._lines.items() if key[:size] == local]
            line = min(within, default=0)
        self._tree.origins[path] = Origin(self._origin.file, self._origin.directory, line)

    def _twice(self, path: KeyPath) -> None:
        other = self._tree.origin(path)
        text = f"stands in {other.file} already; a table may stand in one file only"
        line = self._lines.get(path, 0)
        self._problems.append(Problem(self._origin.file, format_key(path), text, line))


def _own_keys(table: dict[str, Any]) -> list[str]:
    return [key for key, value in table.items() if not isinstance(value, dict)]


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line of each header and key of a TOML text; the first where one seems to stand twice."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            parts = _split(header.group(2))
            if header.group(1) == "[[":
                counts[parts[0]] = counts.get(parts[0], -1) + 1
            # A table within [[x]] belongs to the last x.
            index = counts.get(parts[0])
            table = parts if index is None else (parts[0], index, *parts[1:])
            lines.setdefault(table, number)
            continue
        assignment = _ASSIGNMENT.match(line)
        if assignment:
            lines.setdefault((*table, *_split(assignment.group(1))), number)
    return lines


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PARTS.findall(dotted))
