"""The shipped units, judged by systemd's own tools: every line is understood, the service is shut in, its user comes."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
MAX_EXPOSURE = 2.0
BINARY = re.compile(r"/opt/sluice/bin/[\w-]+")

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=60, check=False
    )


def installed(place: Path) -> list[Path]:
    """The units as they would be installed, with a program that is here; a credential is loaded too."""
    units = []
    for name in ("sluice.service", "sluice.socket"):
        text = BINARY.sub("/bin/true", (UNITS / name).read_text("utf-8"))
        units.append(place / name)
        units[-1].write_text(re.sub(r"^#(LoadCredential=)", r"\1", text, flags=re.MULTILINE))
    return units


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    found = run("systemd-analyze", "verify", *installed(tmp_path))
    said = [line for line in found.stderr.splitlines() if "sluice" in line]
    assert said == []


def test_a_slip_in_a_unit_would_be_found(tmp_path: Path) -> None:
    service, socket = installed(tmp_path)
    service.write_text(service.read_text().replace("ProtectHome=yes", "ProtectHome=yess"))
    assert "ignoring: yess" in run("systemd-analyze", "verify", service, socket).stderr


def test_the_service_is_shut_in(tmp_path: Path) -> None:
    service, _ = installed(tmp_path)
    overall = run("systemd-analyze", "security", "--offline=true", service).stdout
    said = re.search(r"Overall exposure level for sluice.service: ([\d.]+)", overall)
    assert said is not None and float(said[1]) <= MAX_EXPOSURE


def test_it_tells_when_it_is_ready_and_is_watched() -> None:
    lines = (UNITS / "sluice.service").read_text("utf-8").splitlines()
    for line in ("Type=notify", "User=sluice", "AmbientCapabilities=CAP_NET_BIND_SERVICE"):
        assert line in lines
    assert [line for line in lines if line.startswith("WatchdogSec=")]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give directories to the user")
def test_the_user_and_the_directories_come_from_the_shipped_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for tool, kind in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        file = UNITS / f"sluice.{kind}"
        to = root / "usr" / "lib" / f"{kind}.d" / "sluice.conf"
        to.parent.mkdir(parents=True)
        shutil.copy(file, to)
        create = ["--create"] if kind == "tmpfiles" else []
        done = run(tool, f"--root={root}", *create, "sluice.conf")
        assert done.returncode == 0, done.stderr
    line = next(
        each for each in (root / "etc" / "passwd").read_text().splitlines() if "sluice" in each
    )
    user = int(line.split(":")[2])
    spool = (root / "var" / "spool" / "sluice").stat()
    assert spool.st_uid == user and stat.S_IMODE(spool.st_mode) == 0o700
    keys = (root / "etc" / "sluice" / "dkim").stat()
    assert keys.st_uid == 0 and stat.S_IMODE(keys.st_mode) == 0o750
