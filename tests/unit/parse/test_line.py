"""Stages, outputs and directives of a task line, and how it is watched."""

from __future__ import annotations

import pytest

from kubectl_sidecar.task import Task
from tests.unit.parse.loading import found, load, refusals


def said(task: Task) -> tuple[object, ...]:
    return (task.every, task.timeout, task.mode, task.on_missing, task.required, task.allow_empty)


def test_a_line_is_a_task_with_its_defaults() -> None:
    (task,) = load("kubectl get pod $MYPOD -o json | jq .status > a//b/./status.json")
    assert [stage.argv for stage in task.stages] == [
        ("kubectl", "get", "pod", "web-1", "-o", "json"),
        ("jq", ".status"),
    ]
    assert (task.output, task.watch) == ("a/b/status.json", None)
    assert said(task) == (30.0, 30.0, 0o644, "keep", True, False)
    places = (task.where, task.stages[1].where, task.output_where)
    assert [str(place) for place in places] == ["tasks:1:1", "tasks:1:34", "tasks:1:47"]


def test_directives_stand_before_the_pipeline_in_any_order() -> None:
    line = "@every 5m @timeout 10s\t@mode 0640 @allow-empty @on-missing remove @optional  p > x"
    (task,) = load(line)
    assert said(task) == (300.0, 10.0, 0o640, "remove", False, True)
    assert str(task.where) == "tasks:1:78"


@pytest.mark.parametrize(
    ("line", "every", "watch", "expected"),
    [
        ("kubectl get a > x", None, False, 30),
        ("@watch kubectl get a > x", None, False, 600),
        ("kubectl get a > x", None, True, 600),
        ("@watch kubectl get a > x", 20, False, 20),
        ("@watch @every 1h kubectl get a > x", 20, False, 3600),
    ],
)
def test_a_watched_task_is_resynced_every_ten_minutes_unless_said_otherwise(
    line: str, every: float | None, watch: bool, expected: float
) -> None:
    (task,) = load(line, every=every, watch=watch)
    assert (task.every, bool(task.watch)) == (expected, watch or "@watch" in line)


def test_flags_are_the_defaults_of_all_tasks() -> None:
    (task,) = load(
        "p > x", every=5, timeout=6, mode=0o600, on_missing="remove", optional=True, allow_empty=True
    )
    assert said(task) == (5, 6, 0o600, "remove", False, True)


@pytest.mark.parametrize("text", ["640", "0640", "00640", "0o640"])
def test_a_mode_is_octal_however_it_is_written(text: str) -> None:
    assert load(f"@mode {text} p > x")[0].mode == 0o640


def test_a_directive_takes_its_value_from_the_environment() -> None:
    assert load("@every $PERIOD p > x", environ={"PERIOD": "7s"})[0].every == 7
    assert found("@every $PERIOD p > x", environ={}, allow_unset=True).problems == []


@pytest.mark.parametrize(
    "words", ["--watch=false", "-w=false", "-- p -w", "-o w", "-n w --show-kind", "--output-watch-events"]
)
def test_kubectl_without_a_watch_is_accepted(words: str) -> None:
    assert load(f"kubectl get pod {words} > x")


def test_other_programs_may_have_a_w() -> None:
    assert load("kubectl get pod | grep -w a > x")


def test_a_program_is_what_its_word_says_when_quoted() -> None:
    assert load("'@watch' > x")[0].stages[0].argv == ("@watch",)


TEE = "; for a copy in between use tee PATH as a stage"
CAME = "expected the end of the line after the path, but {} came"
NEW_LINE = "; to go on in a new line, end the old one with |"
DURATION = "a duration such as 30s"
DIRECTIVES = "there are @every, @timeout, @mode, @on-missing, @on-change, @watch, @optional, @allow-empty"
NO_FILE = "the output's path ends without the name of a file; add it"
LEAVES = "the output's path leaves the output directory; write an absolute path to do so"
REFUSED = [
    ("p", "2: expected > PATH after the last stage"),
    ("p | q", "6: expected > PATH after the last stage"),
    ("p |", "4: expected a command after |"),
    ("| p > x", f"1: expected a command before `|`{NEW_LINE}"),
    ("p | | q > x", f"5: expected a command before `|`{NEW_LINE}"),
    ("p | > x", "7: expected a command before `> x`"),
    ("2>/dev/null > x", "15: expected a command before `> x`"),
    ("p >", "4: expected a path after >"),
    ("p > | q", "4: expected a path after >", f"5: {CAME.format('`|`')}{TEE}"),
    ("p > x | q", f"7: {CAME.format('`|`')}{TEE}"),
    ("p > x > y", f"9: {CAME.format('`> y`')}"),
    ("set -euo pipefail", "1: `set` is a command of a shell and makes no output; leave this line out"),
    ("trap 'exit 0' TERM", "1: `trap` is a command of a shell and makes no output; leave this line out"),
    ("p > x y", f"7: {CAME.format('`y`')}"),
    ("p > x 2>/dev/null y", f"19: {CAME.format('`y`')}"),
    ('p > ""', f"5: {NO_FILE}"),
    ("p > .", f"5: {NO_FILE}"),
    ("p > a/..", f"5: {NO_FILE}"),
    ("p > /", f"5: {NO_FILE}"),
    ("p > /a/..//", f"5: {NO_FILE}"),
    ("p > a/.", f"5: {NO_FILE}"),
    ("p > ../x", f"5: {LEAVES}"),
    ("p > a/../../x", f"5: {LEAVES}"),
    ("p > ../", f"5: {LEAVES}"),
    (
        "p > 'a\tb'",
        "5: the output's path holds control characters, but it is the task's name in logs",
    ),
    ("p | @watch q > x", "5: directives stand before the pipeline; move `@watch` to the start of the line"),
    ("kubectl get pod -w > x", "17: `-w` never ends; put @watch before the pipeline instead"),
    (
        "kubectl get a --watch=true > x",
        "15: `--watch=true` never ends; put @watch before the pipeline instead",
    ),
    ("/bin/kubectl get -Aw pod > x", "18: `-Aw` never ends; put @watch before the pipeline instead"),
    (
        "kubectl get a --watch-only > x",
        "15: `--watch-only` never ends; put @watch before the pipeline instead",
    ),
    ("@every 30 p > x", "8: @every: `30` has no unit; write 30s"),
    ("@every 5d p > x", "8: @every: `5d` is no duration; write one such as 30s, 1m30s or 500ms"),
    ("@every $SECRET p > x", f"8: @every: the value of `$SECRET` is not {DURATION}"),
    ("@every 5s @every 6s p > x", "11: @every came before in this task; leave one of them out"),
    ("@watch @watch kubectl get a > x", "8: @watch came before in this task; leave one of them out"),
    ("@timeout 0s p > x", "10: @timeout: `0s` is no time at all; write a duration such as 30s"),
    ("@mode 0999 p > x", "7: @mode: `0999` is no file mode; write three octal digits such as 0644"),
    ("@mode 4755 p > x", "7: @mode: `4755` is no file mode; write three octal digits such as 0644"),
    ("@on-missing drop p > x", "13: @on-missing: `drop` is neither keep nor remove; write one of them"),
    ("@every > x", f"7: expected {DURATION} after @every", "10: expected a command before `> x`"),
    ("@evry 5s p > x", f"1: `@evry` is no directive; {DIRECTIVES}"),
    ("@Watch p > x", f"1: `@Watch` is no directive; {DIRECTIVES}"),
    ("@watch", "7: expected a pipeline after the directives, in the same line"),
    ("@watch > x", "10: expected a command before `> x`"),
]


@pytest.mark.parametrize("line_and_messages", REFUSED, ids=lambda pair: repr(pair[0]))
def test_what_is_wrong_with_a_line_is_said_with_place_and_way_out(line_and_messages: tuple[str, ...]) -> None:
    line, *messages = line_and_messages
    assert refusals(line) == [f"1:{message}" for message in messages]


def test_a_line_cannot_start_with_a_pipe() -> None:
    assert refusals("p a\n  | q > x") == [
        "1:4: expected > PATH after the last stage",
        f"2:3: expected a command before `|`{NEW_LINE}",
    ]


def test_problems_of_directives_and_words_are_reported_together() -> None:
    assert refusals("@every 5 @mode 9 kubectl get -w | p $UNSET") == [
        "1:8: @every: `5` has no unit; write 5s",
        "1:16: @mode: `9` is no file mode; write three octal digits such as 0644",
        "1:30: `-w` never ends; put @watch before the pipeline instead",
        "1:37: $UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default",
        "1:43: expected > PATH after the last stage",
    ]


def test_sound_stages_and_outputs_of_refused_lines_are_known() -> None:
    findings = found(
        "p 2> a | q b > x\nq c | r $UNSET > y\ncd /a && s 1 | t 2 > ./z\nu 3 > ../w\nv\np | w > f > g\n"
    )
    assert [stage.argv for stage in findings.stages] == [
        ("p",), ("q", "b"), ("q", "c"), ("r",), ("s", "1"), ("t", "2"), ("u", "3"), ("v",), ("p",), ("w",)
    ]  # fmt: skip
    assert [output for output, _ in findings.outputs] == ["x", "y", "z"]
    assert findings.tasks == []


@pytest.mark.parametrize(
    ("path", "output"), [("./x", "x"), ("a/../x", "x"), ("//a//b", "/a/b"), ("/../x", "/x"), ("..x", "..x")]
)
def test_outputs_are_normalised(path: str, output: str) -> None:
    assert load(f"p > {path}")[0].output == output


@pytest.mark.parametrize(
    ("path", "output"), [("a/", "a/"), ("./a//b/./", "a/b/"), ("//a/", "/a/"), ("./", "./"), ("a/../", "./")]
)
def test_a_path_that_ends_in_a_slash_is_a_directory(path: str, output: str) -> None:
    assert load(f"p > {path}")[0].output == output


def test_a_watched_line_is_planned() -> None:
    one, other, none = load(
        "@watch kubectl get pod a -o json | jq .a > x\n@watch kubectl get pods > y\nkubectl get pods > z"
    )
    assert one.watch
    assert other.watch
    assert (one.watch.feeds, other.watch.feeds, none.watch) == (True, False, None)


def test_what_cannot_be_watched_is_said_at_the_stage_also_when_the_rest_is_wrong() -> None:
    (plan, unset) = refusals("@watch kubectl delete pod a | jq $UNSET > x")
    assert plan.startswith("1:8: @watch: only kubectl get can be watched, and this is `kubectl delete`")
    assert unset.startswith("1:34: $UNSET is not set")
    assert refusals("p > x", watch=True)[0].startswith("1:1: @watch: only kubectl get can be watched")


LOOP = """\
p > y
while true; do
    # refresh
    kubectl get pod "$MYPOD" -o json | jq '.a; .b' > /data/a.json  # why
    if p; then q > b; fi
    sleep 30
done
p >> z
"""


def test_a_pasted_loop_gets_one_message_with_the_lines_that_remain() -> None:
    message = "a task is repeated by itself; leave out while, sleep and done, and keep:"
    kept = (
        "\n        kubectl get pod \"$MYPOD\" -o json | jq '.a; .b' > /data/a.json"
        "\n        if p ; then q > b ; fi"
    )
    assert refusals(LOOP)[0] == f"2:1: {message}{kept}"
    assert [refusal[:4] for refusal in refusals(LOOP)] == ["2:1:", "8:3:"]
    loop, kept = "until p; do q > x; r > y; sleep 1; done", "\n        q > x\n        r > y"
    assert refusals(loop) == refusals(f"{loop} &") == [f"1:1: {message}{kept}"]
    assert refusals(f"set -e; {loop}; exit") == [f"1:9: {message}{kept}"]


def test_a_loop_that_only_reads_is_no_repeated_task() -> None:
    (refusal,) = refusals("while read a; do p $a; done > x")
    assert refusal.startswith("1:1: `while` is part of a shell's language")
