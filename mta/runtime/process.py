"""What every process of the server does alike: exit codes, log, collector, descriptors, and the words on the doors."""

import gc
import os
import resource
from contextlib import suppress

from mta.config.load import Settings
from mta.io.log import set_up_log

EXIT_OK = 0
EXIT_RUNNING = 3  # another server uses the same licences
EXIT_TEMPFAIL = 75  # EX_TEMPFAIL: a new start may help
EXIT_CONFIG = 78  # EX_CONFIG

EVENTS = (
    b"events"  # the note of a connection to the follower process; any other is a listener's number
)

# The GIL is handed over at most this late: with the default 5 ms a commit beside a busy loop took 39 ms, with this 9 ms.
SWITCH_INTERVAL_S = 0.0005

MAX_DESCRIPTORS = 1_048_576  # Linux' own highest (fs.nr_open)


def cores() -> int:
    """How many cores this server may use."""
    return len(os.sched_getaffinity(0))


def raise_descriptor_limit() -> None:
    """Use every descriptor that this system allows us: a shell's 1,024 end at the thousandth connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft < wanted:
        with suppress(
            ValueError, OSError
        ):  # a kernel's own limit may be lower: what there is must do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def log_as_told(settings: Settings) -> None:
    """Begin to log as the configuration says: where, from which level on, in which form."""
    rules = settings.logging
    stream = open(rules.path, "a", encoding="utf-8", buffering=1) if rules.path else None  # noqa: SIM115 - kept for ever
    set_up_log("json" if rules.format == "json" else "logfmt", rules.level, stream)


def tune_collector() -> None:
    """Keep the garbage collector off the loop's back.

    What lives now lives for ever: it need not be walked. Messages and entries form no cycles, so the young generations find
    little; a walk through the oldest held the loop for 50 to 110 ms with 30,000 queues, so it happens once in a long while.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 1_000)
