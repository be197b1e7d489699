"""`sluice bounces`: what is refused, how often, and in which words."""

from typing import Annotated

import typer

from mta.cli.ask import Config, Json, Row, Socket, ask, in_units, show_json, show_table
from mta.model.units import parse_duration

OTHERS = "*"  # `mta.follow.tally`
_BARS = "▁▂▃▄▅▆▇█"


def bounces(
    by: Annotated[str, typer.Option(help="domain, site, category, job, vmta or verdict")] = (
        "category"
    ),
    since: Annotated[str, typer.Option(help="how far back, in whole hours, at most 30d")] = "24h",
    domain: Annotated[str, typer.Option(help="only of this domain")] = "",
    site: Annotated[str, typer.Option(help="only of this site")] = "",
    category: Annotated[str, typer.Option(help="only of this category")] = "",
    job: Annotated[str, typer.Option(help="only of this job")] = "",
    vmta: Annotated[str, typer.Option(help="only of this virtual MTA")] = "",
    verdict: Annotated[str, typer.Option(help="only hard, soft, block or transient")] = "",
    sort: Annotated[str, typer.Option(help="refused, attempts or name")] = "refused",
    limit: Annotated[int, typer.Option(help="how many to show")] = 20,
    config: Config = None,
    socket: Socket = None,
    as_json: Json = False,
) -> None:
    """What is refused, how often, and in which words. Of the last 30 days, some seconds late."""
    answer = ask(
        "bounces",
        config,
        socket,
        by=by,
        since_s=float(in_units(parse_duration, since)),
        domain=domain.lower(),
        site=site.lower(),
        category=category,
        job=job,
        vmta=vmta.lower(),
        verdict=verdict,
        sort=sort,
        limit=limit,
    )
    if as_json:
        show_json(answer)
    else:
        _show(answer)


def _show(answer: Row) -> None:
    counted = ("refused", "bounced", "deferred", "expired", "queues")
    rows = [
        (
            _named(row["name"]),
            *(row[name] for name in counted),
            f"{row['share']:.1%}",
            sparkline(row["line"]),
        )
        for row in answer["rows"]
    ]
    if not rows:
        typer.echo("nothing was refused")
        return
    show_table([answer["by"], *counted, "of attempts", "oldest → now"], rows)
    total = answer["total"]
    typer.echo(f"{total['refused']} of {total['attempts']} attempts refused ({total['share']:.1%})")
    replies = [
        (row["count"], row["category"], row["verdict"], _named(row["reply"]))
        for row in answer["replies"]
    ]
    show_table(["times", "category", "verdict", "reply"], replies)
    if answer["unnamed"]:
        typer.echo(f"{answer['unnamed']} more were too rare to keep the name that was asked for")


def sparkline(counts: list[int]) -> str:
    """The counts as bars, the highest full; a dot for none."""
    most = max(counts, default=0)
    return "".join(
        _BARS[(count * len(_BARS) - 1) // most if most else 0] if count else "·" for count in counts
    )


def _named(name: str) -> str:
    return "(others)" if name == OTHERS else name or "(none)"
