"""What stands behind @on-change: a URL, or a pipeline without an output."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.task import Hook, Settings, Task
from tests.unit.parse.loading import found, load, refusals

RELOAD = "http://localhost:9090/-/reload"
BASH = ("bash", "-euo", "pipefail", "-c")


def hook(word: str, **environ: str) -> Hook:
    (task,) = load(f"@on-change {word} p > x", environ=environ)
    assert task.on_change
    return task.on_change


def argvs(word: str, **environ: str) -> list[tuple[str, ...]]:
    return [stage.argv for stage in hook(word, **environ).stages]


def test_a_task_has_no_hook_unless_it_says_so() -> None:
    assert load("p > x")[0].on_change is None


@pytest.mark.parametrize(
    "url",
    [
        RELOAD,
        "https://user:pass@app.shop.svc/x",
        "HTTP://[::1]:8080",
        "http://h/?a=%20",
        "'http://h/a?b=c&d=e;f'",
    ],
)
def test_a_url_is_taken_as_it_is(url: str) -> None:
    assert hook(url) == Hook(url=url.strip("'"))


def test_what_a_url_has_of_the_environment_is_noted() -> None:
    secret = hook("http://$H/?$T", H="h", T="x")
    assert (secret.url, secret.expanded, hook(RELOAD).expanded) == ("http://h/?x", True, False)
    assert hook("$URL", URL=RELOAD).url == RELOAD


@pytest.mark.parametrize("word", ["http://$HOST:$PORT/", "$URL", '"$URL"'])
def test_a_url_that_is_not_known_yet_is_no_problem_where_that_is_allowed(word: str) -> None:
    findings = found(f"@on-change {word} p > x", environ={}, allow_unset=True)
    assert findings.problems == []
    assert findings.tasks[0].on_change == (Hook(url=word) if word.startswith("http") else None)


def test_anything_else_is_a_pipeline() -> None:
    assert argvs("'q \"a b\" | r 2>/dev/null | /bin/s'") == [("q", "a b"), ("r",), ("/bin/s",)]
    assert [stage.quiet for stage in hook("'q | r 2>/dev/null'").stages] == [False, True]
    assert argvs("q") == [("q",)]


def test_its_variables_are_expanded_as_single_words_when_the_tasks_are_loaded() -> None:
    (stage,) = hook("'q \"$A\" x${B:-y}'", A="a; b").stages
    assert (stage.argv, stage.expanded) == (("q", "a; b", "xy"), True)


@pytest.mark.parametrize(
    "text",
    [
        'bash -c "kill -HUP $(cat /run/app.pid)"',
        "q && r",
        "q 2>&1",
        "if q; then r; fi",
        "X=1; q $X",
        "q ~/x",
        "cp $KUBECTL_SIDECAR_OUTPUT /backup",
        'cp "${KUBECTL_SIDECAR_OUTPUT}" /backup',
    ],
)
def test_what_needs_a_shell_is_done_by_bash_as_it_is_written(text: str) -> None:
    assert argvs(f"'{text}'") == [(*BASH, text)]


def test_bash_does_with_it_what_sh_would(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("4711\n")
    ((*argv, script),) = argvs(f"'bash -c \"echo $(cat {tmp_path}/pid)\"'")
    for shell in ([*argv, script], ["sh", "-c", script]):
        assert subprocess.run(shell, capture_output=True, check=True).stdout == b"4711\n"


AT = "1:12: @on-change: "
BLANKS = 'write "$BLANKS", or a variable for each word'
IN_QUOTES = "put the pipeline in single quotes: its own variables are expanded when it is read"
REFUSED = [
    ("'q > /a'", f"{AT}what it writes is thrown away; leave `> /a` out"),
    ("'q $(r 1) > /a'", f"{AT}what it writes is thrown away; leave `> /a` out"),
    ("'@every 5s q'", f"{AT}directives stand outside of it, before the task's own pipeline"),
    (
        "'q | @every 5s q'",
        f"{AT}directives stand before the pipeline; move `@every` to the start of the line",
    ),
    ("'q |'", f"{AT}expected a command after |"),
    ("'| q'", f"{AT}expected a command before `|`; to go on in a new line, end the old one with |"),
    ("localhost:9090/-/reload", f"{AT}expected http:// or https:// at the beginning of a URL"),
    ("ws://localhost/", f"{AT}expected http:// or https:// at the beginning of a URL"),
    ("'q $UNSET'", f"{AT}$UNSET is not set; is it in the container's env? ${{UNSET:-word}} gives a default"),
    ("'q A=1 $A'", f"{AT}$A is not set; is it in the container's env? ${{A:-word}} gives a default"),
    ("'q \"'", f'{AT}this " is never closed'),
    ("''", f"{AT}expected a URL or one pipeline, but 0 came"),
    ("'q\nr'", f"{AT}expected a URL or one pipeline, but 2 came"),
    ("'kubectl get pod -w'", f"{AT}`-w` never ends; put @watch before the pipeline instead"),
    (
        "'q $(NAME)'",
        f"{AT}Kubernetes left `$(NAME)` unexpanded; is NAME in the container's env?",
    ),
    ('"q $SECRET"', f"{AT}this is no URL; {IN_QUOTES}"),
    ('"q $(r 1)"', f"1:15: `$(` runs a command, which needs a shell; {IN_QUOTES}"),
    (
        "'q $BLANKS'",
        f"{AT}the value of $BLANKS holds blanks, of which sh makes several words; {BLANKS}",
    ),
    ('"kill $(FOO)"', "1:18: Kubernetes left `$(FOO)` unexpanded; is FOO in the container's env?"),
    ("http://", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
    ("http://h:port/", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
    ("http://h:70000/", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
    ("http://[::1/", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
    ("'http://h/a b'", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
    ("http://h/ü", f"{AT}expected http://HOST:PORT/PATH, in ASCII and without blanks"),
]


@pytest.mark.parametrize(("word", "problem"), REFUSED)
def test_what_is_wrong_with_it_is_said_at_its_word(word: str, problem: str) -> None:
    assert refusals(f"@on-change {word} p > x") == [problem]


def test_a_hook_is_expected_and_there_is_one() -> None:
    expected = "expected a URL or a pipeline after @on-change"
    assert refusals("@on-change | p > x")[0] == f"1:11: {expected}"
    twice = "1:14: @on-change came before in this task; leave one of them out"
    assert refusals("@on-change q @on-change r p > x") == [twice]


def test_https_needs_what_not_every_image_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    message = "https needs Python's ssl module, which the minimal image has not; use the other one"
    assert refusals("@on-change https://h/ p > x") == [f"{AT}{message}"]
    assert hook("http://h/").url == "http://h/"


def tasks(text: str, directory: Path, **environ: str) -> tuple[Task, ...]:
    (directory / "tasks.yaml").write_text(text)
    settings = Settings(files=(f"{directory}/tasks.yaml",))
    return Loader(settings, {"PATH": "/usr/bin:/bin", **environ}, lambda _: (0, "")).load()


def refusals_of_yaml(text: str, directory: Path, environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        tasks(text, directory, **environ)
    return [f"{p.where.line}:{p.where.column}: {p.text}" for p in caught.value.problems]


def test_in_yaml_it_needs_no_quotes_and_can_be_the_default_of_a_file(tmp_path: Path) -> None:
    text = f"""\
onChange: {RELOAD}
tasks:
- cat /x > a
- run: cat /x > b
  onChange: bash -c 'kill -HUP $(cat /run/app.pid)'
- run: cat /x > c
  onChange: bash -c "kill -HUP $(cat /run/app.pid)"
- run: "@on-change 'cat ${{A}}b' cat /x > d"
- run: cat /x > e
  onChange: |
    {RELOAD}
"""
    a, b, c, d, e = (task.on_change for task in tasks(text, tmp_path, A="y"))
    assert a == e == Hook(url=RELOAD)
    assert b
    assert b.stages[0].argv == ("bash", "-c", "kill -HUP $(cat /run/app.pid)")
    assert c
    assert c.stages[0].argv == (*BASH, 'bash -c "kill -HUP $(cat /run/app.pid)"')
    assert d
    assert d.stages[0].argv == ("cat", "yb")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("echo a > b", "@on-change: what it writes is thrown away; leave `> b` out"),
        ("http://$HOST/", "variables are not expanded in the URL of onChange:; write @on-change in run:"),
        ("''", "onChange: expected a URL or a pipeline, but nothing came"),
        ("[a]", "onChange: expected a URL or a pipeline, but a list came"),
        ("no-such a", "`no-such`: no such program on PATH; install it in the image, or write its path"),
    ],
)
def test_what_is_wrong_with_it_in_yaml_is_said_at_its_value(value: str, problem: str, tmp_path: Path) -> None:
    text = f"tasks:\n- run: cat x > y\n  onChange: {value}\n"
    assert refusals_of_yaml(text, tmp_path, {"HOST": "h"}) == [f"3:13: {problem}"]


def test_its_programs_are_checked_as_those_of_the_line(tmp_path: Path) -> None:
    def says_no(argv: tuple[str, ...]) -> tuple[int, str]:
        return 3, f"jq: error: bad {argv[1]}\n"

    (tmp_path / "jq").write_text("#!/bin/sh\n")
    (tmp_path / "jq").chmod(0o755)
    lines = ("@on-change 'jq .[ | none' jq . > x", "@on-change 'jq $(none)' jq . > y")
    with pytest.raises(InvalidInput) as caught:
        Loader(Settings(lines=lines), {"PATH": str(tmp_path)}, says_no).load()
    assert [f"{problem.where}: {problem.text}" for problem in caught.value.problems] == [
        "LINE 1:1:12: jq refuses this: bad .[",
        "LINE 1:1:12: `none`: no such program on PATH; install it in the image, or write its path",
        "LINE 1:1:27: jq refuses this: bad .",
        "LINE 2:1:12: @on-change: Kubernetes left `$(none)` unexpanded; is none in the container's env?",
        "LINE 2:1:25: jq refuses this: bad .",
    ]
