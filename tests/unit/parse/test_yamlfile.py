"""YAML task files: the same tasks, and every problem at its item."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.task import Settings, Task

BLOCK = "write the task as a block, - | or run: |"
FILE_KEYS = "there are tasks, every, timeout, mode, onMissing, onChange, watch, allowEmpty"
PROGRAMS = ("p", "q", "r", "kubectl", "jq")


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    """A PATH with the programs of these tests, and the variables of a Pod."""
    for name in PROGRAMS:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return {"PATH": str(tmp_path / "bin"), "MYPOD": "web-1"}


@pytest.fixture(autouse=True)
def in_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that errors call the file tasks.yaml."""
    monkeypatch.chdir(tmp_path)


def load(text: str, environ: Mapping[str, str], settings: Settings | None = None) -> tuple[Task, ...]:
    Path("tasks.yaml").write_bytes(text.encode())
    settings = settings or Settings(files=("tasks.yaml",))
    return Loader(settings, environ, lambda _: (0, "")).load()


def refusal(text: str, environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        load(text, environ)
    return [f"{problem.where}: {problem.text}" for problem in caught.value.problems]


def test_items_are_task_lines_or_mappings_that_say_the_same(environ: Mapping[str, str]) -> None:
    text = """\
every: 20s  # for all
tasks:
- kubectl get pod $MYPOD -o json | jq .status > a.json      # a comment
- run: kubectl get node -o json | jq .status
  output: b//./b.json
  every: 1h
  timeout: 5s
  mode: 0640
  onMissing: remove
  watch: true
  optional: true
  allowEmpty: true
- |
  @every 1h @timeout 5s @mode 0640 @on-missing remove @watch @optional @allow-empty \\
    kubectl get node -o json |
    jq '{a: .b} # c' > c.json
"""
    first, second, third = load(text, environ)
    assert (first.output, first.every, bool(first.watch), first.required) == ("a.json", 20, False, True)
    assert second.output == "b/b.json"
    assert third.stages[1].argv == ("jq", "{a: .b} # c")
    for task in (second, third):
        said = (task.every, task.timeout, task.mode, task.on_missing, task.required, task.allow_empty)
        assert [*said, task.watch is not None] == [3600, 5, 0o640, "remove", False, True, True]


def test_defaults_of_the_file_override_flags_and_tasks_override_both(environ: Mapping[str, str]) -> None:
    text = """\
every: 5s
timeout: 6s
mode: '600'
onMissing: remove
watch: yes
allowEmpty: on
tasks:
- kubectl get a > x
- run: kubectl get a > y
  every: 7s
  timeout: 8s
  mode: "0644"
  onMissing: keep
  watch: no
  allowEmpty: off
"""
    flags = Settings(files=("tasks.yaml",), every=1, timeout=1, mode=0)
    first, second = load(text, environ, flags)
    assert (first.every, first.timeout, first.mode, first.on_missing) == (5, 6, 0o600, "remove")
    assert [first.watch is not None, first.allow_empty] == [True, True]
    assert (second.every, second.timeout, second.mode, second.on_missing) == (7, 8, 0o644, "keep")
    assert (second.watch, second.allow_empty) == (None, False)


@pytest.mark.parametrize("mode", ["0640", "00640", "'640'", "'0o640'", '"0640"'])
def test_modes_are_octal_however_yaml_takes_them(mode: str, environ: Mapping[str, str]) -> None:
    (task,) = load(f"tasks:\n- run: p > x\n  mode: {mode}\n", environ)
    assert task.mode == 0o640


@pytest.mark.parametrize("text", ["true", "'true'", '"true"', "yes", "True"])
def test_switches_may_be_quoted_as_templates_do(text: str, environ: Mapping[str, str]) -> None:
    (task,) = load(f"tasks:\n- run: p > x\n  optional: {text}\n", environ)
    assert not task.required


def test_an_output_is_taken_as_it_is(environ: Mapping[str, str]) -> None:
    (task,) = load('tasks:\n- run: p\n  output: "it\'s # a *file*"\n', environ)
    assert task.output == "it's # a *file*"


PROBLEMS = [
    ("tasks:\n- kubectl get a | jq '{b: .c}' > x", f"2:3: a plain YAML value cannot hold `: `; {BLOCK}"),
    (
        "tasks:\n- run: kubectl get a | jq '{b: .c}' > x",
        f"2:30: YAML: mapping values are not allowed here; in a task, {BLOCK}",
    ),
    (
        "tasks:\n- kubectl get a | jq '.b #c' > x",
        f"2:3: a quote is open where this plain YAML value ends, perhaps at ` #`; {BLOCK}",
    ),
    (
        "tasks:\n- run: kubectl get a | jq '.b #c'\n  output: x",
        f"2:8: a quote is open where this plain YAML value ends, perhaps at ` #`; {BLOCK}",
    ),
    (
        "tasks:\n- @watch p > x",
        f"2:3: YAML: found character '@' that cannot start any token; in a task, {BLOCK}",
    ),
    ('tasks:\n- "p" a > x', f"2:7: YAML: expected <block end>, but found '<scalar>'; in a task, {BLOCK}"),
    ("tasks:\n- p a \\\n  b > x", f"2:3: YAML joins these lines and keeps the backslash; {BLOCK}"),
    ("tasks:\n- >\n  p a \\\n  b > x", f"2:3: YAML joins these lines and keeps the backslash; {BLOCK}"),
    ("tasks:\n- p >> x", "2: `>>`: an output is always replaced as a whole, without stderr; write > PATH"),
    (
        "tasks:\n- run: |\n    p |\n     q >> x",
        "2: `>>`: an output is always replaced as a whole, without stderr; write > PATH",
    ),
    ("tasks:\n- |\n  p > x\n  q > y", "2:3: expected one task, but 2 came; write each as its own item"),
    ("tasks:\n- '# p'", "2:3: expected one task, but 0 came; write each as its own item"),
    ("tasks:\n-", "2:2: a task: expected a line such as kubectl … | jq … > PATH, but nothing came"),
    ("tasks:\n- []", "2:3: a task: expected a mapping with run, but a list came"),
    ("tasks:\n- output: x", "2:3: the task has no run:, the pipeline that makes its output"),
    ("tasks:\n- run: p", "2: expected > PATH after the last stage"),
    (
        "tasks:\n- run: p > x\n  output: x",
        "2:8: the output is given by output: as well; leave one of them out",
    ),
    (
        "tasks:\n- run: [p]\n  output: x",
        "2:8: a task: expected a line such as kubectl … | jq … > PATH, but a list came",
    ),
    ("tasks:\n- run: p\n  output: [x]", "3:11: output: expected the path of a file, but a list came"),
    ("tasks:\n- run: p\n  output:", "3:10: output: expected the path of a file, but nothing came"),
    (
        "tasks:\n- run: p\n  output: ../x",
        "2: the output's path leaves the output directory; write an absolute path to do so",
    ),
    (
        "tasks:\n- run: p\n  output: $MYPOD",
        "3:11: variables are not expanded in output:; write > PATH in run: instead",
    ),
    (
        'tasks:\n- run: p\n  output: "a\\0"',
        "2: `'a␀'` holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without",
    ),
    (
        'tasks:\n- "p \\0 > x"',
        "2: `␀` holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without",
    ),
    (
        'tasks:\n- "p \\ud800 > x"',
        "2: `�` holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without",
    ),
    (
        "tasks:\n- run: p\n  output: x\n  evry: 5s",
        (
            "4:3: unknown key `evry`; there are run, output, every, timeout, mode,"
            " onMissing, onChange, watch, optional, allowEmpty"
        ),
    ),
    (
        "evry: 5s\ntasks:\n- p > x",
        f"1:1: unknown key `evry`; {FILE_KEYS}",
    ),
    (
        "optional: true\ntasks:\n- p > x",
        f"1:1: unknown key `optional`; {FILE_KEYS}",
    ),
    (
        "? [a]\n: b\ntasks:\n- p > x",
        f"1:3: unknown key ``; {FILE_KEYS}",
    ),
    ("every: 5s\nevery: 6s\ntasks:\n- p > x", "2:1: the key every came before; leave one of them out"),
    ("tasks:\n- run: p > x\n  run: q > y", "3:3: the key run came before; leave one of them out"),
    ("every: 30\ntasks:\n- p > x", "1:8: every: `30` has no unit; write 30s"),
    (
        "every: 1:30\ntasks:\n- p > x",
        "1:8: every: `1:30` is no duration; write one such as 30s, 1m30s or 500ms",
    ),
    (
        "every: -5s\ntasks:\n- p > x",
        "1:8: every: `-5s` is no duration; write one such as 30s, 1m30s or 500ms",
    ),
    ("every:\ntasks:\n- p > x", "1:7: every: expected a duration such as 30s, but nothing came"),
    ("timeout: [5s]\ntasks:\n- p > x", "1:10: timeout: expected a duration such as 30s, but a list came"),
    ("mode: 640\ntasks:\n- p > x", "1:7: mode: `640` is a decimal number in YAML; write 0640 or '640'"),
    (
        "mode: 0x1a4\ntasks:\n- p > x",
        "1:7: mode: `0x1a4` is no file mode; write three octal digits such as 0644",
    ),
    ("mode: {}\ntasks:\n- p > x", "1:7: mode: expected a file mode such as 0644, but a mapping came"),
    ("watch: 1\ntasks:\n- p > x", "1:8: watch: `1` is neither true nor false; write one of them"),
    (
        "onMissing: drop\ntasks:\n- p > x",
        "1:12: onMissing: `drop` is neither keep nor remove; write one of them",
    ),
    (
        "tasks:\n- run: '@every 5s p'\n  output: x\n  every: 6s",
        "2: @every came before in this task; leave one of them out",
    ),
    (
        "tasks:\n- run: '@optional p'\n  output: x\n  optional: true",
        "2: @optional came before in this task; leave one of them out",
    ),
    ("tasks: p", "1:8: tasks: expected a list of tasks, but `p` came"),
    ("tasks:\n  p: q", "2:3: tasks: expected a list of tasks, but a mapping came"),
    ("- p > x", "1:1: the file: expected a mapping with tasks, but a list came"),
    ("every: *a\ntasks:\n- p > x", "1:8: YAML: found undefined alias 'a'"),
    (
        "every: !!python/object/apply:os.system [ls]",
        "1:8: every: expected a duration such as 30s, but a list came",
    ),
    ("every: " + "[" * 1000, "1:1: YAML: nested too deeply, or a number in it is too large"),
    ("tasks:\n- p > x\n---\ntasks: []", "3:1: YAML: but found another document"),
    (
        "tasks:\n\t- p > x",
        f"2:1: YAML: found character '\\t' that cannot start any token; in a task, {BLOCK}",
    ),
    ('every: "\\Uffffffff"', "1:1: YAML: nested too deeply, or a number in it is too large"),
    ("every: \x07", "1:1: YAML: unacceptable character #x0007: special characters are not allowed"),
    ("tasks:\n- p > x\n- q > ./x", "3: this is the output of tasks.yaml:2 as well; give it another path"),
    ("tasks:\n- run: p\n  output: ~", "3:11: output: expected the path of a file, but nothing came"),
    ("tasks:\n- run: p\n  output: null", "3:11: output: expected the path of a file, but nothing came"),
    (
        "tasks:\n- run: p > x\n  optional: 'maybe'",
        "3:13: optional: `maybe` is neither true nor false; write one of them",
    ),
]


@pytest.mark.parametrize(("text", "problem"), PROBLEMS)
def test_what_is_wrong_in_yaml_is_said_with_place_and_way_out(
    text: str, problem: str, environ: Mapping[str, str]
) -> None:
    assert refusal(text, environ) == [f"tasks.yaml:{problem}"]


@pytest.mark.parametrize("text", ["", "# only\n", "tasks:\n", "tasks: []\n", "every: 5s\n", "---\n", "~"])
def test_a_file_without_tasks_is_refused(text: str, environ: Mapping[str, str]) -> None:
    assert refusal(text, environ)[0].split(": ", 1)[1] in (
        "expected at least one task, but there is none",
        "tasks: expected a list of tasks, but nothing came",
        "the file: expected a mapping with tasks, but nothing came",
    )


def test_all_problems_of_all_sources_are_reported_at_once(environ: Mapping[str, str]) -> None:
    files, lines = ("tasks.yaml", "/nowhere/tasks"), ("p >> x", "p > b", "none | q > c; p > b")
    Path("tasks.yaml").write_text("every: 5\ntasks:\n- p\n- run: q; r\n  output: a/.\n")
    with pytest.raises(InvalidInput) as caught:
        Loader(Settings(files=files, lines=lines), environ, lambda _: (0, "")).load()
    assert [f"{problem.where}: {problem.text}" for problem in caught.value.problems] == [
        "tasks.yaml:1:8: every: `5` has no unit; write 5s",
        "tasks.yaml:3: expected > PATH after the last stage",
        "tasks.yaml:4: the output's path ends without the name of a file; add it",
        (
            "tasks.yaml:4: `;` joins commands, but a task is one pipeline; use bash -euo"
            " pipefail -c '…' as a stage, with '\"'\"' for each ' in it"
        ),
        "/nowhere/tasks: cannot be read: No such file or directory",
        "LINE 1:1:3: `>>`: an output is always replaced as a whole, without stderr; write > PATH",
        "LINE 3:1:1: `none`: no such program on PATH; install it in the image, or write its path",
        (
            "LINE 3:1:13: `;` joins commands, but a task is one pipeline; ready to paste:"
            " bash -euo pipefail -c '{ none | q > c; } >&2 ; p' > b"
        ),
        "LINE 3:1:19: this is the output of LINE 2:1:5 as well; give it another path",
    ]


def test_stdin_is_read_for_a_dash_and_once(environ: Mapping[str, str]) -> None:
    stdin = os.dup(0)
    read, write = os.pipe()
    os.write(write, b"p > x\n")
    os.close(write)
    os.dup2(read, 0)
    try:
        loader = Loader(Settings(files=("-",)), environ, lambda _: (0, ""))
        assert [task.output for task in loader.load()] == ["x"]
        assert [task.output for task in loader.load()] == ["x"]
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        os.close(read)


def test_bytes_that_are_not_utf_8_are_pointed_at(environ: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"p > x\nq \xff > y\n")
    with pytest.raises(InvalidInput) as caught:
        Loader(Settings(files=("tasks",)), environ, lambda _: (0, "")).load()
    message = "`\ufffd` holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without"
    assert str(caught.value) == f"tasks:2:3: {message}\n    q \ufffd > y\n      ^"
