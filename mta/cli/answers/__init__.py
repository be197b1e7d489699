"""The shape of every answer that `--json` prints, by command: what `sluice schema` and docs/json.md tell.

Nothing is built with these; the answers come from where they come from. Tests hold every real answer that passes through them
against its shape (`check_answer`), so the two cannot drift apart.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from mta.cli.answers import license, mail, offline, server

_GROUPS: dict[str, Any] = {"domains": mail.Domains, "sites": mail.Sites, "jobs": mail.Jobs}

SHAPES: dict[str, Any] = {
    "status": server.Status,
    "queues": mail.Queues,
    "orders": mail.Orders,
    "explain": mail.Explained,
    "resolve": server.Resolved,
    "reload": server.Reloaded,
    "rotate": server.Rotated,
    "shutdown": server.Stopping,
    "trace": server.TraceLine,
    "bounces": mail.Refusals,
    "vmtas": mail.Vmtas,
    "queue show": mail.QueueShown,
    "queue pause": mail.QueuePaused,
    "queue resume": mail.QueuePaused,
    "queue retry": mail.QueueRetried,
    "queue drain": mail.Orders,
    "queue undrain": mail.Recalled,
    "queue limit": mail.Orders,
    "queue unlimit": mail.Recalled,
    **{f"{kind} list": shape for kind, shape in _GROUPS.items()},
    **{f"{kind} {verb}": mail.Orders for kind in _GROUPS for verb in ("pause", "drain")},
    **{f"{kind} resume": mail.Recalled for kind in _GROUPS},
    **{f"{kind} limit": mail.Orders for kind in ("domains", "sites")},
    **{f"{kind} unlimit": mail.Recalled for kind in ("domains", "sites")},
    **{f"vmta {verb}": mail.VmtaState for verb in ("pause", "resume", "drain")},
    "messages list": mail.Recipients,
    "messages show": mail.Recipients,
    "messages hold": mail.Held,
    "messages release": mail.Released,
    "messages delete": mail.Deleted,
    "messages retry": mail.Retried,
    "messages reroute": mail.Rerouted,
    "messages export": mail.Exported,
    "messages import": mail.Imported,
    "spool check": list[offline.SpoolReport],
    "bounce classify": offline.Classified,
    "config check": offline.ConfigProblems,
    "config show": offline.ConfigShown,
    "config diff": server.ConfigChanges,
    "config explain": offline.ConfigExplained,
    "dkim generate": offline.DkimKey,
    "dkim check": offline.DkimChecked,
    "doctor": offline.Examined,
    "license status": license.LicenseStatus,
    "license show": license.Licenses,
    "license usage": license.Usage,
    "license usage --reconcile": license.Reconciled,
    "license events": list[license.LicenseEvent],
    "license test-connection": list[license.ConnectionStep],
    "license install": license.InstalledFile,
    "license activate": license.Activated,
    "license deactivate": license.Deactivated,
    "license report now": license.Reported,
    "license report show": list[license.SentStatement],
    "license report import": license.TakenAnswers,
}
# One object a line, not one in all.
LINES = frozenset({"trace", "bounce classify"})


def command_of(words: Sequence[str]) -> str:
    """The command that these words begin with, of those that have a shape; "" for none."""
    for length in range(min(3, len(words)), 0, -1):
        name = " ".join(words[:length])
        if name in SHAPES:
            return name
    return ""


def check_answer(command: str, answer: Any) -> None:
    """Hold an answer against its command's shape. Raises ValueError that says where it differs."""
    msgspec.convert(answer, SHAPES[command], strict=True)


def make_schema(command: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a command's answer. Raises KeyError where it has none."""
    shape = SHAPES[command]
    schema: dict[str, Any] = msgspec.json.schema(shape)
    title = (
        f"One line of sluice {command} --json" if command in LINES else f"sluice {command} --json"
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}


def show_schema(command: str) -> str:
    """The same as text."""
    return json.dumps(make_schema(command), indent=2, ensure_ascii=False)
