"""Reads the rules that say what refusals mean: the operator's file, then the one that comes with Sluice."""

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

from mta.bounce.rules import Rule, parse_rules
from mta.model.errors import ConfigError, Problem

SHIPPED = "bounce-rules.toml"


@cache
def shipped_rules() -> tuple[Rule, ...]:
    """The rules that come with Sluice."""
    text = files("mta.bounce").joinpath(SHIPPED).read_text(encoding="utf-8")
    rules, mistakes = parse_rules(tomllib.loads(text)["rule"])
    if mistakes:
        raise ValueError(f"{SHIPPED}: {mistakes[0]}")
    return tuple(rules)


def read_rules(path: Path | str) -> tuple[Rule, ...]:
    """The rules of an operator's file. Raises ConfigError with all mistakes."""
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error}")]) from error
    unknown = sorted(set(tables) - {"rule"})
    rules, mistakes = parse_rules(tables.get("rule", []))
    mistakes += [f"there is no key {name}; write [[rule]]" for name in unknown]
    shipped = {rule.name for rule in shipped_rules()}
    mistakes += [
        f"rule {rule.name}: one of ours has this name; choose another"
        for rule in rules
        if rule.name in shipped
    ]
    if mistakes:
        raise ConfigError([Problem(str(path), "", text) for text in mistakes])
    return tuple(rules)


def all_rules(path: Path | str = "") -> tuple[Rule, ...]:
    """The operator's rules, if there is a file, before ours. Raises ConfigError."""
    return (*(read_rules(path) if path else ()), *shipped_rules())
