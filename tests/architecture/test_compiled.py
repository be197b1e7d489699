"""What mypyc compiles in a wheel: `setup.py` names it, and the pure Python stays what runs everywhere else."""

import ast
import importlib
import pkgutil
from pathlib import Path

import mta

ROOT = Path(__file__).parents[2]


def _chosen() -> list[str]:
    for node in ast.parse((ROOT / ".ci" / "wheel" / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            rooms: dict[str, str] = ast.literal_eval(node.value)
            return [
                f"mta/{room}/{name}.py" for room, names in rooms.items() for name in names.split()
            ]
    raise AssertionError("setup.py names nothing")


def test_every_module_that_is_to_be_compiled_exists() -> None:
    # A name that is wrong would not be noticed otherwise: the wheel would be pure Python.
    assert [name for name in _chosen() if not (ROOT / name).is_file()] == []


def test_machine_code_stands_in_no_source_tree() -> None:
    # It would shadow source that is newer; only in a wheel there is no newer source.
    assert any((ROOT / "mta").rglob("*.so")) == (mta.form() == "compiled")


def test_no_compiled_class_has_a_child_that_is_not() -> None:
    # Such a child cannot be made, or is refused where its parent is expected.
    compiled = {name.removesuffix(".py").replace("/", ".") for name in _chosen()}
    names = [each.name for each in pkgutil.walk_packages(mta.__path__, "mta.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    children = {
        f"{child.__module__}.{child.__qualname__}"
        for module in modules
        for parent in vars(module).values()
        if isinstance(parent, type) and parent.__module__ in compiled
        for child in type.__subclasses__(parent)
        if child.__module__.startswith("mta.") and child.__module__ not in compiled
    }
    assert children == set()
