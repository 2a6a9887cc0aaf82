"""What is said of a failure: the cause, in one line, and never the data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kubectl_sidecar.commands import CUT, Ended
from kubectl_sidecar.diagnosis import failed_stages, is_not_found, missing_rule, one_line, reason
from tests.unit.test_commands import run

KUBECTL, JQ = ("kubectl", "get", "pod", "web", "-o", "json"), ("jq", ".status")
NOT_FOUND = 'Error from server (NotFound): pods "web" not found\n'
FORBIDDEN = (
    'Error from server (Forbidden): pods "web" is forbidden: User "system:serviceaccount:shop:app" cannot get'
    ' resource "pods" in API group "" in the namespace "shop"\n'
)
PIPE, TERM = -signal.SIGPIPE, -signal.SIGTERM


@pytest.mark.parametrize(
    ("statuses", "failed"),
    [
        ((0, 0, 0), []),
        ((3, 0, 0), [0]),
        ((0, 3, 0), [1]),
        ((3, 0, 4), [0, 2]),
        ((PIPE, 141, 0), []),  # ... | head -1
        ((0, PIPE), [1]),  # nobody read the last one's output but us
        ((TERM, 0), [0]),  # somebody else's SIGTERM
        ((PIPE, TERM, 1), [2]),  # the last one failed, and took the others along
        ((-signal.SIGKILL, 0), [0]),
    ],
)
def test_every_stage_counts_but_not_what_was_done_to_it(statuses: tuple[int, ...], failed: list[int]) -> None:
    assert failed_stages(Ended("exited", statuses, ("",) * len(statuses))) == failed


def test_the_reason_names_each_program_that_failed_and_what_it_said() -> None:
    ended = Ended("exited", (1, 5), ("error: one\nerror: two\n", "jq: error: three\n"))
    assert reason([("/usr/bin/kubectl", "get"), JQ], ended) == (
        "kubectl exited with 1: error: one / error: two; jq exited with 5: jq: error: three"
    )


def test_a_kubectl_that_was_ended_because_jq_failed_is_not_named() -> None:
    ended = Ended("exited", (1, 5), ("", "jq: error: three\n"))
    assert reason([KUBECTL, JQ], ended) == "jq exited with 5: jq: error: three"


def test_a_silent_failure_is_a_reason_too() -> None:
    assert reason([KUBECTL], Ended("exited", (1,), ("",))) == "kubectl exited with 1"
    assert reason([JQ], Ended("exited", (-9,), ("",))) == "jq killed by SIGKILL"


def test_only_kubectl_can_say_that_an_object_does_not_exist() -> None:
    assert is_not_found(KUBECTL, NOT_FOUND)
    assert is_not_found(("/bin/kubectl",), f"Warning: v1 Old is deprecated\n{NOT_FOUND}")
    assert not is_not_found(("cat",), NOT_FOUND)
    assert not is_not_found(KUBECTL, FORBIDDEN)
    assert not is_not_found(KUBECTL, 'error: the server doesn\'t have a resource type "foos"\n')


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (
            FORBIDDEN,
            (
                '{apiGroups: [""], resources: ["pods"], resourceNames: ["web"], verbs: ["get"]}'
                " in a Role in namespace shop"
            ),
        ),
        (
            (
                'Error from server (Forbidden): deployments.apps is forbidden: User "u" cannot list resource'
                ' "deployments" in API group "apps" in the namespace "shop"\n'
            ),
            '{apiGroups: ["apps"], resources: ["deployments"], verbs: ["list"]} in a Role in namespace shop',
        ),
        (
            (
                'Error from server (Forbidden): nodes "n1" is forbidden: User "u" cannot get resource "nodes"'
                ' in API group "" at the cluster scope\n'
            ),
            '{apiGroups: [""], resources: ["nodes"], resourceNames: ["n1"], verbs: ["get"]} in a ClusterRole',
        ),
        (
            'Error from server (Forbidden): forbidden: User "u" cannot get path "/metrics"\n',
            '{nonResourceURLs: ["/metrics"], verbs: ["get"]} in a ClusterRole',
        ),
    ],
)
def test_forbidden_names_the_rule_that_is_missing(said: str, rule: str) -> None:
    assert missing_rule(said) == rule
    assert reason([KUBECTL], Ended("exited", (1,), (said,))) == (
        f"kubectl exited with 1: {said.strip()} (missing rule: {rule})"
    )


def test_the_log_of_kubectls_attempts_is_left_out_when_it_also_says_what_is_wrong() -> None:
    log = 'E1123 08:00:00.123456   1234 memcache.go:265] "Unhandled Error" err="..."\n'
    assert (
        one_line(f"{log}{log}Unable to connect to the server: EOF\n")
        == "Unable to connect to the server: EOF"
    )
    assert one_line(log) == log.strip()


def test_control_characters_do_not_reach_a_terminal_or_a_second_line() -> None:
    said = "\x1b[31mred\x1b[0m\r\nnext\x00\x85line\u2028and\u202eback\ttab \udcff"
    assert one_line(said) == "[31mred [0m / next / line / and back tab ?"


SECRET = '{"s": "hunter2", "m": "two\\nhunter2 lines", "o": {"a": "hunter2"}, "n": 1}'
# By jq's sources, every kind of error that quotes what it failed on, and what is to be left of it.
QUOTING = {
    ".s | tonumber": ": string (…) cannot be parsed as a number",
    ".m + .o": ": string (…) cannot be added",
    ".n[.s]": ": Cannot index number with string (…)",
    "{(.o): 1}": ": Cannot use object (…) as object key",
    ".s[]": ": Cannot iterate over string (…)",
    ".s | fromjson": ": Invalid numeric literal at EOF at line 1, column 7 (while parsing …)",
    ".m | fromjson": ": Invalid literal at line 2, column 0 (while parsing …)",
    '.m | strptime("%Y")': ': date "…" does not match format "…"',
    ".s | fromdate": ': date "…" does not match format "…"',
    "format(.m)": ": … is not a valid format",
    '.m as $m | "a" | test("a"; $m)': ": … is not a valid modifier string",
    r'"\\k<\(.s)>" as $r | .s | test($r)': ": Regex failure: undefined name <…>",
    "path(.o | [.] | .[])": ": Invalid path expression near attempt to iterate through …",
    "path(.o | tojson | .a)": ": Invalid path expression near attempt to access element …",
    "[.o] | @csv": ": object (…) is not valid in a csv row",
    "[.o] | @sh": ": object (…) can not be escaped for shell",
    "[.o] | implode": ": object (…) can't be imploded, unicode codepoint needs to be numeric",
    ".o | error": " (not a string): …",
}


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("program", QUOTING)
def test_what_jq_quotes_is_not_repeated(program: str) -> None:
    ended, _ = run(("printf", "%s", SECRET), ("jq", program))
    assert ended.statuses == (0, 5)
    said = one_line(ended.stderrs[1])
    assert said == f"jq: error (at <stdin>:0){QUOTING[program]}"
    assert "hunter" in ended.stderrs[1]


@pytest.mark.usefixtures("tools")
def test_what_jq_is_told_to_say_is_said() -> None:
    ended, _ = run(("printf", "%s", SECRET), ("jq", 'debug | error("no pod of that name")'))
    assert one_line(ended.stderrs[1]) == '["DEBUG:",…] / jq: error (at <stdin>:0): no pod of that name'


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("size", [10, 20000], ids=["short", "longer than what is kept of stderr"])
@pytest.mark.parametrize("template", ["{.nope}", '{.data.a[?(@.x=="y")]}'])
def test_what_kubectl_quotes_is_not_repeated(tmp_path: Path, size: int, template: str) -> None:
    (tmp_path / "a").write_text("hunter2\n" * size)
    create = ("kubectl", "create", "configmap", "c", f"--from-file={tmp_path}", "--dry-run=client")
    ended, _ = run((*create, f"-o=jsonpath={template}", "--allow-missing-template-keys=false"))
    assert ended.statuses == (1,)
    said = one_line(ended.stderrs[0])
    assert "hunter2" not in said
    assert said.startswith("…" if ended.stderrs[0].startswith(CUT) else ("error: ", "…"))


@pytest.mark.usefixtures("tools")
def test_an_error_of_jq_that_is_longer_than_what_is_kept_is_not_repeated() -> None:
    environment = {**os.environ, "SECRET": "hunter2\n" * 2000}
    ended, _ = run(("jq", "--null-input", "env.SECRET | fromjson"), environment=environment)
    assert ended.stderrs[0].startswith(CUT)
    assert reason([JQ], ended) == "jq exited with 5: …"


def test_of_a_long_stderr_the_sure_causes_are_kept() -> None:
    assert one_line(f"{CUT}data\n{NOT_FOUND}") == f"… / {NOT_FOUND.strip()}"
    assert one_line(f"{CUT}bash: line 1: foo: not found\n", "bash") == "… / bash: line 1: foo: not found"
