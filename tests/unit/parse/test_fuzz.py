"""No input crashes the loader or makes it work more than in proportion to its length."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.task import Settings

ENVIRON = {"X": "a b", "EMPTY": "", "BROKEN": "\udcff\0"}
FEW, MANY = 150, 5_000
PIECES = [
    *"'\"\\${}()<>|&;`~!#=,:@% \n\t\r\0-[]*?.",
    *(
        "p",
        "> x",
        "a/b",
        "..",
        "${X:-",
        "$X",
        "$EMPTY",
        "$BROKEN",
        "$NO",
        "$(X)",
        "2>",
        "<<E",
        "{a,b}",
        "{1..3}",
        "\\\n",
    ),
    *(
        "@every ",
        "@watch ",
        "@mode 0640 ",
        "@on-change ",
        "http://",
        "@evry ",
        "5s ",
        "kubectl get -w ",
        "jq ",
        "\nkubectl ",
        "é漢🙂",
        "\x1b",
        "\x85",
    ),
    *(
        "tasks:\n",
        "- ",
        "run: ",
        "output: ",
        "every: ",
        "onChange: ",
        "mode: ",
        "- |\n  ",
        "  ",
        ": ",
        " #",
        "&a ",
        "*a",
        "!!str ",
        "? ",
    ),
    *("---\n", '"\\ud800"', '"\\Uffffffff"', "%YAML 1.1\n", "'", "[", "{", ">\n", "\ufeff", "\udc80", "<<: "),
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.text())


def load(path: Path) -> str:
    """Return what a file is made of: its outputs, or its problems."""
    try:
        tasks = Loader(Settings(files=(str(path),)), ENVIRON, lambda _: (0, "")).load()
    except InvalidInput as error:
        return str(error)
    return "\n".join(task.output for task in tasks)


def survives(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    text = load(path)
    assert text
    text.encode()
    assert all(character.isprintable() or character in "\n\t" for character in text if character < "\x80")


def fuzz(count: int, tmp_path: Path) -> None:
    config = settings(
        max_examples=count, database=None, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    names = st.sampled_from(["tasks", "tasks.yaml"])

    @config
    @given(TEXTS, names)
    def any_text(text: str, name: str) -> None:
        for start in ("", "tasks:\n- p > x\n"):
            survives(tmp_path / name, (start + text).encode("utf-8", "surrogatepass"))

    @config
    @given(st.binary(), names)
    def any_bytes(data: bytes, name: str) -> None:
        survives(tmp_path / name, data)

    any_text()
    any_bytes()


@pytest.mark.slow
def test_no_text_crashes_the_loader(tmp_path: Path) -> None:
    fuzz(FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_text_of_many_crashes_the_loader(tmp_path: Path) -> None:
    fuzz(MANY, tmp_path)


LINES: dict[str, Callable[[int], str]] = {
    "plain lines": lambda n: "".join(f"p > {i}\n" for i in range(n)),
    "one long word": lambda n: "p " + "a" * (n * 100) + " >> x",
    "many words": lambda n: "p " + "a " * n + "> x",
    "many stages": lambda n: "p | " * n + "p > x",
    "many quotes": lambda n: "p " + "'a'\"b\"\\c" * n + " > x",
    "unclosed after many quotes": lambda n: "p " + "'a' " * n + "'",
    "a quote in every line": lambda n: "kubectl ' > x\n" * n,
    "a double quote in every line": lambda n: 'kubectl " > x\n' * n,
    "both quotes in turn": lambda n: "kubectl ' > x\nkubectl \" > x\n" * n,
    "an escaped quote in every line": lambda n: 'kubectl "\n' + 'kubectl \\" > x\n' * n,
    "an open default in every line": lambda n: "kubectl ${X:-a\n" * n,
    "an open quoted default in every line": lambda n: 'kubectl "${X:-a\n' * n,
    "a deep default in every line": lambda n: ("kubectl " + "${X:-" * 25 + "\n") * n,
    "deep defaults": lambda n: "p " + "${X:-" * n + "}" * n + " > x",
    "deep quoted defaults": lambda n: 'p "' + "${X:-" * n + "}" * n + '" > x',
    "many defaults": lambda n: "p " + "${NO:-${X:-a}b}" * n + " > x",
    "continuations": lambda n: "p a" + "\\\n" * n + " > x",
    "blank continuations": lambda n: "p " + " \\\n" * n + " > x",
    "split operators": lambda n: "p " + ">\\\n" * n,
    "blank lines": lambda n: "\n" * n + "p > x",
    "comments": lambda n: "# c\n" * n + "p > x",
    "comments in a pipe": lambda n: "p |" + "\n# c" * n + "\np > x",
    "open braces": lambda n: "p " + "{" * n + " > x",
    "braces": lambda n: "p " + "{" * n + "}" * n + " > x",
    "braces with commas": lambda n: "p " + "{a," * n + " > x",
    "braces with dots": lambda n: "p " + "{a.." * n + "}" * n + " > x",
    "braces after quotes": lambda n: "p " + "''" * n + "{a,b} > x",
    "many problems in a line": lambda n: "p " + "$NO " * n + "> x",
    "many problems": lambda n: "p $NO ~ {a,b} >> x\n" * n,
    "many operators": lambda n: "p " + "; " * n + "> x",
    "many outputs": lambda n: "p " + "> x " * n,
    "many pipes": lambda n: "p " + "| " * n + "> x",
    "duplicate outputs": lambda n: "p > x\n" * n,
    "nested outputs": lambda n: "".join(f"p > {'a/' * (i % 200)}b\n" for i in range(n)),
    "a long path": lambda n: "p > " + "a/" * n + "b",
    "many directives": lambda n: "@watch " * n + "p > x",
    "many unknown directives": lambda n: "@evry " * n + "p > x",
    "a long directive": lambda n: "@" + "e" * n * 100 + " p > x",
    "unicode": lambda n: "p " + "漢\u2028\x85" * n + " >> x",
}
YAMLS: dict[str, Callable[[int], str]] = {
    "items": lambda n: "tasks:\n" + "".join(f"- p > {i}\n" for i in range(n)),
    "mappings": lambda n: "tasks:\n" + "".join(f"- run: p\n  output: o{i}\n  every: 5s\n" for i in range(n)),
    "blocks": lambda n: "tasks:\n" + "".join(f"- |\n  p |\n   q > {i}\n" for i in range(n)),
    "a long block": lambda n: "tasks:\n- |\n" + "  p |\n" * n + "  p > x",
    "blocks with problems": lambda n: "tasks:\n" + "- |\n  p |\n   q >> $NO\n" * n,
    "duplicate keys": lambda n: "every: 5s\n" * n,
    "unknown keys": lambda n: "evry: 5s\n" * n,
    "a long key": lambda n: '"' + "e" * n * 10 + '": 5s',
    "deep mappings": lambda n: "tasks: " + "{a: " * n * 20,
    "a long plain value": lambda n: "tasks:\n- " + "p\n  " * n + "> x",
    "folded text": lambda n: "tasks:\n- >\n" + "  p\n" * n,
    "comments": lambda n: "# c\n" * n + "tasks:\n- p > x",
}


def work(path: Path) -> int:
    """How many calls and lines it takes: a measure that a busy machine does not change."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:  # noqa: ANN401, ARG001
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        load(path)
    finally:
        sys.settrace(before)
    return count


SHAPES = [pytest.param(make, False, id=name) for name, make in LINES.items()]
SHAPES += [pytest.param(make, True, id=f"yaml, {name}") for name, make in YAMLS.items()]


# PyYAML looks 1,024 characters ahead, for each of which it goes through all open lists.
SHAPES += [
    pytest.param(lambda n: "tasks: " + "[" * n * 20, True, id="yaml, deep lists", marks=pytest.mark.slow)
]


@pytest.mark.parametrize(("make", "yaml"), SHAPES)
@pytest.mark.slow
def test_work_grows_no_faster_than_the_text(make: Callable[[int], str], yaml: bool, tmp_path: Path) -> None:
    path = tmp_path / ("tasks.yaml" if yaml else "tasks")
    needed = []
    for size in (100, 400):
        path.write_text(make(size))
        needed.append(work(path))
    small, large = needed
    assert large <= 4.5 * small
