"""A real Sluice that believes a vendor of the test's: `python -m tests.support.vendored run --config FILE`.

What a release build has built in lies beside the configuration, as `root.json`; the guard and all behind it are the real ones.
"""

import sys
from pathlib import Path
from typing import Any

from licensing.guard import Guard, Surroundings
from licensing.options import SendMail
from licensing.trust import Trust
from mta.config.load import Settings
from mta.runtime.license import guard_options
from mta.runtime.supervisor import run
from tests.support.daemon import Daemon
from tests.support.licensed import ROOT
from tests.support.vendor import Vendor

COMMAND = (sys.executable, "-m", "tests.support.vendored")
# Nobody listens on this port: the vendor cannot be reached.
LICENSE = """\
[license]
dir = "license.d"
state_dir = "license"
endpoint = "https://127.0.0.1:9"
"""


def vendored_daemon(
    place: Path, vendor: Vendor, *, license: str = LICENSE, **settings: Any
) -> Daemon:
    """A server that is not in lab mode and has this vendor's root built in; not started."""
    (place / "root.json").write_bytes(vendor.root_bytes)
    more = license + settings.pop("more", "")
    environment = {"PYTHONPATH": str(ROOT)}
    return Daemon(place, lab=False, command=COMMAND, environment=environment, more=more, **settings)


def main() -> int:
    """What the command does."""
    config = Path(sys.argv[sys.argv.index("--config") + 1])

    def open_guard(settings: Settings, send_mail: SendMail) -> Guard:
        trust = Trust.load((Path(settings.file).parent / "root.json").read_bytes())
        return Guard(guard_options(settings), Surroundings(trust=trust, send_mail=send_mail))

    return run(config, open_guard)


if __name__ == "__main__":
    sys.exit(main())
