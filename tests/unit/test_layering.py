"""The architecture, kept by a test: who may import whom, fenced libraries, nothing happens at import."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "kubectl_sidecar"

# A folder, or a file beside the folders, and what its files may import beside their own folder and __init__.
TABLE = """
    errors
    units      errors
    task       errors
    retry      errors
    process    errors task
    publish    errors
    kubectl    errors task process
    status     errors task units publish retry
    watch      errors task units process retry kubectl
    parse      errors task units process kubectl watch/plan
    supervise  errors task units process retry kubectl publish status watch parse/load
    cli        errors task units process retry kubectl publish status watch parse supervise
    __main__   cli/main
"""
MAY_IMPORT = {name: set(others) for name, *others in map(str.split, TABLE.strip().splitlines())}
FENCED = {"sh": "process/pipeline", "tenacity": "retry", "yaml": "parse/yamlfile", "signal": "process/"}
FENCED |= {"prometheus_client": "status/metrics"}
STARTS_PROCESSES = {"subprocess", "multiprocessing", "pty"}
# What may be called while a module is imported, beside constructors: what makes values and asks nothing.
HARMLESS_CALLS = {"dataclass", "field", "frozenset", "int", "map", "range", "tuple"}
HARMLESS_CALLS |= {"functools.cache", "functools.partial", "logging.getLogger", "os.path.dirname"}
HARMLESS_CALLS |= {"re.compile", "re.sub"}
HARMLESS_CALLS |= {"_one_of"}  # cli/flags: makes the check of a flag's value
HARMLESS_METHODS = {"fromkeys", "join", "replace", "split"}
# The files that import a library without the heavy modules that it hardly uses, and what they call for that.
LEAN_IMPORTERS = {"process/pipeline", "status/metrics"}
AROUND_LEAN_IMPORTS = {"sys.modules.keys", "sys.modules.update", "types.SimpleNamespace"}
MOST_LINES_OF_A_FUNCTION = 40

FILES = {str(path.relative_to(PACKAGE).with_suffix("")): path for path in sorted(PACKAGE.rglob("*.py"))}
FOLDERS = sorted({name.rpartition("/")[0] for name in FILES if "/" in name})


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text())


def owner(name: str) -> str:
    """The folder of a file, or itself."""
    return name.split("/")[0]


def imported(name: str) -> set[str]:
    """Every module that a file imports, at its top or in a function."""
    names: set[str] = set()
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: write the whole name of a module"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def ours(name: str) -> set[str]:
    """The files of the package that a file imports: cli/flags for kubectl_sidecar.cli.flags."""
    prefix = f"{PACKAGE.name}."
    inner = {other.removeprefix(prefix).replace(".", "/") for other in imported(name)}
    return inner & FILES.keys()


def test_every_folder_has_its_row() -> None:
    assert MAY_IMPORT.keys() == {owner(name) for name in FILES} - {"__init__"}


def test_a_file_imports_what_its_folder_may() -> None:
    for name in FILES.keys() - {"__init__"}:
        allowed = MAY_IMPORT[owner(name)] | {owner(name)}
        strange = {other for other in ours(name) if not {other, owner(other)} & allowed}
        assert not strange, f"{name} imports {strange}: see TABLE"


def test_there_is_no_circle_between_files() -> None:
    graphlib.TopologicalSorter({name: ours(name) for name in FILES}).prepare()


def test_there_is_no_circle_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for name in FILES:
        graph.setdefault(owner(name), set()).update({owner(other) for other in ours(name)} - {owner(name)})
    graphlib.TopologicalSorter(graph).prepare()
    may = {name: {owner(other) for other in others} for name, others in MAY_IMPORT.items()}
    graphlib.TopologicalSorter(may).prepare()


def test_each_library_has_one_importer() -> None:
    for name in FILES:
        roots = {other.split(".")[0] for other in imported(name)}
        strange = {root for root in roots & FENCED.keys() if not name.startswith(FENCED[root])}
        assert not strange, (
            f"{name} imports {strange}: that is for {[FENCED[root] for root in strange]} alone"
        )


def test_only_sh_starts_processes() -> None:
    for name in FILES:
        assert not {other.split(".")[0] for other in imported(name)} & STARTS_PROCESSES, name
        assert not {"system", "popen", "fork", "posix_spawn", "execv", "execve"} & attributes_of_os(name), (
            name
        )


def attributes_of_os(name: str) -> set[str]:
    uses = (node for node in ast.walk(parsed(name)) if isinstance(node, ast.Attribute))
    return {use.attr for use in uses if isinstance(use.value, ast.Name) and use.value.id == "os"}


def test_nothing_happens_at_import() -> None:
    for name in FILES:
        for node in run_at_import(parsed(name)):
            text = f"{name}:{getattr(node, 'lineno', '')}: {ast.unparse(node)}"
            if isinstance(node, ast.Call):
                is_lean = name in LEAN_IMPORTERS and ast.unparse(node.func) in AROUND_LEAN_IMPORTS
                assert is_harmless(node) or is_lean, text
            elif isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in {"os.environ", "sys.argv"}, text


def is_harmless(call: ast.Call) -> bool:
    called = ast.unparse(call.func)
    method = isinstance(call.func, ast.Attribute) and call.func.attr in HARMLESS_METHODS
    return called in HARMLESS_CALLS or called.lstrip("_")[0].isupper() or method


def run_at_import(module: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that are evaluated when a module is imported: not the bodies of its functions."""
    todo: list[ast.AST] = [node for node in module.body if not is_main_guard(node)]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)


def is_main_guard(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def test_functions_are_short() -> None:
    for name in FILES:
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                assert length < MOST_LINES_OF_A_FUNCTION, f"{name}: {node.name} has {length} lines"


def test_a_file_says_its_one_job_first() -> None:
    for name in FILES:
        docstring = ast.get_docstring(parsed(name)) or ""
        assert docstring.split("\n\n")[0].endswith("."), f"{name} does not open with a sentence"


def test_a_folder_says_its_one_job_in_a_sentence_and_does_nothing_else() -> None:
    for folder in FOLDERS:
        module = parsed(f"{folder}/__init__")
        assert len(module.body) == 1, folder
        assert re.fullmatch(r"[^.\n]+\.", ast.get_docstring(module) or ""), folder
