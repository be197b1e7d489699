"""Writes out the `__init__` of dataclasses, in the copy of the source that mypyc gets.

mypyc compiles a dataclass but leaves its `__init__` to the decorator, which makes one in Python at import: an object of six
fields took 326 ns, a frozen one of three 444 ns, and 34 ns with an `__init__` that stands in the source. A message makes some
thirty such objects; 7 % of the loop's own time went there. Nobody should have to write, or read, these lines.

Only what is meant exactly is written out; a class that is more (parents, `__post_init__`, `InitVar`, other options) is left to
the decorator.
"""

import ast

KNOWN_OPTIONS = {"frozen", "slots", "eq"}  # those that leave `__init__` as it is


def write_out(source: str) -> str:
    """The module with the `__init__` of its dataclasses written out.

    Each takes the place of the empty line behind the fields: the lines that tracebacks name stay those of the source.
    """
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        decorator = _plain_decorator(node)
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        if decorator is None or not fields or not all(map(_is_plain, fields)):
            continue
        behind = fields[-1].end_lineno
        row = decorator.end_lineno
        column = decorator.end_col_offset
        assert behind is not None
        assert row is not None
        assert column is not None
        if lines[behind]:
            continue
        lines[behind] = _init(fields, frozen=_is_frozen(decorator))
        comma = ", " if decorator.keywords else ""
        line = lines[row - 1]
        lines[row - 1] = f"{line[: column - 1]}{comma}init=False{line[column - 1 :]}"
    return "\n".join(lines)


def _plain_decorator(node: ast.ClassDef) -> ast.Call | None:
    """The `@dataclass(...)` of a class that has nothing to do with the making of its objects but its fields."""
    if node.bases or len(node.decorator_list) != 1:
        return None
    decorator = node.decorator_list[0]
    if not (isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "dataclass"):
        return None
    methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    options = {word.arg for word in decorator.keywords}
    if methods & {"__init__", "__post_init__"} or not options <= KNOWN_OPTIONS:
        return None
    return decorator


def _is_plain(item: ast.AnnAssign) -> bool:
    """A name with its type, and a default that may stand in a signature: a literal, a name, or a factory's."""
    if not isinstance(item.target, ast.Name) or "Var[" in ast.unparse(item.annotation):
        return False
    return not isinstance(item.value, ast.Call) or set(_field_words(item.value)) <= {
        "default_factory",
        "repr",
    }


def _field_words(value: ast.expr | None) -> dict[str, str]:
    """The words of `field(...)` with their values; `{"": ...}` for a call of anything else."""
    if not isinstance(value, ast.Call):
        return {}
    if ast.unparse(value.func) != "field":
        return {"": ast.unparse(value)}
    return {word.arg or "": ast.unparse(word.value) for word in value.keywords}


def _is_frozen(decorator: ast.Call) -> bool:
    return any(
        word.arg == "frozen" and ast.unparse(word.value) == "True" for word in decorator.keywords
    )


def _init(fields: list[ast.AnnAssign], *, frozen: bool) -> str:
    parameters = ", ".join(map(_parameter, fields))
    stores = []
    for item in fields:
        name = ast.unparse(item.target)
        factory = _field_words(item.value).get("default_factory")
        value = f"({factory})() if {name} is None else {name}" if factory else name
        stores.append(f"self.{name} = {value}")
    # A frozen class is so to all who use it; its own beginning is compiled to plain stores.
    leave = "  # type: ignore[misc]" if frozen else ""
    return f"    def __init__(self, {parameters}) -> None: {'; '.join(stores)}{leave}"


def _parameter(item: ast.AnnAssign) -> str:
    name, kind = ast.unparse(item.target), ast.unparse(item.annotation)
    if "default_factory" in _field_words(item.value):
        return f"{name}: {kind} | None = None"
    if item.value is None or isinstance(item.value, ast.Call):
        return f"{name}: {kind}"
    return f"{name}: {kind} = {ast.unparse(item.value)}"
