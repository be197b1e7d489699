"""Reads the words of notices that come with Sluice, a file for each language."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from mta.bounce.wording import Wording, parse_wording

BY_SENDER = "sender"  # the language that the message itself asks for


@cache
def shipped_wordings() -> Mapping[str, Wording]:
    """The words by language: `en`, `de` …"""
    found = {}
    for file in files("mta.bounce").joinpath("notices").iterdir():
        language, dot, kind = file.name.partition(".")
        if dot and kind == "toml":
            texts = tomllib.loads(file.read_text(encoding="utf-8"))
            found[language] = parse_wording(language, texts)
    return found
