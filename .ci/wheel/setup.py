"""What of Sluice is compiled when a wheel is built (`build_backend.py` says when); everything else stands in pyproject.toml.

Chosen by the profile of the hot path: the session machines, the header and signature formats, the scheduler, and the rooms
that a message passes on the loop. Unsigned 4 KB messages: 264 us of CPU a message in pure Python, 182 compiled (lower quartiles
of 12, interleaved).

Left out, though near: `model.errors` and `io.clock` (others inherit from them, and a compiled class bears only compiled
children), `model.event` (msgspec builds its structs from live classes), `smtp.steps` (an enum that is given values and words),
`policy.rules` and `policy.book` (they travel to the workers by pickle, which compiled classes do not survive),
`model.address` and `model.escape` (lone surrogates in literals),
`spool.commit` (an attribute named like a word of C, and a thread whose time is SQLite's). `make test-compiled` runs the tests
over what is compiled.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))

from constructors import write_out

COMPILED = {
    "bounce": "classify",
    "dkim": "canonical keys signer",
    "dns": "answers wire",
    "egress": "ahead deliveries dispatcher opening route session settle transaction",
    "follow": "records",
    "ingress": "collect gate intake smtp",
    "io": "deadlines threads",
    "metrics": "counts histogram timings",
    "mime": "author headers trace",
    "model": "envelope outcome reply units",
    "policy": "admission pools reaction retry",
    "queue": "actions alarms answers connecting finding leases limits memory queue rate scheduler trouble window",
    "smtp": "client dots extensions grammar lines octets parameters replies server",
    "spool": "bodies inflight ops outbox queries rows store writer",
}


class AllOrNothing(build_ext):
    """The modules call each other in C: a wheel has all of them compiled, or none."""

    def run(self) -> None:
        """Compile; where that fails and nobody insists, leave nothing behind."""
        try:
            super().run()
        except Exception as error:
            if os.environ.get("SLUICE_COMPILE") == "1":
                raise
            self.warn(f"not compiled, the wheel is pure Python: {error}")
            for built in Path(self.build_lib).rglob("*.so"):
                built.unlink()
            self.extensions = []


def extensions() -> list[Extension]:
    """All modules of COMPILED; none outside a wheel, or where mypyc is missing or refuses them."""
    if os.environ.get("SLUICE_IN_WHEEL") != "1":
        return []
    try:
        from mypyc.build import mypycify

        modules = [
            f"mta/{room}/{name}.py" for room, all_ in COMPILED.items() for name in all_.split()
        ]
        c_files = str(Path("build").resolve())
        # One C file a module: 0.4 GB of memory and 84 s; in one file 0.8 GB and 131 s, and no faster code.
        with _copy_to_compile(modules):
            return list(mypycify(modules, opt_level="2", multi_file=True, target_dir=c_files))
    except (ImportError, SystemExit):  # what is wrong it has written by now
        if os.environ.get("SLUICE_COMPILE") == "1":
            raise
        return []


@contextlib.contextmanager
def _copy_to_compile(modules: list[str]) -> Iterator[None]:
    """Within, the current directory is a copy of the source in which constructors are written out."""
    with tempfile.TemporaryDirectory() as directory:
        for package in ("mta", "licensing"):
            shutil.copytree(package, Path(directory, package))
        shutil.copy("pyproject.toml", directory)
        for name in modules:
            Path(directory, name).write_text(write_out(Path(name).read_text()))
        with contextlib.chdir(directory):
            yield


setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNothing})
