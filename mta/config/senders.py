"""Makes the rules of pools and of the selection – which virtual MTA or pool sends a message – and checks that every name in them
exists and can be what it is meant to be. A *sender* here is a virtual MTA or a pool, by its name; a *source* hands in mail.
"""

from collections.abc import Collection, Iterable, Mapping

from mta.config.files import KeyPath
from mta.config.kinds import check_name
from mta.config.report import Report, did_you_mean
from mta.config.sections import Sections
from mta.policy.rules import PoolRules, SelectionRules, SourceRules, VmtaRules

DEFAULT_VMTA = "default"


def build_pools(
    sections: Sections, vmtas: Mapping[str, VmtaRules], report: Report
) -> dict[str, PoolRules]:
    """The pools by name."""
    found = {}
    for name, section in sections.pools.items():
        path = ("pool", name)
        try:
            check_name(name, "a pool")
        except ValueError as error:
            report.problem(path, str(error))
        if name in vmtas:
            text = f"[vmta.{name}] has this name already; a message could mean either: rename one"
            report.problem(path, text)
        for member, _ in section.vmtas:
            _check_member(member, name, (*path, "vmtas"), sections, vmtas, report)
        found[name] = PoolRules(name, section.vmtas, section.sticky, report.place(path))
    return found


def _check_member(
    member: str,
    pool: str,
    path: KeyPath,
    sections: Sections,
    vmtas: Mapping[str, VmtaRules],
    report: Report,
) -> None:
    if member in vmtas:
        return
    circle = _circle(member, pool, sections)
    if circle:
        report.problem(path, f"the pools go in a circle: {' → '.join(circle)}; name virtual MTAs")
    elif member in sections.pools:
        report.problem(path, f"{member} is a pool; name the virtual MTAs that are in it")
    else:
        text = f"there is no [vmta.{member}]{did_you_mean(member, vmtas)}"
        report.problem(path, f"{text}; add it, or take it out of the pool")


def _circle(member: str, pool: str, sections: Sections) -> list[str]:
    """The way from a pool over this member back to itself; [] if there is none."""
    ways = [[pool, member]]
    seen = set()
    while ways:
        way = ways.pop()
        if way[-1] == pool:
            return way
        if way[-1] in sections.pools and way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, name] for name, _ in sections.pools[way[-1]].vmtas]
    return []


def build_selection(
    sections: Sections, senders: Collection[str], vmtas: Iterable[str], report: Report
) -> SelectionRules:
    """Who sends what names nobody. `senders`: the names of all virtual MTAs and pools."""
    section = sections.selection
    for key, names in (("users", section.users), ("senders", section.senders)):
        for name in names.values():
            check_sender(name, ("selection", key), senders, report)
    return SelectionRules(
        section.users,
        tuple(section.senders.items()),
        _default(sections, senders, list(vmtas), report),
    )


def build_sources(sections: Sections, report: Report) -> list[SourceRules]:
    """The sources, in the order of the files: the first that fits a message counts."""
    found = []
    for name, section in sections.sources.items():
        path = ("source", name)
        try:
            check_name(name, "a source")
        except ValueError as error:
            report.problem(path, str(error))
        if not (section.networks or section.users or section.senders or report.is_told(path)):
            report.problem(path, "needs networks, users or senders: say whose mail is meant")
        found.append(
            SourceRules(
                name,
                section.networks,
                section.users,
                section.senders,
                section.notices,
                section.notice_language,
                report.place(path),
            )
        )
    return found


def _default(sections: Sections, senders: Collection[str], vmtas: list[str], report: Report) -> str:
    named = sections.selection.default
    if named:
        check_sender(named, ("selection", "default"), senders, report)
        return named
    if DEFAULT_VMTA in senders:
        return DEFAULT_VMTA
    if len(vmtas) > 1:
        for path, listener in sections.listeners:
            if listener.vmta is None:
                text = f'must say which virtual MTA sends mail that names none: vmta = "{vmtas[0]}", or'
                rest = f"{text} one of {', '.join(vmtas[1:])}; or set selection.default"
                report.problem(path, rest)
    return vmtas[0]


def check_sender(name: str, path: KeyPath, senders: Collection[str], report: Report) -> None:
    """Report a name that is neither a virtual MTA nor a pool."""
    if name not in senders:
        text = f"there is no [vmta.{name}] and no [pool.{name}]{did_you_mean(name, senders)}"
        report.problem(path, text)
