"""Whether a directory outlasts a restart, read from what is mounted where; what becomes of a node key where it does not."""

from pathlib import Path

import pytest

from licensing.errors import LicenseError
from licensing.model.license import Kind
from licensing.nodekey import NodeKey
from licensing.persistence import persists
from tests.support.machine_time import MachineTime
from tests.support.node import EARLY, a_guard
from tests.support.vendor import Vendor

CONTAINER = """\
500 400 0:60 / / rw,relatime - overlay overlay rw,lowerdir=/l
501 500 0:61 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k
502 500 254:1 /volumes/state /var/lib/sluice rw,relatime - ext4 /dev/vda1 rw
503 502 0:70 / /var/lib/sluice/scratch rw - tmpfs tmpfs rw
504 500 254:1 /with /srv/with\\040blank rw,relatime shared:1 - xfs /dev/vda1 rw
505 500 0:71 / /twice rw - ext4 /dev/vdb rw
506 505 0:72 / /twice rw - tmpfs tmpfs rw
a line of no form
"""


def gone(folder: Path) -> bool:
    return False


@pytest.mark.parametrize(
    ("folder", "lasts"),
    [
        ("/var/lib/other", False),
        ("/var/lib/sluice", True),
        ("/var/lib/sluice/license", True),
        ("/var/lib/sluice-2", False),
        ("/var/lib/sluice/scratch/license", False),
        ("/dev/shm/license", False),
        ("/srv/with blank/license", True),
        ("/twice/license", False),
    ],
)
def test_the_nearest_mount_says_whether_a_directory_lasts(
    tmp_path: Path, folder: str, lasts: bool
) -> None:
    (tmp_path / "mountinfo").write_text(CONTAINER)
    assert persists(Path(folder), tmp_path / "mountinfo") is lasts


def test_where_nothing_can_be_told_it_lasts(tmp_path: Path) -> None:
    assert persists(tmp_path, tmp_path / "none")
    (tmp_path / "empty").write_text("")
    assert persists(tmp_path, tmp_path / "empty")


def place(folder: Path, vendor: Vendor, kind: Kind) -> None:
    (folder / "license.d").mkdir(parents=True)
    (folder / "license.d/one.lic").write_bytes(vendor.file(kind, **EARLY))


@pytest.mark.parametrize("kind", [Kind.ENTERPRISE_SERVER, Kind.STANDARD_SERVER, Kind.HOT_BACKUP])
async def test_a29_no_key_that_would_be_lost_is_made_under_a_server_licence(
    tmp_path: Path, kind: Kind
) -> None:
    vendor, time = Vendor(), MachineTime()
    place(tmp_path, vendor, kind)
    guard = a_guard(tmp_path, vendor, time, persists=gone)
    with pytest.raises(LicenseError, match=r"another seat at each start.*lasting volume") as caught:
        await guard.open()
    assert caught.value.code == "state_ephemeral"
    assert not (tmp_path / "state/node.key").exists()
    await guard.stop()
    allowed = a_guard(tmp_path, vendor, time, persists=gone, allow_ephemeral=True)
    await allowed.open()
    assert "state_ephemeral" not in (await allowed.status())["findings"]
    await allowed.stop()


async def test_a_key_that_came_with_the_container_is_used_and_told_of(tmp_path: Path) -> None:
    vendor = Vendor()
    place(tmp_path, vendor, Kind.STANDARD_SERVER)
    key = NodeKey.create(tmp_path / "state/node.key")
    guard = a_guard(tmp_path, vendor, MachineTime(), persists=gone)
    await guard.open()
    found = await guard.status()
    assert found["node_id"] == key.id
    assert any("does not outlast a restart" in each["text"] for each in found["remarks"])
    await guard.stop()


async def test_a29_a_volume_node_that_comes_and_goes_is_told_of_and_works(tmp_path: Path) -> None:
    vendor = Vendor()
    place(tmp_path, vendor, Kind.VOLUME)
    guard = a_guard(tmp_path, vendor, MachineTime(), persists=gone)
    await guard.open()
    assert guard.entitlement.deliver
    assert "state_ephemeral" in (await guard.status())["findings"]
    await guard.stop()
    lasting = a_guard(tmp_path, vendor, MachineTime())
    await lasting.open()
    assert "state_ephemeral" not in (await lasting.status())["findings"]
    await lasting.stop()
