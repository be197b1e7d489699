"""Reads the words of notices, a file for each language: those that come with Sluice, and the operator's above them."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mta.bounce.wording import Wording, parse_wording
from mta.model.errors import ConfigError, Problem

BY_SENDER = "sender"  # the language that the message itself asks for
SUFFIX = ".toml"


@cache
def _shipped_texts() -> Mapping[str, dict[str, object]]:
    """Phrases by language: `en`, `de` …"""
    return {
        file.name.removesuffix(SUFFIX): _read(file)
        for file in files("mta.bounce").joinpath("notices").iterdir()
        if file.name.endswith(SUFFIX)
    }


@cache
def shipped_wordings() -> Mapping[str, Wording]:
    """The words that come with Sluice, by language."""
    return {name: parse_wording(name, texts) for name, texts in _shipped_texts().items()}


def all_wordings(directory: Path | str = "") -> Mapping[str, Wording]:
    """Ours, and what the files of a directory say instead. Raises ConfigError with all mistakes."""
    if not directory:
        return shipped_wordings()
    found, mistakes = dict(shipped_wordings()), []
    paths = sorted(Path(directory).glob(f"*{SUFFIX}"))
    if not paths:
        text = "holds no file like en.toml"
        raise ConfigError([Problem(str(directory), "", text)])
    for path in paths:
        language = path.name.removesuffix(SUFFIX)
        try:
            texts = {**_shipped_texts().get(language, {}), **_read(path)}
            found[language] = parse_wording(language, texts)
        except (OSError, ValueError) as error:  # of TOML and of UTF-8 too
            mistakes.append(Problem(str(path), "", str(error)))
    if mistakes:
        raise ConfigError(mistakes)
    return found


def _read(file: Path | Traversable) -> dict[str, object]:
    return tomllib.loads(file.read_text(encoding="utf-8"))
