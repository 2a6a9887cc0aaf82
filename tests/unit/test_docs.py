"""What the README and docs/ say of flags, directives, messages and the status is what the code has."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar.cli.main import COMMANDS, main
from kubectl_sidecar.status.recorder import Recorder
from tests.unit.status.tasks import task

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
LONGEST_README = 200
# Of kubectl, docker and others, as the documentation shows them.
FOREIGN = {"all", "context", "field-selector", "raw", "request-timeout", "subresource"}  # kubectl's
FOREIGN |= {"rm", "target", "timeout", "retry", "retry-connrefused"}  # those of docker and curl
FOREIGN |= {"client", "kubectl", "unit"}  # kubectl version, scripts/update-tools, scripts/test
# What stands for something else in a message, and where its parts are joined.
VARIES = re.compile(
    r"…|\b(?:\$?NAME|F|kubectl|jq|but|an \w+)\b|\b\w+(?:/|\.json)|\$\w+\b|\d+\w*|`[^`]*`|[(),;:?]"
)


def text_of(paths: Iterable[Path]) -> str:
    return "\n".join(path.read_text() for path in paths)


def first_cells(text: str, head: str = "") -> list[str]:
    """The first cell of each row of the tables, or of those whose head begins so."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    rows = [table.splitlines()[2:] for table in tables if table.startswith(head)]
    return [re.split(r"(?<!\\)\|", row)[1].strip() for table in rows for row in table]


def said_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    main(words)
    said = capsys.readouterr()
    return said.out + said.err


def flags(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The flags of all commands, as their --help lists them."""
    helps = "".join(said_by([command, "--help"], capsys) for command in COMMANDS)
    return set(re.findall(r"^ +(?:-\w(?: \S+)?, )?--([a-z-]+)", helps, re.MULTILINE)) - {"help"}


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= LONGEST_README


def test_every_page_is_to_be_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README.read_text()))
    assert linked == {f"docs/{path.name}" for path in DOCS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_the_repository_that_is_named_is_there(page: Path) -> None:
    folders = r"\b(?:deploy|docs|examples|image|kubectl_sidecar|requirements|scripts|tests)/[\w./-]*\w"
    for path in re.findall(rf"(?<![\w./-]){folders}", page.read_text()):
        assert (ROOT / path).exists(), path


def test_every_flag_is_documented_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"`--([a-z-]+)", "\n".join(first_cells(text_of(DOCS), "| flag")))
    assert set(listed) == flags(capsys)


def test_no_page_knows_a_flag_that_nobody_has(capsys: pytest.CaptureFixture[str]) -> None:
    text = text_of([README, *DOCS])
    shown = set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text))
    assert shown - FOREIGN <= flags(capsys)
    # What a hook gets is the only other variable.
    variables = set(re.findall(r"KUBECTL_SIDECAR_([A-Z_]+)", text + text_of(ROOT.rglob("*.yaml"))))
    assert {variable.lower().replace("_", "-") for variable in variables - {"OUTPUT"}} <= flags(capsys)


def test_every_command_is_documented() -> None:
    shown = re.findall(r"^    kubectl-sidecar (\w+)", (ROOT / "docs/running.md").read_text(), re.MULTILINE)
    assert list(dict.fromkeys(shown)) == list(COMMANDS)


def test_every_directive_and_key_is_documented_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = first_cells(text_of(DOCS), "| directive")
    refusal = said_by(["check", "@no-such cat x > y"], capsys)
    known = re.findall("@[a-z-]+", refusal.split("there are")[1].splitlines()[0])
    assert sorted(cell.strip("`").split(" ")[0] for cell in cells) == sorted(known)
    file = tmp_path / "tasks.yaml"
    file.write_text("tasks: [{no-such: 1}]")
    refusal = said_by(["check", "-f", str(file)], capsys)
    keys = refusal.split("there are ")[1].splitlines()[0].split(", ")
    page = (ROOT / "docs/task-lines.md").read_text()
    listed = re.findall(r"^\| `@[^|]*(?:\\\|[^|]*)?\| `(\w+)` \|", page, re.MULTILINE)
    assert {*listed, "run", "output"} == {*keys}
    file.write_text("no-such: 1")
    refusal = said_by(["check", "-f", str(file)], capsys)
    defaults = refusal.split("there are ")[1].splitlines()[0].split(", ")
    shown = re.search(r"# defaults for the tasks below: (.*)", page)
    assert shown
    assert set(shown[1].split(", ")) == {*defaults} - {"tasks"}


def fields(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in document.items():
        yield prefix + name
        if isinstance(value, list):
            yield from fields(value[0], f"{prefix}{name}[].")
        elif isinstance(value, dict):
            yield from fields(value, f"{prefix}{name}.")


def test_every_field_of_the_status_is_documented_and_no_other() -> None:
    recorder = Recorder([])
    recorder.take_over([task("a")])
    listed: list[str] = []
    for cell in first_cells((ROOT / "docs/status.md").read_text(), "| field"):
        names = re.findall("`([^`]*)`", cell)
        parent = names[0].rpartition(".")[0]
        listed += [parent + name if name.startswith(".") else name for name in names]
    assert sorted(listed) == sorted(fields(json.loads(recorder.document())))


def strings(paths: Iterable[Path]) -> str:
    """All the text in the code of these files, and a line's end for whatever is put into it."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(re.sub(r"%[sd]", "\n", value) for value in constants if isinstance(value, str))


@pytest.mark.slow
def test_every_message_is_one_that_the_program_has() -> None:
    """Its own, or one of kubectl's that a test holds."""
    ours = strings((ROOT / "kubectl_sidecar").rglob("*.py"))
    tested = strings({*(ROOT / "tests").rglob("*.py")} - {Path(__file__)})
    cells = first_cells(text_of(DOCS), "| message")
    messages = [cell.strip("`").strip() for cell in cells if cell.startswith("`")]
    assert len(messages) > 10
    for message in messages:
        parts = [part.strip() for part in VARIES.split(message)]
        assert any(len(part.split()) > 2 for part in parts), message
        for part in parts:
            assert part in ours or (part in tested and "exited with" in message), f"{message!r} has {part!r}"


def blocks(text: str) -> Iterator[str]:
    """Indented blocks that hold task lines, and nothing else."""
    for block in re.findall(r"(?:(?:^    .*|^)\n)+", text, re.MULTILINE):
        lines = "\n".join(line[4:] for line in block.splitlines())
        if re.search(r"^(@.*)?kubectl get .*", lines, re.MULTILINE) and "tasks:" not in lines:
            yield lines


@pytest.mark.slow
def test_every_task_that_is_shown_is_a_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [lines for page in [README, *DOCS] for lines in blocks(page.read_text())]
    assert len(found) >= 3
    for lines in found:
        (tmp_path / "tasks").write_text(lines)
        assert main(["check", "--allow-unset", "-f", str(tmp_path / "tasks")]) == 0, capsys.readouterr().err
