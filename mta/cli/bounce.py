"""`sluice bounce`: what a refusal means, by which rule, and whether the rules are sound. Asks no server."""

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mta.bounce.classify import Classifier, Refusal, parse_reply, standard
from mta.bounce.lint import lint as look_over
from mta.bounce.rules import OTHER, Rule
from mta.bounce.words import MAX_TEXT, link_words, words_of
from mta.cli.ask import fail
from mta.config.refusals import all_rules
from mta.model.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/sluice/sluice.toml")
MAX_LINE = 65_536  # more of a line is not read: no reply is so long

app = typer.Typer(no_args_is_help=True, help="Refusals: what a reply means, and by which rule.")

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="the configuration file", envvar="SLUICE_CONFIG"),
]
Rules = Annotated[
    Path | None, typer.Option("--rules", help="a file of rules, instead of the configuration's")
]

_WHAT_TO_DO = {
    "hard": "the address is dead: do not write to it again",
    "soft": "this address, for now",
    "block": "we, or what we sent, are refused",
    "transient": "try again",
}


@app.command()
def classify(
    reply: Annotated[str, typer.Argument(help='like "550 5.1.1 no such user"')] = "",
    site: Annotated[str, typer.Option(help="the site that gave it")] = "",
    stdin: Annotated[bool, typer.Option("--stdin", help="read replies, one a line")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a reply")] = False,
    config: Config = None,
    rules: Rules = None,
) -> None:
    """What a reply means: category, verdict, fault, and the rule that says so."""
    if stdin == bool(reply):
        fail("give a reply, or --stdin", code=2)
    found = _rules(config, rules)
    classifier = Classifier(found)
    if not stdin:
        judged = _judge(classifier, reply, site)
        if judged is None:
            fail(f'"{reply}" begins with no code of three digits', "like 550 5.1.1 no such user", 2)
        _show_json(reply, judged) if as_json else _show(reply, judged, found)
        return
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
    while line := sys.stdin.readline(MAX_LINE):
        text = line.rstrip("\r\n")
        if not text:
            continue
        judged = _judge(classifier, text, site) or Refusal(OTHER, "transient", "network")
        _show_json(text, judged) if as_json else typer.echo(_line(text, judged))


@app.command()
def lint(config: Config = None, rules: Rules = None) -> None:
    """Find rules that never fire, that another stands before, or whose examples go astray."""
    found = look_over(_rules(config, rules))
    for text in found:
        typer.echo(text)
    if found:
        raise typer.Exit(1)
    typer.echo("the rules are sound")


def _judge(classifier: Classifier, text: str, site: str) -> Refusal | None:
    try:
        reply = parse_reply(text)
    except ValueError:
        return None
    judged = classifier.classify(reply, site, False)
    # No rule is for a positive reply; nor is there anything to do about one.
    return replace(judged, verdict="", fault="") if reply.is_positive else judged


def _show(reply: str, judged: Refusal, rules: tuple[Rule, ...]) -> None:
    category = judged.category
    if standard(category) != category:
        category += f" (bounceCat {standard(category)})"
    typer.echo(f"category  {category}")
    if not judged.verdict:
        return
    typer.echo(f"verdict   {judged.verdict}: {_WHAT_TO_DO[judged.verdict]}")
    typer.echo(f"fault     {judged.fault}")
    typer.echo(f"rule      {judged.rule or 'none'}")
    for rule in rules:
        if rule.name == judged.rule:
            typer.echo(f"why       {_why(rule, reply)}")


def _why(rule: Rule, reply: str) -> str:
    said = parse_reply(reply).text
    text = " " + " ".join((*words_of(said), *link_words(said))) + " "
    spoken = [f'"{each.text.strip()}"' for each in (*rule.words, *rule.also) if each.is_in(text)]
    named = [
        text
        for text, holds in (
            (f"the text says {' and '.join(spoken)}", bool(spoken)),
            (f"the code is {' or '.join(_code(each) for each in rule.codes)}", bool(rule.codes)),
            ("the status is one the rule names", bool(rule.status or rule.without_status)),
            (f"the site is {' or '.join(rule.sites)}", bool(rule.sites)),
        )
        if holds
    ]
    return ", ".join(named) + "; no rule before it fits"


def _code(code: int) -> str:
    return f"{code}xx" if code < 10 else str(code)


def _line(text: str, judged: Refusal) -> str:
    return "\t".join((judged.category, judged.verdict, judged.fault, judged.rule, text[:MAX_TEXT]))


def _show_json(text: str, judged: Refusal) -> None:
    row = {
        "reply": text,
        "category": judged.category,
        "verdict": judged.verdict,
        "fault": judged.fault,
        "rule": judged.rule,
    }
    typer.echo(json.dumps(row, ensure_ascii=False))


def _rules(config: Path | None, rules: Path | None) -> tuple[Rule, ...]:
    try:
        return all_rules(rules or _named_by(config))
    except ConfigError as error:
        fail(str(error), code=78)


def _named_by(config: Path | None) -> Path | str:
    """The file of rules that a configuration names; only that is read. "" for none."""
    chosen = config or DEFAULT_CONFIG
    if config is None and not chosen.is_file():
        return ""
    try:
        named = tomllib.loads(chosen.read_text()).get("bounce", {}).get("rules", "")
    except (OSError, ValueError, AttributeError) as error:
        fail(f"cannot read {chosen}: {error}", "name the rules with --rules instead", 78)
    return chosen.parent / str(named) if named else ""
