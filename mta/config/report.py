"""Collects the operator's mistakes, in plain words, each with its place – and what was meant.

Nothing here raises: reading goes on after a mistake, so that all of them are told at once.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mta.config.files import KeyPath, Tree, format_key
from mta.config.schema import ConfigFile
from mta.model.errors import Problem
from mta.policy.rules import Place

_PLAIN_WORDS = {
    "missing": "must be set",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "tuple_type": "must be a list in [ ]",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}


class Report:
    """The mistakes and warnings of one reading."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, path: KeyPath, text: str) -> None:
        """Something that must be mended before the server can use the file."""
        self.problems.append(self._at(path, text))

    def warning(self, path: KeyPath, text: str) -> None:
        """Something that will probably go wrong."""
        self.warnings.append(self._at(path, text))

    def is_told(self, path: KeyPath) -> bool:
        """Whether a mistake within this key was told already, and may be why something is missing."""
        key = format_key(path)
        return any(problem.key.startswith((f"{key}.", f"{key}[")) for problem in self.problems)

    def place(self, path: KeyPath) -> Place:
        """Where the rules made of this table come from."""
        return Place(self.tree.origin(path).file, format_key(path))

    def schema_problem(self, path: KeyPath, model: type[BaseModel], error: ErrorDetails) -> None:
        """A mistake pydantic found in the table at `path`."""
        loc = error["loc"]
        if error["type"] == "extra_forbidden":
            text = unknown_key(str(loc[-1]), _model_at(model, loc[:-1]), path + loc[:-1])
        else:
            text = _words(error)
        self.problem(path + loc, text)

    def _at(self, path: KeyPath, text: str) -> Problem:
        origin = self.tree.origin(path)
        return Problem(origin.file, format_key(path), text, origin.line)


def _words(error: ErrorDetails) -> str:
    context: dict[str, Any] = error.get("ctx") or {}
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "enum" | "literal_error":
            return f"must be {context['expected']}".replace("'", '"')
    return _PLAIN_WORDS.get(error["type"], error["msg"])


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing where nothing is close."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def unknown_key(name: str, model: type[BaseModel], path: KeyPath) -> str:
    """What to say of a key that is not in `model`: its right place, or the key it resembles."""
    homes = [label for label, keys in _HOMES.items() if name in keys]
    if homes and path:
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return f"unknown key{did_you_mean(name, model.model_fields)}"


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model of the table at `path` within `model`."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:  # a name in a table of tables, or the number of an item
            inner = [item for item in get_args(current) if item is not Ellipsis]
            current = inner[-1] if inner else None
        if get_origin(current) in (Union, UnionType):
            current = get_args(current)[0]
    return current if isinstance(current, type) and issubclass(current, BaseModel) else model


def _homes() -> dict[str, frozenset[str]]:
    labels = {"listener": "[[listener]]", "dkim": "[[dkim]]"}
    tables = {
        "vmta": "[vmta.X]",
        "pool": "[pool.X]",
        "site": "[site.X]",
        "accounting": "[accounting.X]",
    }
    homes: dict[str, frozenset[str]] = {}
    for name in ConfigFile.model_fields:
        if name in ("include", "domain"):
            continue
        in_table: KeyPath = (name, 0) if name in labels or name in tables else (name,)
        fields = frozenset(_model_at(ConfigFile, in_table).model_fields)
        homes[labels.get(name) or tables.get(name) or f"[{name}]"] = fields
    # What every place of queue values has is said once, of the most general one.
    for label in ("[vmta.X]", "[site.X]"):
        homes[label] -= homes["[default]"]
    return homes


_HOMES = _homes()
