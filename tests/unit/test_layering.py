"""The architecture, kept by a test: imports point down, libraries are fenced, nothing happens at import."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kubectl_sidecar"

# A module may import those of the rows above its own.
ROWS = """
    __init__ errors lean refusals jqwords document
    places
    durations expansion
    words
    pipeline
    tasks
    tasklines watching
    yamlfile
    taskfile
    preflight flags
    shutdown kube runtime volume
    children health
    commands
    publish
    status retry diagnosis versions inputs
    watch journal
    refresh
    ahead source
    watched
    taskloop
    loop
    run table arguments
    cli
    __main__
"""
ROW = {name: number for number, row in enumerate(ROWS.strip().splitlines()) for name in row.split()}
FENCED = {"sh": "children", "yaml": "yamlfile", "tenacity": "retry", "signal": "shutdown"}
STARTS_PROCESSES = {"sh", "subprocess", "multiprocessing", "pty"}
# What may be called while a module is imported, beside constructors: what makes values and asks nothing.
HARMLESS_CALLS = {"dataclass", "field", "frozenset", "int", "map", "range", "tuple"}
HARMLESS_CALLS |= {"functools.cache", "functools.partial", "logging.getLogger", "re.compile"}
HARMLESS_CALLS |= {
    "one_of",  # flags.py: makes the check of a flag's value
    "without",  # lean.py: a library is imported without parts that cost memory
}
HARMLESS_METHODS = {"join", "replace", "split"}
MODULES = sorted(PACKAGE.glob("*.py"))
MAX_MODULE, MAX_FUNCTION = 250, 40

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or in a function; ours without the package's name."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            inner = {f"{module}.{alias.name}" for alias in node.names}
            names.update(inner if module == PACKAGE.name else {module})
    return names


def ours(path: Path) -> set[str]:
    names = (
        name.removeprefix(f"{PACKAGE.name}.") for name in imported(path) if name.startswith(PACKAGE.name)
    )
    # `from kubectl_sidecar import __version__` is the package itself.
    return {name if (PACKAGE / f"{name}.py").exists() else "__init__" for name in names}


@each_module
def test_imports_point_down(path: Path) -> None:
    assert path.stem in ROW, f"give {path.name} its place in ROWS"
    upward = {name for name in ours(path) if ROW[name] >= ROW[path.stem]}
    assert not upward, f"{path.name} imports {upward}, which are not above it in ROWS"


def test_every_row_names_modules_that_exist() -> None:
    assert ROW.keys() == {path.stem for path in MODULES}


@each_module
def test_each_library_has_one_importer(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported(path)}
    strange = {name for name in roots & FENCED.keys() if FENCED[name] != path.stem}
    assert not strange, (
        f"{path.name} imports {strange}: that is for {[FENCED[name] for name in strange]} alone"
    )


@each_module
def test_only_children_starts_processes(path: Path) -> None:
    if path.stem != "children":
        assert not {name.split(".")[0] for name in imported(path)} & STARTS_PROCESSES
        assert not {"system", "fork", "posix_spawn", "execv", "execve"} & attributes_of_os(path)


def attributes_of_os(path: Path) -> set[str]:
    uses = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute))
    return {use.attr for use in uses if isinstance(use.value, ast.Name) and use.value.id == "os"}


@each_module
def test_nothing_happens_at_import(path: Path) -> None:
    for node in run_at_import(parsed(path)):
        text = f"{path.name}:{getattr(node, 'lineno', '')}: {ast.unparse(node)}"
        if isinstance(node, ast.Call):
            assert is_harmless(node), text
        elif isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in {"os.environ", "sys.argv"}, text


def is_harmless(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    method = isinstance(call.func, ast.Attribute) and call.func.attr in HARMLESS_METHODS
    return called in HARMLESS_CALLS or called.lstrip("_")[0].isupper() or method


def run_at_import(module: ast.Module) -> Iterator[ast.AST]:
    """The nodes that are evaluated when a module is imported: not the bodies of its functions."""
    todo: list[ast.AST] = [node for node in module.body if not is_main_guard(node, module)]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)


def is_main_guard(node: ast.stmt, module: ast.Module) -> bool:
    """`if __name__ == "__main__":`, and the one statement of __main__.py that starts the program."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "__name__ == '__main__'"
    return isinstance(node, ast.Raise) and node is module.body[-1]


@each_module
def test_modules_and_functions_are_short(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_MODULE, f"{path.name} has {lines} lines"
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{path.name}: {node.name} has {length} lines"


@each_module
def test_a_module_says_its_one_job_in_one_sentence(path: Path) -> None:
    docstring = ast.get_docstring(parsed(path)) or ""
    first = docstring.split("\n\n")[0]
    assert first.endswith("."), f"{path.name} does not open with a sentence"
