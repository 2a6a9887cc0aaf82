"""YAML task files: the same tasks, and every problem at its place."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.taskfile import Source, load_tasks, read_source
from kubectl_sidecar.tasks import Defaults
from tests.unit.loading import load, placed, refusal

BLOCK = "write the task as a block, - | or run: |"


def test_items_are_task_lines_or_mappings_that_say_the_same() -> None:
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
- |
  @every 1h @timeout 5s @mode 0640 @on-missing remove @watch @optional
    kubectl get node -o json |
    jq '{a: .b} # c' > c.json
"""
    text = text.replace("@optional\n", "@optional \\\n")
    first, second, third = load(text, yaml=True)
    assert (first.output, first.every, first.watch, first.required) == ("a.json", 20, False, True)
    assert second.output == "b/b.json"
    assert third.stages[1].argv == ("jq", "{a: .b} # c")
    for task in (second, third):
        said = (task.every, task.timeout, task.mode, task.on_missing, task.watch, task.required)
        assert said == (3600, 5, 0o640, "remove", True, False)


def test_defaults_of_the_file_override_flags_and_tasks_override_both() -> None:
    text = """\
every: 5s
timeout: 6s
mode: '600'
onMissing: remove
watch: yes
tasks:
- p > x
- {run: p > y, every: 7s, timeout: 8s, mode: "0644", onMissing: keep, watch: no, optional: false}
"""
    flags = Defaults(every=1, timeout=1, mode=0, watch=False, required=False)
    first, second = load(text, yaml=True, defaults=flags)
    assert (first.every, first.timeout, first.mode, first.on_missing, first.watch, first.required) == (
        5, 6, 0o600, "remove", True, False,
    )  # fmt: skip
    assert (second.every, second.timeout, second.mode, second.on_missing, second.watch, second.required) == (
        7, 8, 0o644, "keep", False, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("tasks:\n- p  a > x", "2:3 2:10"),
        ("tasks:\n- 'p  a > x'", "2:4 2:11"),
        ('tasks:\n-   "p  a > x"', "2:6 2:13"),
        ("tasks:\n- |\n  p  a\\\n    > x", "3:3 4:7"),
        ("tasks:\n- run: |+\n\n    # b\n\n    p  a > x\n\n", "6:5 6:12"),
        ("tasks:\n- run: >\n    p  a\n    > x\n", "2:8 2:8"),
        ("tasks:\n- p\n  a > x", "2:3 2:3"),
        ('tasks:\n- "p \\x61 > x"', "2:3 2:3"),
        ("tasks:\r\n- |\r\n  p >\\\r\n  x", "3:3 4:3"),
        ("# \x85 \u2028\ntasks:\n- p > x", "3:3 3:7"),
    ],
)
def test_places_in_yaml_are_those_of_the_file_or_of_the_value(text: str, where: str) -> None:
    (task,) = load(text, yaml=True)
    assert f"{task.where} {task.output_where}".replace("tasks.yaml:", "") == where


PROBLEMS = [
    ("tasks:\n- kubectl get a | jq '{b: .c}' > x", 2, 25, f"a plain YAML value cannot hold `: `; {BLOCK}"),
    (
        "tasks:\n- run: kubectl get a | jq '{b: .c}' > x",
        2,
        30,
        f"YAML: mapping values are not allowed here; in a task, {BLOCK}",
    ),
    ("tasks:\n- kubectl get a | jq '.b #c' > x", 2, 26, f"a plain YAML value ends at ` #`; {BLOCK}"),
    (
        "tasks:\n- run: kubectl get a | jq '.b #c'\n  output: x",
        2,
        31,
        f"a plain YAML value ends at ` #`; {BLOCK}",
    ),
    (
        "tasks:\n- @watch p > x",
        2,
        3,
        f"YAML: found character '@' that cannot start any token; in a task, {BLOCK}",
    ),
    ('tasks:\n- "p" a > x', 2, 7, f"YAML: expected <block end>, but found '<scalar>'; in a task, {BLOCK}"),
    ("tasks:\n- p a \\\n  b > x", 2, 7, f"YAML joins these lines and keeps the backslash; {BLOCK}"),
    ("tasks:\n- >\n  p a \\\n  b > x", 3, 7, f"YAML joins these lines and keeps the backslash; {BLOCK}"),
    ("tasks:\n- p >> x", 2, 5, "`>>` appends, but an output is always replaced as a whole; write > PATH"),
    (
        "tasks:\n- run: |\n    p |\n     q >> x",
        4,
        8,
        "`>>` appends, but an output is always replaced as a whole; write > PATH",
    ),
    ("tasks:\n- |\n  p > x\n  q > y", 4, 3, "expected one task, but 2 came; write each as its own item"),
    ("tasks:\n- '# p'", 2, 3, "expected one task, but 0 came; write each as its own item"),
    ("tasks:\n-", 2, 2, "a task: expected a line such as kubectl … | jq … > PATH, but nothing came"),
    (
        "tasks:\n- []",
        2,
        3,
        "a task: expected a mapping with run, but a list came",
    ),
    ("tasks:\n- output: x", 2, 3, "the task has no run:, the pipeline that makes its output"),
    ("tasks:\n- run: p", 2, 9, "expected > PATH after the last stage"),
    (
        "tasks:\n- run: p > x\n  output: x",
        2,
        10,
        "the output is given by output: as well; leave one of them out",
    ),
    (
        "tasks:\n- run: [p]\n  output: x",
        2,
        8,
        "a task: expected a line such as kubectl … | jq … > PATH, but a list came",
    ),
    ("tasks:\n- run: p\n  output: [x]", 3, 11, "output: expected the path of a file, but a list came"),
    ("tasks:\n- run: p\n  output:", 3, 10, "output: expected the path of a file, but nothing came"),
    (
        "tasks:\n- run: p\n  output: ../x",
        3,
        11,
        "the output's path leaves the output directory; write an absolute path to do so",
    ),
    (
        "tasks:\n- run: p\n  output: $MYPOD",
        3,
        11,
        "variables are not expanded in output:; write > PATH in run: instead",
    ),
    (
        'tasks:\n- run: p\n  output: "a\\0"',
        3,
        11,
        "output: expected text, but a character came that no path can hold",
    ),
    ('tasks:\n- "p \\0 > x"', 2, 3, "expected text, but a NUL character came"),
    ('tasks:\n- "p \\ud800 > x"', 2, 3, "expected text, but a byte that is not UTF-8 came"),
    ("tasks:\n- run: p\n  output: x\n  evry: 5s", 4, 3, "unknown key `evry`; did you mean every?"),
    ("evry: 5s\ntasks:\n- p > x", 1, 1, "unknown key `evry`; did you mean every?"),
    (
        "optional: true\ntasks:\n- p > x",
        1,
        1,
        "unknown key `optional`; there are tasks, onMissing, every, timeout, mode, watch",
    ),
    (
        "? [a]\n: b\ntasks:\n- p > x",
        1,
        3,
        "unknown key ``; there are tasks, onMissing, every, timeout, mode, watch",
    ),
    ("every: 5s\nevery: 6s\ntasks:\n- p > x", 2, 1, "the key every came before; leave one of them out"),
    ("tasks:\n- run: p > x\n  run: q > y", 3, 3, "the key run came before; leave one of them out"),
    ("every: 30\ntasks:\n- p > x", 1, 8, "every: `30` has no unit; write 30s"),
    (
        "every: 1:30\ntasks:\n- p > x",
        1,
        8,
        "every: `1:30` has the unknown unit `:`; there are h, m, s and ms",
    ),
    ("every: -5s\ntasks:\n- p > x", 1, 8, "every: `-5s` is negative; write a duration such as 30s"),
    ("every:\ntasks:\n- p > x", 1, 7, "every: expected a duration such as 30s, but nothing came"),
    ("timeout: [5s]\ntasks:\n- p > x", 1, 10, "timeout: expected a duration such as 30s, but a list came"),
    ("mode: 640\ntasks:\n- p > x", 1, 7, "mode: `640` is a decimal number in YAML; write 0640 or '640'"),
    (
        "mode: 0x1a4\ntasks:\n- p > x",
        1,
        7,
        "mode: `0x1a4` is no file mode; write three octal digits such as 0644",
    ),
    ("mode: {}\ntasks:\n- p > x", 1, 7, "mode: expected a file mode such as 0644, but a mapping came"),
    ("watch: 1\ntasks:\n- p > x", 1, 8, "watch: expected true or false, but `1` came"),
    ("watch: 'true'\ntasks:\n- p > x", 1, 8, "watch: expected true or false, but `true` came"),
    (
        "onMissing: drop\ntasks:\n- p > x",
        1,
        12,
        "onMissing: `drop` is neither keep nor remove; write one of them",
    ),
    (
        "tasks:\n- run: '@every 5s p'\n  output: x\n  every: 6s",
        4,
        10,
        "every: and @every in run: say the same; leave one out",
    ),
    (
        "tasks:\n- run: '@optional p'\n  output: x\n  optional: true",
        4,
        13,
        "optional: and @optional in run: say the same; leave one out",
    ),
    ("tasks: p", 1, 8, "tasks: expected a list of tasks, but `p` came"),
    ("tasks:\n  p: q", 2, 3, "tasks: expected a list of tasks, but a mapping came"),
    (
        "- p > x",
        1,
        1,
        "the file: expected a mapping with tasks, but a list came",
    ),
    (
        "tasks:\n- &a p > x",
        2,
        3,
        "YAML: anchors and aliases are not known here; write the value itself; in a task, " + BLOCK,
    ),
    (
        "every: *a\ntasks:\n- p > x",
        1,
        8,
        "YAML: anchors and aliases are not known here; write the value itself",
    ),
    (
        "tasks:\n- !!str p > x",
        2,
        3,
        f"YAML: tags are not known here; write the value without; in a task, {BLOCK}",
    ),
    (
        "every: !!python/object/apply:os.system [ls]",
        1,
        8,
        "YAML: tags are not known here; write the value without",
    ),
    ("every: " + "[" * 2000, 1, 15, "YAML: expected tasks, but 8 levels of nesting came"),
    ("tasks:\n- p > x\n---\ntasks: []", 3, 1, "YAML: but found another document"),
    (
        "tasks:\n\t- p > x",
        2,
        1,
        f"YAML: found character '\\t' that cannot start any token; in a task, {BLOCK}",
    ),
    ('every: "\\Uffffffff"', 1, 11, "YAML: a number is too large here"),
    ("every: \x07", 1, 8, "YAML: expected text, but a control character came"),
    (
        "tasks:\n- p > x\n- q > ./x",
        3,
        7,
        "this is the output of tasks.yaml:2:7 as well; give it another path",
    ),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), PROBLEMS)
def test_what_is_wrong_in_yaml_is_said_with_place_and_way_out(
    text: str, line: int, column: int, message: str
) -> None:
    error = refusal(text, yaml=True)
    clipped = placed(text, column, message, line=line, name="tasks.yaml")
    if len(text) < 1000:
        assert error == clipped.replace("\x07", "␇")
    else:
        assert error.split("\n")[0] == clipped.split("\n")[0]


@pytest.mark.parametrize("text", ["", "# only\n", "tasks:\n", "tasks: []\n", "every: 5s\n", "---\n", "~"])
def test_a_file_without_tasks_is_refused(text: str) -> None:
    assert refusal(text, yaml=True).split("\n")[0].split(": ", 1)[1] in (
        "expected at least one task, but there is none",
        "tasks: expected a list of tasks, but nothing came",
        "the file: expected a mapping with tasks, but nothing came",
    )


def test_all_problems_of_all_sources_are_reported_at_once() -> None:
    sources = [
        Source("LINE 1", "p >> x"),
        Source("tasks.yaml", "every: 5\ntasks:\n- p\n- run: q; r\n  output: a/\n", yaml=True),
        read_source("/nowhere/tasks", io.BytesIO()),
        Source("LINE 2", "p > b"),
        Source("LINE 3", "p > b"),
    ]
    with pytest.raises(InvalidInput) as caught:
        load_tasks(sources, {}, Defaults())
    assert [f"{problem.where}: {problem.text}" for problem in caught.value.problems] == [
        "LINE 1:1:3: `>>` appends, but an output is always replaced as a whole; write > PATH",
        "tasks.yaml:1:8: every: `5` has no unit; write 5s",
        "tasks.yaml:3:4: expected > PATH after the last stage",
        "tasks.yaml:4:9: `;` joins commands, but a task is one pipeline; use bash -c '… ; …' as a stage",
        "/nowhere/tasks: cannot be read: No such file or directory",
        "LINE 3:1:5: this is the output of LINE 2:1:5 as well; give it another path",
    ]


@pytest.mark.parametrize(
    ("name", "is_yaml"), [("a.yaml", True), ("a.yml", True), ("a", False), ("yaml", False)]
)
def test_the_name_of_a_file_says_what_it_is(name: str, is_yaml: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text("ü")
    source = read_source(str(tmp_path / name), io.BytesIO())
    assert (source.name, source.text, source.yaml) == (str(tmp_path / name), "ü", is_yaml)


def test_stdin_is_read_for_a_dash() -> None:
    assert read_source("-", io.BytesIO(b"p > x")) == Source("<stdin>", "p > x")


def test_what_cannot_be_read_is_a_problem_of_its_source(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_tasks([read_source(str(tmp_path), io.BytesIO())], {}, Defaults())
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_bytes_that_are_not_utf_8_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "tasks").write_bytes(b"p > x\nq \xff > y\n")
    with pytest.raises(InvalidInput) as caught:
        load_tasks([read_source(str(tmp_path / "tasks"), io.BytesIO())], {}, Defaults())
    assert str(caught.value) == (
        f"{tmp_path}/tasks:2:3: expected text, but a byte that is not UTF-8 came\n    q \ufffd > y\n      ^"
    )
