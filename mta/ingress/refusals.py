"""What clients were refused for, as lines of the log: who, at which step, with which reply. For people, and for fail2ban.

Only what a well-behaved client of yours does not do: relaying it may not, broken protocol, forged line ends, too many
connections, a message that drips; wrong passwords are told by the gate. What the state of the house refuses (a full disk, a
licence) is not the client's fault and is not told here. Strangers choose how often they fail, so lines are bounded: those beyond
are counted, and the count is told.
"""

from collections.abc import Callable

import structlog

from mta.ingress.gate import Client
from mta.model.reply import Reply

logger = structlog.get_logger()

MAX_LINES = 50  # within
WINDOW_S = 1.0


class RefusalLog:
    """Writes the refusals of a worker, at most `MAX_LINES` in `WINDOW_S`."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._window = 0.0
        self._lines = 0
        self._left_out = 0

    def note(self, client: Client, step: str, reply: Reply, **about: str) -> None:
        """This client heard `reply` at `step`. `about`: what it asked for, in its own words."""
        if not self._has_room():
            self._left_out += 1
            return
        # The address stands first: what follows is in a stranger's words, and no filter need read past them.
        logger.warning(
            "client refused",
            peer=client.peer.address,
            step=step,
            reply=str(reply),
            **{name: value for name, value in {"user": client.peer.user, **about}.items() if value},
        )

    def _has_room(self) -> bool:
        now = self._time()
        if now - self._window >= WINDOW_S:
            left_out, self._left_out = self._left_out, 0
            self._window, self._lines = now, 0
            if left_out:
                logger.warning("refusals were left out of the log", count=left_out)
        self._lines += 1
        return self._lines <= MAX_LINES
