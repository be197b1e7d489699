"""Whether what is written to a directory is still there after a restart: no, in memory and in a container's own layer.

A node key that is lost with its container is made anew by the next one, and takes another seat each time (A29).
proc_pid_mountinfo(5): what is mounted where; the last mount of a place is what one sees there.
"""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
FLEETING = frozenset({"tmpfs", "ramfs", "overlay", "aufs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")  # blanks and such, in octal


def persists(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Whether this directory lies on something that lasts. Where that cannot be told, it does."""
    try:
        lines = mounts.read_text("utf-8", "replace").splitlines()
        folder = folder.resolve()
    except OSError:
        return True
    nearest, kind = -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, what = before.split(), after.split()
        if len(fields) < 5 or not what:
            continue
        at = Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        if folder.is_relative_to(at) and len(at.parts) >= nearest:
            nearest, kind = len(at.parts), what[0]
    return kind not in FLEETING
