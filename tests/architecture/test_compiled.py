"""What mypyc compiles in a wheel: `setup.py` names it, and the pure Python stays what runs everywhere else."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

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


def _written_out(path: str) -> ModuleType:
    """The module as mypyc gets it, run by Python."""
    sys.path.insert(0, str(ROOT / ".ci" / "wheel"))
    try:
        constructors = importlib.import_module("constructors")
    finally:
        del sys.path[0]
    source = (ROOT / path).read_text()
    written = constructors.write_out(source)
    assert written.count("\n") == source.count("\n"), "tracebacks would name other lines"
    module = ModuleType(path.removesuffix(".py").replace("/", "."))
    with patch.dict(sys.modules, {module.__name__: module}):  # dataclasses look there
        # Only when compiled may a frozen class's own constructor store.
        exec(compile(written.replace("frozen=True, ", ""), path, "exec"), vars(module))
    return module


def _parameters(made: type) -> list[tuple[str, str]]:
    parameters = inspect.signature(made).parameters.values()
    # A factory's default is made in the constructor, and None in its signature.
    return [
        (each.name, "None" if "factory" in repr(each.default) else repr(each.default))
        for each in parameters
    ]


@pytest.mark.skipif(mta.form() == "compiled", reason="signatures are read from pure Python")
@pytest.mark.parametrize("path", _chosen())
def test_a_constructor_that_is_written_out_takes_what_the_decorators_takes(path: str) -> None:
    name = path.removesuffix(".py").replace("/", ".")
    original, written = importlib.import_module(name), _written_out(path)
    for key, made in vars(original).items():
        if dataclasses.is_dataclass(made) and isinstance(made, type) and made.__module__ == name:
            assert _parameters(vars(written)[key]) == _parameters(made), key


def test_constructors_are_written_out_for_what_a_message_makes() -> None:
    # A class that no longer is plain would be made by Python again, at ten times the cost, and nobody would notice.
    for path, names in (
        ("mta/model/envelope.py", ["Message", "Draft"]),
        ("mta/model/reply.py", ["Reply"]),
        ("mta/model/outcome.py", ["Delivered", "Deferred", "Failed"]),
        ("mta/smtp/grammar.py", ["MailFrom", "RcptTo"]),
        ("mta/smtp/client.py", ["ReplyTo"]),
        ("mta/ingress/intake.py", ["Submission", "_Examined"]),
    ):
        module = _written_out(path)
        for name in names:
            # The decorator's own has its code from nowhere.
            assert vars(module)[name].__init__.__code__.co_filename == path
