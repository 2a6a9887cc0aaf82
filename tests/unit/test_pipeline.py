"""Stages, outputs and directives of a task line."""

from __future__ import annotations

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.tasks import Defaults
from tests.unit.loading import load, placed, refusal


def test_a_line_is_a_task_with_its_defaults() -> None:
    (task,) = load("kubectl get pod $MYPOD -o json | jq .status > a//b/./status.json")
    assert [stage.argv for stage in task.stages] == [
        ("kubectl", "get", "pod", "web-1", "-o", "json"),
        ("jq", ".status"),
    ]
    assert task.output == "a/b/status.json"
    assert (task.every, task.timeout, task.mode, task.on_missing, task.watch, task.required) == (
        30.0,
        30.0,
        0o644,
        "keep",
        False,
        True,
    )
    assert (str(task.where), str(task.stages[1].where), str(task.output_where)) == (
        "tasks:1:1",
        "tasks:1:34",
        "tasks:1:47",
    )


def test_directives_stand_before_the_pipeline_in_any_order() -> None:
    (task,) = load("@every 5m @watch @timeout 10s\t@mode 0640 @on-missing remove @optional  p > x")
    assert (task.every, task.timeout, task.mode, task.on_missing, task.watch, task.required) == (
        300.0,
        10.0,
        0o640,
        "remove",
        True,
        False,
    )
    assert str(task.where) == "tasks:1:72"


@pytest.mark.parametrize(
    ("line", "defaults", "every"),
    [
        ("p > x", Defaults(), 30),
        ("@watch p > x", Defaults(), 600),
        ("p > x", Defaults(watch=True), 600),
        ("@watch p > x", Defaults(every=20), 20),
        ("@watch @every 1h p > x", Defaults(every=20), 3600),
    ],
)
def test_a_watched_task_is_resynced_every_ten_minutes_unless_said_otherwise(
    line: str, defaults: Defaults, every: float
) -> None:
    assert load(line, defaults=defaults)[0].every == every


def test_flags_are_the_defaults_of_all_tasks() -> None:
    defaults = Defaults(every=5, timeout=6, mode=0o600, on_missing="remove", watch=True, required=False)
    (task,) = load("p > x", defaults=defaults)
    assert (task.every, task.timeout, task.mode, task.on_missing, task.watch, task.required) == (
        5,
        6,
        0o600,
        "remove",
        True,
        False,
    )


@pytest.mark.parametrize(("text", "mode"), [("0640", 0o640), ("640", 0o640), ("0o640", 0o640), ("0000", 0)])
def test_a_mode_is_octal_however_it_is_written(text: str, mode: int) -> None:
    assert load(f"@mode {text} p > x")[0].mode == mode


def test_a_directive_takes_its_value_from_the_environment() -> None:
    assert load("@every $PERIOD p > x", environ={"PERIOD": "7s"})[0].every == 7


@pytest.mark.parametrize(
    "words", ["--watch=false", "-w=false", "-- p -w", "-o w", "-n w --show-kind", "--output-watch-events"]
)
def test_kubectl_without_a_watch_is_accepted(words: str) -> None:
    assert load(f"kubectl get pod {words} > x")


def test_other_programs_may_have_a_w() -> None:
    assert load("kubectl get pod | grep -w a > x")


def test_a_program_is_what_its_word_says_when_quoted() -> None:
    assert load("'@watch' > x")[0].stages[0].argv == ("@watch",)


REFUSED = [
    ("p", 2, "expected > PATH after the last stage"),
    ("p |", 4, "expected a command after |"),
    ("p | q", 6, "expected > PATH after the last stage"),
    ("| p > x", 1, "expected a command before |; to go on in a new line, end the old one with |"),
    ("p | | q > x", 5, "expected a command before |; to go on in a new line, end the old one with |"),
    ("p >", 4, "expected a path after >"),
    ("p > | q", 4, "expected a path after >"),
    ("p > x | q", 3, "only the last stage has an output; for a copy in between use tee PATH as a stage"),
    ("p > x > y", 7, "expected the end of the line after the path, but `>` came"),
    ("p > x y", 7, "expected the end of the line after the path, but `y` came"),
    ('p > ""', 5, "the output's path is empty"),
    ("p > $EMPTY", 5, "the output's path is empty"),
    ('"" p > x', 1, "expected a program, but its name is empty"),
    ("$EMPTY p > x", 1, "expected a program, but its name is empty"),
    ("p | @watch q > x", 5, "directives stand before the pipeline; move `@watch` to the start of the line"),
    ("kubectl get pod -w > x", 17, "`-w` never ends; put @watch before the pipeline instead"),
    (
        "kubectl get pod --watch=true > x",
        17,
        "`--watch=true` never ends; put @watch before the pipeline instead",
    ),
    ("/bin/kubectl get -Aw pod > x", 18, "`-Aw` never ends; put @watch before the pipeline instead"),
    (
        "kubectl get pod --watch-only > x",
        17,
        "`--watch-only` never ends; put @watch before the pipeline instead",
    ),
    ("@every 30 p > x", 8, "@every: `30` has no unit; write 30s"),
    ("@every -5s p > x", 8, "@every: `-5s` is negative; write a duration such as 30s"),
    ("@every 0s p > x", 8, "@every: `0s` is no time at all; write a duration such as 30s"),
    ("@every 5d p > x", 8, "@every: `5d` has the unknown unit `d`; there are h, m, s and ms"),
    ("@every $SECRET p > x", 8, "@every: the value of `$SECRET` is not a duration such as 30s"),
    ("@every 5s @every 6s p > x", 11, "@every came before in this line; leave one of them out"),
    ("@timeout 0 p > x", 10, "@timeout: `0` is no time at all; write a duration such as 30s"),
    ("@mode 0999 p > x", 7, "@mode: `0999` is no file mode; write three octal digits such as 0644"),
    ("@mode 4755 p > x", 7, "@mode: `4755` is no file mode; write three octal digits such as 0644"),
    ("@mode 0o17 p > x", 7, "@mode: `0o17` is no file mode; write three octal digits such as 0644"),
    ("@on-missing drop p > x", 13, "@on-missing: `drop` is neither keep nor remove; write one of them"),
    ("@evry 5s p > x", 1, "`@evry` is no directive; did you mean @every?"),
    ("@Watch p > x", 1, "`@Watch` is no directive; did you mean @watch?"),
    ("@watch", 7, "expected a pipeline after the directives, in the same line"),
    ("@watch > x", 8, "expected a command before >"),
    ("p > ../x", 5, "the output's path leaves the output directory; write an absolute path to do so"),
    ("p > a/../../x", 5, "the output's path leaves the output directory; write an absolute path to do so"),
    ("p > dir/", 5, "the output's path names a directory; add the name of a file"),
    ("p > .", 5, "the output's path names a directory; add the name of a file"),
    ("p > a/..", 5, "the output's path names a directory; add the name of a file"),
    ("p > /", 5, "the output's path names a directory; add the name of a file"),
]


@pytest.mark.parametrize(("line", "column", "message"), REFUSED)
def test_what_is_wrong_with_a_line_is_said_with_place_and_way_out(
    line: str, column: int, message: str
) -> None:
    assert refusal(line) == placed(line, column, message)


def test_a_line_cannot_start_with_a_pipe() -> None:
    text = "p a\n  | q > x"
    assert refusal(text) == "\n".join(
        [
            placed(text, 4, "expected > PATH after the last stage"),
            placed(
                text, 3, "expected a command before |; to go on in a new line, end the old one with |", line=2
            ),
        ]
    )


def test_problems_of_directives_and_words_are_reported_together() -> None:
    line = "@every 5 @mode 9 kubectl get -w $UNSET"
    assert refusal(line) == "\n".join(
        [
            placed(line, 8, "@every: `5` has no unit; write 5s"),
            placed(line, 16, "@mode: `9` is no file mode; write three octal digits such as 0644"),
            placed(line, 30, "`-w` never ends; put @watch before the pipeline instead"),
            placed(
                line, 33, "$UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default"
            ),
            placed(line, 39, "expected > PATH after the last stage"),
        ]
    )


def test_two_tasks_cannot_have_one_output() -> None:
    text = "p > a/b\n@watch q > a//./b"
    assert refusal(text) == placed(
        text, 12, "this is the output of tasks:1:5 as well; give it another path", line=2
    )


def test_two_sources_cannot_have_one_output() -> None:
    assert refusal("p > x", "q > x") == placed(
        "q > x", 5, "this is the output of tasks:1:5 as well; give it another path", name="tasks2"
    )


@pytest.mark.parametrize(("first", "second"), [("a", "a/b/c"), ("a/b", "a"), ("/a", "/a/b")])
def test_no_output_can_be_the_directory_of_another(first: str, second: str) -> None:
    text = f"p > {first}\nq > a-b\nr > {second}"
    message = "one of this output and that of tasks:1:5 is a directory of the other; move one"
    assert refusal(text) == placed(text, 5, message, line=3)


@pytest.mark.parametrize(
    ("path", "output"), [("./x", "x"), ("a/../x", "x"), ("//a//b", "/a/b"), ("/../x", "/x"), ("..x", "..x")]
)
def test_outputs_are_normalised(path: str, output: str) -> None:
    assert load(f"p > {path}")[0].output == output


def test_problems_come_in_the_order_of_sources_and_places() -> None:
    with pytest.raises(InvalidInput) as caught:
        load("p > same\np $B > ../a $A", "p > same\nq", "")
    assert [problem.where for problem in caught.value.problems] == [
        "tasks:2:3",
        "tasks:2:13",
        "tasks:2:13",
        "tasks2:1:5",
        "tasks2:2:2",
        "tasks3",
    ]
