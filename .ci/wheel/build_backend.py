"""The build backend: setuptools; wheels are compiled with mypyc as well, where a C compiler and Python's headers are at hand.

The pure Python is the source and the fallback: without a compiler the same commands install it, without a word. Only a wheel
is ever compiled: an editable install (`make run`, `make test`) stays pure, so that no old machine code can shadow newer source.
`SLUICE_COMPILE=0` never compiles, `SLUICE_COMPILE=1` fails where it cannot (for releases). `setup.py` says what is compiled.
"""

import os
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.sysconfig import customize_compiler, get_python_inc

__all__ = [
    "build_editable",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

SETUP = str(Path(__file__).with_name("setup.py"))
COMPILER = "mypy>=1.14"
IN_WHEEL = "SLUICE_IN_WHEEL"  # tells setup.py that a wheel is being built, and nothing else is


class _Setuptools(build_meta._BuildMetaBackend):
    """Setuptools with our setup.py, which stands beside this file."""

    def run_setup(self, setup_script: str = SETUP) -> None:
        super().run_setup(SETUP)


_setuptools = _Setuptools()
build_editable = _setuptools.build_editable
get_requires_for_build_editable = _setuptools.get_requires_for_build_editable
prepare_metadata_for_build_editable = _setuptools.prepare_metadata_for_build_editable
prepare_metadata_for_build_wheel = _setuptools.prepare_metadata_for_build_wheel


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """The compiler, and what Sluice depends on: mypyc needs the types of what is imported."""
    required: list[str] = _setuptools.get_requires_for_build_wheel(config_settings)
    if is_wanted():
        project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
        required += [COMPILER, *project["dependencies"]]
    return required


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """The wheel, compiled if that is wanted here."""
    for left in Path("build").glob("lib*"):
        shutil.rmtree(left)  # setuptools would pack what an earlier build has left there
    if is_wanted():
        os.environ[IN_WHEEL] = "1"
    try:
        name: str = _setuptools.build_wheel(wheel_directory, config_settings, metadata_directory)
        return name
    finally:
        os.environ.pop(IN_WHEEL, None)


def is_wanted() -> bool:
    """Whether to compile: as SLUICE_COMPILE says, else where it is possible."""
    wish = os.environ.get("SLUICE_COMPILE", "")
    return wish == "1" if wish else _can_compile()


def _can_compile() -> bool:
    """Whether there is a compiler, with the headers of this Python."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "look.c")
        source.write_text("#include <Python.h>\n")
        try:
            compiler = new_compiler()
            customize_compiler(compiler)
            compiler.compile([str(source)], directory, include_dirs=[get_python_inc()])
        except Exception:  # whatever it is: then there is none
            return False
    return True
