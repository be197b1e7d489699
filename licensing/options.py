"""What the guard is given at its start: the configuration's words, and what stands in the place of the machine in a test."""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from licensing.clock import Reading
from licensing.clock import read_machine as read_clocks_of_machine
from licensing.fingerprint import Machine
from licensing.persistence import persists
from licensing.trust import Trust

FLUSH_EVERY_S = 0.1  # a lone count waits so long for others at most: ten commits a second

SendMail = Callable[[Sequence[str], str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the configuration says of licensing. `root_file` opens Development licences only; `endpoint` is for tests."""

    license_dir: Path
    state_dir: Path
    reporting: bool = True
    endpoint: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    node_label: str = ""
    notify_email: tuple[str, ...] = ()
    notify_url: str = ""
    root_file: Path | None = None
    allow_ephemeral: bool = False  # a state directory that a restart empties
    version: str = "0"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a test puts in the place of the machine."""

    read_clocks: Callable[[], Reading] = field(default_factory=read_clocks_of_machine)
    elapsed: Callable[[], float] = time.monotonic
    chance: random.Random = field(default_factory=random.Random)
    trust: Trust | None = None  # in the place of the root built in
    machine: Machine | None = None
    persists: Callable[[Path], bool] = persists
    flush_every: float = FLUSH_EVERY_S
    send_mail: SendMail | None = None  # (recipients, subject, text): through the daemon itself
    tells: bool = (
        True  # False: for a look only; nobody is told of anything, and nothing counts as told
    )
