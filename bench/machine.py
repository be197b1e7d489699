"""The machine the numbers come from: what it is, and how fast it can be at all.

The limits say where a result comes from: a rate near "source to sink" measures the load generator,
one near the fdatasync or signature rate measures the disk or the arithmetic.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sysconfig
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench.load import ROOT, Load, has_smtp_source, pour, pour_pattern
from bench.results import Figure
from bench.signature import SigningKey
from bench.sink import Sink, has_smtp_sink

PRODUCT = ("mta", "licensing", "pyproject.toml")
FOR_S = 1.5  # each limit is taken for so long
DEADLINE_S = 60.0
_FLAGS = ("PY_CFLAGS", "PY_CFLAGS_NODIST", "PY_CORE_CFLAGS", "PY_LDFLAGS_NODIST")


def machine_facts(directory: Path) -> dict[str, Any]:
    """What this machine is: processor, memory, kernel, file system, versions, load before."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "file_system": _file_system(directory),
        "python": describe_python(),
        "packages": {name: version(name) for name in ("uvloop", "cryptography", "apsw", "dkimpy")},
        "load_before": round(os.getloadavg()[0], 2),
        "commit": product_commit(),
    }


def machine_limits(directory: Path, key: SigningKey, *, quick: bool) -> list[Figure]:
    """Source to sink, signatures and syncs a second. Takes about 15 s, quick 10 s."""
    small, large = (5_000, 500) if quick else (30_000, 3_000)
    source = "smtp-source" if has_smtp_source() else "bench.source"
    target = "smtp-sink" if has_smtp_sink() else "bench.uvsink"
    figures = []
    for size, count in ((4096, small), (102_400, large)):
        with Sink(directory) as sink:
            seconds = pour(Load(count, size), sink.port, directory, DEADLINE_S).seconds
            sink.wait_for(count, time.monotonic() + DEADLINE_S)
        figures.append(
            Figure(f"{source} straight to {target}, {size} bytes", count / seconds, "msg/s")
        )
    with Sink(directory) as sink:
        load = Load(small, 4096, recipient="user@d{n}.example")
        answer = pour_pattern(load, sink.port, directory, DEADLINE_S)
    rate = small / answer["seconds"]
    figures.append(Figure(f"bench.source straight to {target}, 4096 bytes", rate, "msg/s"))
    figures.append(Figure("Python, method calls on small objects", calls_per_second(), "/s"))
    for threads in (1, 2):
        rate = signatures_per_second(key, threads)
        figures.append(Figure(f"RSA-2048 signatures, {threads} thread(s)", rate, "/s"))
    for size in (4096, 65_536):
        rate = syncs_per_second(directory, size)
        figures.append(Figure(f"append {size} bytes + fdatasync", rate, "/s"))
    return figures


def describe_python(variables: Mapping[str, Any] | None = None) -> str:
    """The version of this Python, which runs Sluice too, and whether it was built with PGO and LTO, as sysconfig knows.

    A build with both is about a fifth faster. A distribution may do it by its own rules, of which sysconfig
    says nothing (Debian's does): then "not stated".
    """
    known = sysconfig.get_config_vars() if variables is None else variables
    configured = str(known.get("CONFIG_ARGS") or "")
    flags = " ".join(str(known.get(name) or "") for name in _FLAGS)
    stated = {
        "PGO": "--enable-optimizations" in configured or "-fprofile-use" in flags,
        "LTO": "--with-lto" in configured or "-flto" in flags,
    }
    words = ", ".join(
        f"{name} {'yes' if is_so else 'not stated'}" for name, is_so in stated.items()
    )
    return f"{platform.python_version()} ({words}, says sysconfig)"


def calls_per_second() -> float:
    """Method calls on small objects a second: what this build of Python is worth, in one number."""

    class Counter:
        __slots__ = ("seen",)

        def __init__(self) -> None:
            self.seen = {0: 0}

        def count(self, number: int) -> None:
            self.seen[0] = self.seen.get(number & 1, 0) + number

    counter, rounds = Counter(), 100_000
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < FOR_S:
        for number in range(rounds):
            counter.count(number)
        done += rounds
    return done / (time.perf_counter() - started)


def signatures_per_second(key: SigningKey, threads: int) -> float:
    """RSA-2048 signatures a second through `cryptography`, which releases the GIL for them."""
    private = serialization.load_pem_private_key(key.path.read_bytes(), password=None)
    assert isinstance(private, rsa.RSAPrivateKey)
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    counts = [0] * threads
    end = time.monotonic() + FOR_S

    def sign(index: int) -> None:
        while time.monotonic() < end:
            private.sign(b"x" * 600, scheme, digest)
            counts[index] += 1

    workers = [threading.Thread(target=sign, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / FOR_S


def syncs_per_second(directory: Path, size_bytes: int) -> float:
    """Appends of `size_bytes` made durable one by one, a second, in `directory`."""
    path = directory / "sync.probe"
    block, count = os.urandom(size_bytes), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = time.monotonic()
        while time.monotonic() - started < FOR_S:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            count += 1
        return count / (time.monotonic() - started)
    finally:
        os.close(descriptor)
        path.unlink()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(directory: Path) -> str:
    parts: list[Any] = psutil.disk_partitions(all=True)
    holding = [part for part in parts if directory.resolve().is_relative_to(part.mountpoint)]
    best = max(holding, key=lambda part: len(part.mountpoint), default=None)
    return f"{best.fstype} on {best.device} ({best.opts})" if best else "unknown"


def product_commit() -> str:
    """The last commit that changed the product, "-dirty" where it has changed since; "" outside of git.

    The commits of the bench's own results are none of the product's: with them nothing is to be measured anew.
    """
    last = _git("log", "-1", "--format=%h", "--", *PRODUCT)
    return f"{last}-dirty" if _git("status", "--porcelain", "--", *PRODUCT) else last


def _git(*words: str) -> str:
    answer = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip()
