"""What machine this is, as far as the vendor may know: a few components, each a keyed hash. Design 3.4.

It is not the identity (that is the node key) but a detector of clones and of drift: most of what was recorded at activation must
still hold. Components are HMACs keyed by the value and bound to the licence, so that the vendor can neither read them nor link
two licences. No MAC address, IP or host name is ever used (C20), no subprocess started. Containers have no components of their
own: the host's would be those of every container on it.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from licensing.model.activation import Fingerprint

MAX_COMPONENT_BYTES = 4096
HEX_LENGTH = 32  # 16 bytes

COMPONENTS = {
    "machine_id": "etc/machine-id",
    "product_uuid": "sys/class/dmi/id/product_uuid",  # readable by root only
    "board_serial": "sys/class/dmi/id/board_serial",
    "cloud_instance_id": "var/lib/cloud/data/instance-id",
}

# What makers of boards write where a number belongs.
PLACEHOLDERS = re.compile(
    r"(?i)[0.\- ]*|[f\-]+|x+|none|unknown|uninitialized|default.*|not (specified|applicable|available|present).*"
    r"|n/?a|to be filled.*|system serial.*|base ?board serial.*|123456789|0123456789|03000200-0400-0500-0006-000700080009"
)

CONTAINER_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")
CONTAINER_GROUPS = re.compile(r"docker|kubepods|containerd|libpod|/lxc|/garden/")
HYPERVISORS = re.compile(
    r"(?i)qemu|kvm|vmware|virtualbox|innotek|xen|bochs|parallels|bhyve|amazon ec2|openstack|google compute"
    r"|digitalocean|hetzner vserver|virtual machine|alibaba cloud|ovirt|nutanix"
)

MachineClass = Literal["physical", "vm", "container"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the vendor calls this machine's class, and the components it can be known by (never sent as they are)."""

    machine_class: MachineClass
    components: Mapping[str, str]

    def fingerprint(self, license_id: str) -> Fingerprint:
        """The components as they are sent under this licence, and compared with those of the activation."""
        return {
            name: hmac.new(
                value.encode(), f"sluice-fp-v1|{license_id}|{name}".encode(), hashlib.sha256
            ).hexdigest()[:HEX_LENGTH]
            for name, value in self.components.items()
        }


@dataclass(frozen=True, slots=True)
class Match:
    """How many of the recorded components are still the same."""

    same: int
    of: int

    @property
    def holds(self) -> bool:
        """Policy *most*: at least ⌈(n+1)/2⌉ of n. Where nothing was recorded nothing can differ."""
        return self.of == 0 or self.same >= (self.of + 2) // 2

    def __str__(self) -> str:
        return f"{self.same}/{self.of}"


def match(recorded: Fingerprint, present: Fingerprint) -> Match:
    """Compare what was recorded at activation with what is now. A component that cannot be read any more is not the same."""
    return Match(sum(present.get(name) == was for name, was in recorded.items()), len(recorded))


def read_machine(root: Path = Path("/")) -> Machine:
    """Look at the machine below `root`. What cannot be read is left out: it is never an error."""
    machine_class = _class(root)
    if machine_class == "container":
        return Machine(machine_class, {})
    found = {name: _text(root / path) for name, path in COMPONENTS.items()}
    found["rootfs_uuid"] = _rootfs_uuid(root)
    return Machine(
        machine_class,
        {name: value for name, value in found.items() if not PLACEHOLDERS.fullmatch(value)},
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_COMPONENT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _class(root: Path) -> MachineClass:
    if _is_container(root):
        return "container"
    makers = "\n".join(
        _text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")
    )
    flags = _text(root / "proc/cpuinfo")
    if _text(root / "sys/hypervisor/type") or HYPERVISORS.search(makers) or " hypervisor" in flags:
        return "vm"
    return "physical"


def _is_container(root: Path) -> bool:
    if any((root / mark).exists() for mark in CONTAINER_MARKS):
        return True
    if b"container=" in _text(root / "proc/1/environ").encode():
        return True
    if CONTAINER_GROUPS.search(_text(root / "proc/1/cgroup")):
        return True
    return any(kind == "overlay" for kind, _ in _mounted_at_root(root))


def _mounted_at_root(root: Path) -> list[tuple[str, str]]:
    """(file system, major:minor) of what is mounted at /, the newest last. proc_pid_mountinfo(5)."""
    found = []
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 4 and fields[4] == "/" and after:
            found.append((after.split()[0], fields[2]))
    return found


def _rootfs_uuid(root: Path) -> str:
    """The name under /dev/disk/by-uuid of the device that / is on; "" where there is none."""
    mounted = _mounted_at_root(root)
    if not mounted:
        return ""
    try:
        device = os.path.basename(os.readlink(root / "sys/dev/block" / mounted[-1][1]))
        links = sorted((root / "dev/disk/by-uuid").iterdir())
        names = [link.name for link in links if os.path.basename(os.readlink(link)) == device]
    except OSError:
        return ""
    return names[0] if names else ""
