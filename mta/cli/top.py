"""`sluice top`: rates and the first queues, read anew until it is ended.

A server that goes away does not end it: the last numbers stay, marked as old, until it answers again. Keys are read where
standard input is a terminal; the terminal is left as it was found.
"""

import os
import select
import sys
import termios
import time
import tty
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from mta.cli.ask import (
    EXIT_UNAVAILABLE,
    Config,
    Row,
    Socket,
    fail,
    in_time,
    in_units,
    since,
    socket_of,
)
from mta.cli.completing import QUEUE_ORDERS
from mta.control.client import ControlClient
from mta.control.protocol import ControlError
from mta.model.escape import escape_controls
from mta.model.units import format_duration, parse_duration

if TYPE_CHECKING:
    from rich.console import Group

MOST_QUEUES = 50
OTHER_LINES = 8  # of a page: head, table's head, foot, and the line the cursor is left on
LEAST_S = 0.5
ANSWER_S = 5.0
SORTS = ("recipients", "bytes", "oldest", "due", "domain")


class Top:
    """What is shown: the last answers, and how they are sorted."""

    def __init__(self, socket: Path, sort: str) -> None:
        """Raises ValueError on another order."""
        if sort not in SORTS:
            raise ValueError(f"cannot sort by {sort}; sort by {', '.join(SORTS)}")
        self.sort = sort
        self._socket = socket
        self._status: Row = {}
        self._queues: list[Row] = []
        self._seen_at = 0.0
        self._trouble = ""

    def look(self) -> None:
        """Ask the server. Raises ControlError if it has never answered; later that is shown."""
        try:
            with ControlClient(self._socket, ANSWER_S) as client:
                status = client.call("status")
                queues = client.call("queues", sort=self.sort, limit=MOST_QUEUES)["queues"]
        except ControlError as error:
            if not self._status:
                raise
            self._trouble = error.text
            return
        self._status, self._queues, self._trouble = status, queues, ""
        self._seen_at = time.time()

    def sort_next(self) -> None:
        """By the next order."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def page(self, height: int) -> "Group":
        """As much as a terminal of this height shows."""
        from rich.console import Group
        from rich.text import Text

        lines: list[Any] = [self._line(each) for each in self._head()]
        if self._trouble:
            text = f"{self._trouble}: as it was {since(self._seen_at)}; asked again and again"
            lines.append(Text(text, style="red"))
        lines.append(self._table(max(1, height - OTHER_LINES)))
        silent = self._status["silent"]
        if silent:
            lines.append(Text(f"worker {', '.join(map(str, silent))} does not answer"))
        lines.append(self._line(f"by {self.sort} – s: sort, space: look now, q: end"))
        return Group(*lines)

    @staticmethod
    def _line(text: str) -> Any:
        from rich.text import Text

        return Text(text, no_wrap=True, overflow="ellipsis")

    def _head(self) -> tuple[str, str]:
        status = self._status
        totals = status["totals"]
        return (
            f"{status['hostname']}  up {format_duration(status['uptime_s'])}"
            f"  in {totals.get('last_minute_in', 0)}/min"
            f"  out {totals.get('last_minute_delivered', 0)}/min",
            f"queued {totals.get('queued_recipients', 0)}  held {totals.get('held', 0)}"
            f"  connections {totals.get('connections_in', 0)} in, {totals.get('connections_out', 0)} out"
            f"  lag p99 {status['loop_lag_p99_ms']} ms",
        )

    def _table(self, count: int) -> Any:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("queue", "rcpt", "conn", "in flight", "mode", "next", "last error"):
            right = name in ("rcpt", "conn", "in flight")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        for row in self._queues[:count]:
            values = (
                row["queue"],
                row["recipients"],
                row["connections"],
                row["in_flight"],
                "paused" if row["paused"] else row["mode"],
                in_time(max(row["next_at"] or 0, row["due"] or 0)),
                escape_controls(row["reason"]),
            )
            table.add_row(*(Text(str(value)) for value in values))
        return table


class Keys:
    """Single keys from a terminal, without a return; from anything else none come. A context manager."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if os.isatty(self._fd):
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def wait(self, within_s: float) -> str:
        """The next key; "" if none comes in time."""
        if self._before is None:
            time.sleep(within_s)
            return ""
        ready, _, _ = select.select([self._fd], [], [], within_s)
        # Nothing to read is the end: the terminal is gone.
        return (os.read(self._fd, 1).decode("ascii", "replace") or "q") if ready else ""


def top(
    every: Annotated[str, typer.Option(help="how often it is read anew")] = "2s",
    sort: Annotated[
        str,
        typer.Option(help="recipients, bytes, oldest, due or domain", autocompletion=QUEUE_ORDERS),
    ] = "recipients",
    config: Config = None,
    socket: Socket = None,
) -> None:
    """Rates and the first queues, refreshed until q or Ctrl-C. s sorts by the next column; space looks at once."""
    from rich.console import Console
    from rich.live import Live

    pause_s = max(LEAST_S, in_units(parse_duration, every))
    try:
        screen = Top(socket or socket_of(config), sort)
        screen.look()
    except ValueError as error:
        fail(str(error), code=2)
    except ControlError as error:
        fail(error.text, error.hint, EXIT_UNAVAILABLE)
    console = Console()
    # Ctrl-C ends it as it should end: quietly, the terminal as it was.
    with (
        suppress(KeyboardInterrupt),
        Keys(sys.stdin.fileno()) as keys,
        Live(console=console, auto_refresh=False) as live,
    ):
        while True:
            live.update(screen.page(console.height), refresh=True)
            key = keys.wait(pause_s)
            if key in ("q", "\x04"):
                return
            if key == "s":
                screen.sort_next()
            screen.look()
