"""Renders the reference pages that follow from code outside of the configuration: `docs/cli.md` and
the manual pages from the tree of commands, `docs/json.md` from the shapes of their answers, the
files in `config/completions`,
`docs/metrics.md` from the catalogue of metrics, and the table of columns in `docs/accounting.md` from the record formats.
`python -m mta.cli.reference` rewrites them; a test compares.

What a command takes is read off the tree itself, so the page cannot tell of an option that is not there. What a column means
stands here, for the code that fills it needs no such text; a column without one is an error.
"""

from enum import Enum
from pathlib import Path
from typing import Any

import typer

from mta.cli.app import app
from mta.cli.completing import scripts
from mta.cli.json_page import render_json
from mta.cli.man import MAN_PAGES, render_man
from mta.cli.tree import EXIT_STATUS, OF_THE_SERVER, argument, children, spellings
from mta.follow.records import COLUMNS
from mta.metrics.catalogue import SERVER_METRICS, WORKER_METRICS, Metric

ROOT = Path(__file__).parents[2]
CLI_PAGE = ROOT / "docs" / "cli.md"
JSON_PAGE = ROOT / "docs" / "json.md"
COMPLETIONS = ROOT / "config" / "completions"
METRICS_PAGE = ROOT / "docs" / "metrics.md"
ACCOUNTING_PAGE = ROOT / "docs" / "accounting.md"

TABLE_BEGIN = "<!-- columns: rendered by `python -m mta.cli.reference`; do not edit by hand -->"
TABLE_END = "<!-- end of columns -->"

_HEAD = """\
# Commands

Rendered from the commands by `python -m mta.cli.reference`; do not edit by hand. Each command shows the same with `--help`.

## Speaking with a running server

`status`, `top`, `queues`, `orders`, `explain`, `trace`, `resolve`, `reload`, `rotate`, `shutdown`, `queue …`, `domains …`,
`sites …`, `jobs …` and `messages …` ask the server that runs, over its control socket.
They find it in this order: `--socket FILE` (or `SLUICE_SOCKET`); `server.control_socket` of
`--config FILE` (or `SLUICE_CONFIG`); the same of `/etc/sluice/sluice.toml`; `/run/sluice/control.sock`. Root, the server's own
user and the members of the socket's group may ask. What changes something is written to the server's log with the asker's uid.
With `--json` the answer comes as JSON, whose fields [json.md](json.md) tells; tables are folded to the width of the terminal,
JSON is not.

A queue is named `domain/vmta`; `domain` alone means the virtual MTA named `default`.

"""

_METRICS_HEAD = """\
# Metrics

Rendered from the catalogue by `python -m mta.cli.reference`; do not edit by hand.

With `[metrics] address = "127.0.0.1:9090"` the server shows its numbers at `http://127.0.0.1:9090/metrics`, in Prometheus' text
format: one page over all workers, each with the label `worker`. For Prometheus:

```yaml
scrape_configs:
  - job_name: sluice
    static_configs:
      - targets: ["127.0.0.1:9090"]
```

A worker that does not answer within a second has `sluice_worker_up` 0 and no other number. Counters begin at 0 when a worker
starts; `rate()` knows how to read that. What stands in the spool is counted anew at most so often that it costs the spool two
per cent of its time, so behind a large backlog those numbers may be some seconds old.

Beside it, `/healthz` answers 200 while every worker answers, and `/readyz` 200 while some worker takes mail, else 503 with words.
Let whatever restarts the server look at the first, and whatever hands it mail at the second: a restart mends no full disk.

[`config/grafana/sluice.json`](../config/grafana/sluice.json) is a dashboard of these numbers.

Worth an alarm: `sluice_worker_up == 0`, `sluice_intake_open == 0`, `sluice_follower_up == 0`,
`sluice_follower_lag_seconds > 60`, `sluice_dns_down == 1`,
`increase(sluice_bugs_total[1h]) > 0`, and
`histogram_quantile(0.99, rate(sluice_loop_lag_seconds_bucket[5m])) > 0.05`.
"""

_MEANINGS = {
    "type": "The kind of the record, as above.",
    "timeLogged": "When it happened, in UTC: `2019-02-08 21:54:05+0000`.",
    "timeQueued": "When the message was accepted.",
    "orig": "The envelope sender; empty for the null sender.",
    "rcpt": "The recipient.",
    "orcpt": "ORCPT as the feeder gave it.",
    "dsnAction": "`relayed` (d), `failed` (b) or `delayed` (t).",
    "dsnStatus": "Enhanced status with its meaning: `5.1.1 (bad destination mailbox address)`. Made of the reply's first digit "
    "where the host gave none.",
    "dsnDiag": "The reply: `smtp;550 5.1.1 …` as the host said it, `x-sluice;…` where we say it ourselves (DNS, connecting, "
    "time-outs, expiry).",
    "dsnMta": "The host that was spoken to: `name (address)`.",
    "bounceCat": "The category of a reply, one of the seventeen that existing tools know, such as `bad-mailbox` or "
    "`quota-issues`, or one of your own rules'; `success` for a delivery.",
    "srcType": "How the message came in: `smtp`.",
    "srcMta": "The feeder: its EHLO name and address.",
    "dlvType": "How it was to go out: `smtp`.",
    "dlvSourceIp": "Our address of that connection.",
    "dlvDestinationIp": "The host's address.",
    "dlvEsmtpAvailable": "The ESMTP extensions the host offered, separated by commas.",
    "dlvSize": "Bytes of the message as delivered.",
    "vmta": "The virtual MTA.",
    "jobId": "The job that the message named (`X-Job`).",
    "envId": "ENVID as the feeder gave it.",
    "queue": "`domain/vmta`.",
    "vmtaPool": "Always empty: `vmta` says who sent it, not which pool had chosen it.",
    "totalSecondsQueued": "Seconds from acceptance to this record.",
    "timeFirstAttempt": "When it was tried for the first time; empty if it never was.",
    "dlvTlsProtocol": "The TLS version of that connection; empty without TLS.",
    "dlvTlsCipher": "Its cipher.",
    "rcvSmtpUser": "The user that handed the message in, if it logged in.",
    "rcvSourceIp": "The feeder's address.",
    "rcvDestinationIp": "Our address that the feeder connected to.",
    "eventId": "`spool:number`. Unique, and rising within a spool.",
    "mayRepeat": "`true`: the message may reach this recipient twice. It was in flight at a crash, or the connection was lost "
    "after its final dot.",
    "messageId": "The id of the message: that of `queued as` and of Received, and what `sluice messages show` takes.",
    "attempts": "Attempts for this recipient so far, 0 if it was given up without any; in `tq` failures of the queue in a row.",
    "site": "The site of the queue.",
    "removedBy": "`expired` or `administrator`; empty where a reply ended it.",
    "nextAttempt": "When the queue is tried again.",
    "recipients": "How many recipients the message has.",
    "size": "Bytes of the message.",
    "category": "As `bounceCat`, but with our own names too: `rate-limited`, `greylisted`, `authentication`, which are "
    "`policy-related` there.",
    "verdict": "What to do about it: `hard`, `soft`, `block` or `transient`. Only where `fields` names it.",
    "fault": "Whose matter it is: `recipient`, `message`, `sender` or `network`. Only where `fields` names it.",
}


def render_cli() -> str:
    """`docs/cli.md`."""
    rows = [f"| {code} | {means} |" for code, means in EXIT_STATUS]
    parts = [_HEAD + "\n".join(["| exit status | means |", "|---|---|", *rows, ""])]
    tree: Any = typer.main.get_command(app)
    for name, command in children(tree):
        inner = list(children(command))
        if not inner:
            parts.append(_command(f"sluice {name}", command, "##"))
            continue
        parts.append(f"## sluice {name}\n\n{_text(command.help)}\n")
        parts += [_command(f"sluice {name} {child}", each, "###") for child, each in inner]
    return "\n".join(parts)


def render_columns() -> str:
    """The table of columns of `docs/accounting.md`, with its marks."""
    rows = ["| column | records | meaning |", "|---|---|---|"]
    for name, types in COLUMNS.items():
        meaning = _MEANINGS[name]
        rows.append(f"| `{name}` | {types} | {meaning} |")
    return "\n".join([TABLE_BEGIN, *rows, TABLE_END])


def render_accounting(page: str) -> str:
    """`docs/accounting.md` with the table of columns as it should be. Raises ValueError where a mark is missing."""
    before, begin, rest = page.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table: {TABLE_BEGIN} … {TABLE_END}")
    return before + render_columns() + after


def render_metrics() -> str:
    """`docs/metrics.md`."""
    return "\n".join(
        [
            _METRICS_HEAD,
            "## Of the server",
            "",
            *_metrics_table(SERVER_METRICS, ()),
            "",
            "## Of each worker",
            "",
            *_metrics_table(WORKER_METRICS, ("worker",)),
            "",
        ]
    )


def _metrics_table(metrics: tuple[Metric, ...], labels: tuple[str, ...]) -> list[str]:
    rows = ["| name | kind | labels | meaning |", "|---|---|---|---|"]
    for each in metrics:
        names = ", ".join(f"`{name}`" for name in (*labels, *each.labels))
        rows.append(f"| `{each.shown}` | {each.kind.value} | {names} | {_text(each.help)} |")
    return rows


def _command(name: str, command: Any, level: str) -> str:
    shown = [each for each in command.params if not each.hidden and each.name != "help"]
    asks_server = {each.name for each in shown} >= set(OF_THE_SERVER)
    if asks_server:
        shown = [each for each in shown if each.name not in OF_THE_SERVER]
    arguments = [argument(each) for each in shown if each.param_type_name == "argument"]
    usage = " ".join([name, *arguments])
    lines = [f"{level} {usage}", "", _text(command.help), ""]
    if asks_server:
        lines += ["Asks the running server: `--config`, `--socket`, `--json`.", ""]
    if shown:
        lines += ["| | default | meaning |", "|---|---|---|"]
        lines += [_row(each) for each in shown]
        lines.append("")
    return "\n".join(lines)


def _row(param: Any) -> str:
    if param.param_type_name == "argument":
        name = f"`{argument(param).strip('[]')}`"
    else:
        name = ", ".join(f"`{opt}`" for opt in spellings(param))
    meaning = _text(param.help)
    if isinstance(param.default, Enum):
        meaning += f" ({', '.join(f'`{each.value}`' for each in type(param.default))})"
    if param.envvar:
        meaning += f" (or `{param.envvar}`)"
    return f"| {name} | {_default(param)} | {meaning} |"


def _default(param: Any) -> str:
    if param.required:
        return "must be given"
    value = param.default
    if value is None or value is False or value in ("", (), []) or value == 0:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _text(text: str | None) -> str:
    """On one line, and no column of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> None:
    """Rewrite the pages."""
    MAN_PAGES.mkdir(exist_ok=True)
    for old in MAN_PAGES.glob("*.1"):
        old.unlink()
    for name, page in render_man().items():
        (MAN_PAGES / name).write_text(page, "utf-8")
    CLI_PAGE.write_text(render_cli(), "utf-8")
    JSON_PAGE.write_text(render_json(), "utf-8")
    COMPLETIONS.mkdir(exist_ok=True)
    for name, text in scripts().items():
        (COMPLETIONS / name).write_text(text, "utf-8")
    METRICS_PAGE.write_text(render_metrics(), "utf-8")
    accounting = ACCOUNTING_PAGE.read_text("utf-8")
    ACCOUNTING_PAGE.write_text(render_accounting(accounting), "utf-8")


if __name__ == "__main__":
    main()
