"""Looks over rules: those that cannot fire, those that another stands before, and examples that go astray."""

from collections.abc import Sequence

from mta.bounce.classify import Classifier, parse_reply
from mta.bounce.rules import Rule


def lint(rules: Sequence[Rule]) -> list[str]:
    """What is wrong with the rules in this order, one sentence each."""
    found: list[str] = []
    classifier = Classifier(tuple(rules))
    for number, rule in enumerate(rules):
        before = _shadowing(rule, rules[:number])
        if before:
            found.append(
                f"{rule.name}: never fires, {before} stands before it and takes all it would"
            )
        elif rule.words and not rule.examples:
            found.append(f"{rule.name}: has no example; give a reply that it must find")
        fitting = [each for each in rule.words if any(out.text in each.text for out in rule.unless)]
        found += [
            f'{rule.name}: never fires on "{each.text.strip()}", its own `unless` forbids it'
            for each in fitting
        ]
        found += _astray(rule, classifier)
    return found


def _astray(rule: Rule, classifier: Classifier) -> list[str]:
    found: list[str] = []
    for example in rule.examples:
        site = rule.sites[0] if rule.sites else ""
        try:
            reply = parse_reply(example.reply)
        except ValueError as error:
            found.append(f'{rule.name}: the example "{example.reply}" {error}')
            continue
        judged = classifier.classify(reply, site, False)
        if judged.rule != rule.name:
            taker = judged.rule or "no rule"
            found.append(f'{rule.name}: its example "{example.reply}" is taken by {taker}')
    return found


def _shadowing(rule: Rule, earlier: Sequence[Rule]) -> str:
    """The name of one that fits whenever `rule` does, or ""."""
    for other in earlier:
        if _takes_replies(other, rule) and _takes_texts(other, rule):
            return other.name
    return ""


def _takes_replies(other: Rule, rule: Rule) -> bool:
    codes = set(other.codes)
    if codes and not (
        rule.codes and all(each in codes or each // 100 in codes for each in rule.codes)
    ):
        return False
    if other.sites and not (rule.sites and set(rule.sites) <= set(other.sites)):
        return False
    if not other.status and not other.without_status:
        return True
    if not rule.status and not rule.without_status:
        return False
    if rule.without_status and not other.without_status:
        return False
    return all(
        any(
            (not wide.first or wide.first == each.first)
            and wide.subject == each.subject
            and wide.least <= each.least
            and each.most <= wide.most
            for wide in other.status
        )
        for each in rule.status
    )


def _takes_texts(other: Rule, rule: Rule) -> bool:
    if not other.words:
        return True
    if not rule.words or other.also or any(each not in rule.unless for each in other.unless):
        return False
    return all(any(each.text in mine.text for each in other.words) for mine in rule.words)
