"""The machine is a folder with the real files in it: nothing is replaced in the module."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.fingerprint import Match, match, read_machine

LICENSE_ID = "L01JDQ4Z8XK5TQ0V3N7W2M9RBC"


def _write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def _a_server(root: Path) -> Path:
    _write(root, "etc/machine-id", "8a2f6f3c5f0e4c7c9a1b2c3d4e5f6071\n")
    _write(root, "sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8050-B7C04F4E4D32\n")
    _write(root, "sys/class/dmi/id/board_serial", ".7BN5MN2.CNFCP0084M01DN.\n")
    _write(root, "sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
    _write(root, "proc/1/cgroup", "0::/init.scope\n")
    _write(root, "proc/cpuinfo", "flags\t\t: fpu vme de pse\n")
    _write(
        root,
        "proc/self/mountinfo",
        "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
        "23 22 0:21 / /proc rw - proc proc rw\n",
    )
    (root / "sys/dev/block").mkdir(parents=True)
    os.symlink("../../devices/pci0000:00/block/sda/sda2", root / "sys/dev/block/8:2")
    (root / "dev/disk/by-uuid").mkdir(parents=True)
    os.symlink("../../sda2", root / "dev/disk/by-uuid/0b2c-root")
    os.symlink("../../sda1", root / "dev/disk/by-uuid/AA11-boot")
    return root


def test_a_server_is_known_by_its_components(tmp_path: Path) -> None:
    machine = read_machine(_a_server(tmp_path))
    assert machine.machine_class == "physical"
    assert dict(machine.components) == {
        "machine_id": "8a2f6f3c5f0e4c7c9a1b2c3d4e5f6071",
        "product_uuid": "4C4C4544-0042-3510-8050-B7C04F4E4D32",
        "board_serial": ".7BN5MN2.CNFCP0084M01DN.",
        "rootfs_uuid": "0b2c-root",
    }


def test_nothing_of_the_machine_can_be_read_from_its_fingerprint(tmp_path: Path) -> None:
    machine = read_machine(_a_server(tmp_path))
    sent = machine.fingerprint(LICENSE_ID)
    assert sorted(sent) == sorted(machine.components)
    assert all(len(each) == 32 and int(each, 16) >= 0 for each in sent.values())
    assert not set(sent.values()) & set(machine.components.values())


def test_two_licences_cannot_be_linked(tmp_path: Path) -> None:
    machine = read_machine(_a_server(tmp_path))
    one, other = machine.fingerprint(LICENSE_ID), machine.fingerprint("L" + "0" * 26)
    assert not set(one.values()) & set(other.values())
    assert one == machine.fingerprint(LICENSE_ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "To be filled by O.E.M.",
        "To Be Filled By O.E.M.",
        "Default string",
        "None",
        "Not Specified",
        "System Serial Number",
        "03000200-0400-0500-0006-000700080009",
    ],
)
def test_what_a_maker_forgot_to_fill_in_does_not_count(tmp_path: Path, text: str) -> None:
    root = _a_server(tmp_path)
    _write(root, "sys/class/dmi/id/product_uuid", text)
    assert "product_uuid" not in read_machine(root).components


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("run/systemd/container", "lxc"),
        ("proc/1/environ", "PATH=/bin\0container=podman\0"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n"),
        ("proc/1/cgroup", "12:cpu:/docker/0123\n"),
        ("proc/self/mountinfo", "1 0 0:50 / / rw - overlay overlay rw,lowerdir=/x\n"),
    ],
)
def test_a_container_is_known_by_its_key_alone(tmp_path: Path, path: str, text: str) -> None:
    root = _a_server(tmp_path)
    _write(root, path, text)
    machine = read_machine(root)
    assert machine.machine_class == "container"
    assert machine.fingerprint(LICENSE_ID) == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ("sys/class/dmi/id/product_name", "VMware Virtual Platform\n"),
        ("sys/hypervisor/type", "xen\n"),
        ("proc/cpuinfo", "flags : fpu vme hypervisor lahf_lm\n"),
    ],
)
def test_a_virtual_machine_says_so(tmp_path: Path, path: str, text: str) -> None:
    root = _a_server(tmp_path)
    _write(root, path, text)
    assert read_machine(root).machine_class == "vm"


def test_a_machine_that_shows_nothing_is_no_error(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.fingerprint(LICENSE_ID) == {}
    assert match({}, {}).holds


@pytest.mark.parametrize(("of", "enough"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_most_of_what_was_recorded_must_still_hold(of: int, enough: int) -> None:
    assert Match(enough, of).holds
    assert not Match(enough - 1, of).holds


@given(st.sets(st.sampled_from("abcde")), st.sets(st.sampled_from("abcde")))
def test_only_what_was_recorded_is_compared(recorded: set[str], changed: set[str]) -> None:
    was = dict.fromkeys(recorded, "1" * 32)
    now = {name: ("2" if name in changed else "1") * 32 for name in "abcde"}
    assert str(match(was, now)) == f"{len(recorded - changed)}/{len(recorded)}"
