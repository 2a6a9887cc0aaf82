"""What is said of a failure: the cause, in one line, and never the data."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_sidecar.errors import NotFound
from kubectl_sidecar.kubectl.stderr import (
    failure,
    is_stale_discovery,
    missing_rule,
    one_line,
    refuses_watch,
    said,
)
from kubectl_sidecar.process.pipeline import CUT, Ended
from tests.unit.kubectl.answers import Answers, not_found, serving, status
from tests.unit.kubectl.running import run

KUBECTL, JQ = ("kubectl", "get", "pod", "web", "-o", "json"), ("jq", ".status")
NOT_FOUND = 'Error from server (NotFound): pods "web" not found\n'
NOT_SERVED = "Error from server (NotFound): the server could not find the requested resource\n"
NO_TYPE = 'error: the server doesn\'t have a resource type "foos"\n'
FORBIDDEN = (
    'Error from server (Forbidden): pods "web" is forbidden: User "system:serviceaccount:shop:app" cannot get'
    ' resource "pods" in API group "" in the namespace "shop"\n'
)
LOG = 'E1123 08:00:00.123456   1234 memcache.go:265] "Unhandled Error" err="..."\n'
PIPE, TERM = -signal.SIGPIPE, -signal.SIGTERM


def exited(argvs: list[tuple[str, ...]], statuses: tuple[int, ...], *stderrs: str) -> Ended:
    return Ended(argvs, "exited", statuses, stderrs)


def reason(argvs: list[tuple[str, ...]], statuses: tuple[int, ...], *stderrs: str) -> str:
    return str(failure(exited(argvs, statuses, *stderrs)))


def of_kubectl(stderr: str, argv: tuple[str, ...] = KUBECTL) -> str:
    return reason([argv], (1,), stderr)


def is_not_found(stderr: str, argv: tuple[str, ...] = KUBECTL) -> bool:
    return isinstance(failure(exited([argv], (1,), stderr)), NotFound)


@pytest.fixture(scope="module")
def server() -> Iterator[Answers]:
    with serving() as answers:
        yield answers


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
    assert exited([JQ] * len(statuses), statuses, *[""] * len(statuses)).failed() == failed


def test_the_reason_names_each_program_that_failed_and_what_it_said() -> None:
    stderrs = ("error: one\nerror: two\n", "jq: error: three\n")
    assert reason([("/usr/bin/kubectl", "get"), JQ], (1, 5), *stderrs) == (
        "kubectl exited with 1: error: one / error: two; jq exited with 5: jq: error: three"
    )


def test_a_kubectl_that_was_ended_because_jq_failed_is_not_named() -> None:
    stderrs = ("", "jq: error: three\n")
    assert reason([KUBECTL, JQ], (1, 5), *stderrs) == "jq exited with 5: jq: error: three"


def test_a_silent_failure_is_a_reason_too() -> None:
    assert of_kubectl("") == "kubectl exited with 1"


@pytest.mark.parametrize(("number", "how"), [(-9, "killed by SIGKILL"), (137, "exited with 137")])
def test_what_was_killed_may_have_been_out_of_memory(number: int, how: str) -> None:
    hint = "(out of memory? see the container's memory limit)"
    assert reason([JQ], (number,), "") == f"jq {how} {hint}"
    assert reason([JQ], (number,), "Killed\n") == f"jq {how}: Killed {hint}"


def test_what_the_programs_said_is_one_line_of_all_of_them() -> None:
    stderrs = ("No resources found\nin shop\n", "", "jq: x\n")
    ended = exited([KUBECTL, ("cat",), JQ], (0, 0, 0), *stderrs)
    assert said(ended) == ": No resources found / in shop; jq: x"
    assert said(exited([KUBECTL], (0,), "")) == ""


def test_an_object_is_missing_when_the_server_names_it() -> None:
    assert is_not_found(NOT_FOUND)
    assert is_not_found('Error from server (NotFound): namespaces "shop" not found\n')
    assert is_not_found(f"{LOG}Warning: v1 Old is deprecated\n{NOT_FOUND}")
    both = NOT_FOUND + NOT_FOUND.replace("web", "other")
    assert is_not_found(both, ("kubectl", "get", "pods/web", "pods/other"))
    # What is missing to a server behind the API server is another thing.
    assert not is_not_found(both)
    assert not is_not_found('Error from server (NotFound): upstreams "backend" not found\n')
    assert is_not_found(NOT_FOUND, ("/bin/kubectl", "-n", "shop", "get", "pod", "web"))


def test_an_object_is_missing_also_when_what_follows_fails_on_the_empty_input() -> None:
    ended = exited([KUBECTL, ("jq", "-e", ".")], (1, 4), NOT_FOUND, "")
    assert isinstance(failure(ended), NotFound)


@pytest.mark.parametrize(
    "stderr",
    [
        NOT_SERVED,
        "Error from server (NotFound): the server could not find the requested resource (get pods web)\n",
        'Error from server (NotFound): Unable to list "/v1, Resource=pods": pods "web" not found\n',
        NOT_FOUND.replace("not found", "not found in the cache"),
        NO_TYPE,
        FORBIDDEN,
        f"{NOT_FOUND}{FORBIDDEN}",
        f"{NOT_FOUND}{NOT_SERVED}",
        f"{NOT_FOUND}unexpected end of JSON input\n",
        f"unexpected end of JSON input\n{NOT_FOUND}",
        f"{CUT}{NOT_FOUND}",  # what was cut off may be another error
        "",
    ],
)
def test_nothing_else_is_a_missing_object(stderr: str) -> None:
    assert not is_not_found(stderr)


@pytest.mark.parametrize(
    "argv",
    [("cat",), ("bash", "-c", "kubectl get pod web"), ("kubectl", "exec", "web", "--", "kubectl", "get")],
)
def test_only_kubectl_get_can_say_that_an_object_does_not_exist(argv: tuple[str, ...]) -> None:
    assert not is_not_found(NOT_FOUND, argv)


def test_only_the_first_stage_can() -> None:
    assert not isinstance(failure(exited([("echo", "a"), KUBECTL], (0, 1), "", NOT_FOUND)), NotFound)
    assert not isinstance(failure(exited([KUBECTL, JQ], (0, 5), NOT_FOUND, "")), NotFound)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("answers", "missing", "stale"),
    [
        ({"a": not_found("pods", "a")}, True, False),
        ({"a": not_found("pods", "a"), "ns": not_found("namespaces", "ns")}, True, False),
        ({"a": (404, "text/plain", "404 page not found\n")}, False, True),
        ({"a": (404, "text/html", "<html><h1>404 Not Found</h1></html>")}, False, True),
        ({"a": status(404, "NotFound", "the server could not find the requested resource")}, False, True),
        ({"a": not_found("pods", "a"), "b": (200, "text/html", "<html>")}, False, False),
    ],
    ids=["object", "namespace", "text", "html", "without details", "one of two"],
)
def test_real_answers(
    server: Answers, tmp_path: Path, answers: dict[str, tuple[int, str, str]], missing: bool, stale: bool
) -> None:
    server.answers = {"ns": (200, "application/json", '{"kind": "Namespace", "apiVersion": "v1"}'), **answers}
    names = [name for name in answers if name != "ns"]
    argv = ("kubectl", "--server", server.address, "get", "pod", *names, "--namespace=ns", "-o", "json")
    ended, _ = run(argv, environment={**os.environ, "KUBECACHEDIR": str(tmp_path)})
    assert isinstance(failure(ended), NotFound) == missing
    assert is_stale_discovery(ended.stderrs[0]) == stale


def test_the_discovery_cache_may_be_too_old_when_what_was_asked_for_is_not_served() -> None:
    assert is_stale_discovery(NOT_SERVED)
    assert is_stale_discovery(NO_TYPE)
    assert is_stale_discovery('error: the server doesn\'t have a resource type "pods" in group "v2.x"\n')
    assert not is_stale_discovery(NOT_FOUND)
    assert not is_stale_discovery("jq: error: could not find the requested resource\n")


@pytest.mark.parametrize(
    "stderr",
    [
        FORBIDDEN.replace("get", "watch"),
        "Error from server (MethodNotAllowed): the server does not allow this method\n",
        "Error from server (TooManyRequests): too many requests, please try again later\n",
        "Error from server (BadRequest): unable to watch\n",
        "Error from server (NotFound): the server could not find the requested resource (get pods)\n",
        "error: you may only specify a single resource type\n",
        "error: you may only watch a single resource or type of resource at a time\n",
    ],
)
def test_a_watch_that_the_server_does_not_give_is_refused(stderr: str) -> None:
    assert refuses_watch(stderr)
    assert refuses_watch(f"Warning: v1 Old is deprecated\n{stderr}")


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "Unable to connect to the server: EOF\n",
        "Error from server (ServiceUnavailable): the server is currently unable to handle the request\n",
        "Error from server (Expired): too old resource version\n",
        NOT_FOUND,
        "jq: error: you may only dream\n",
    ],
)
def test_any_other_end_of_a_watch_is_no_refusal(stderr: str) -> None:
    assert not refuses_watch(stderr)


@pytest.mark.parametrize(
    ("stderr", "rule"),
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
def test_forbidden_names_the_rule_that_is_missing(stderr: str, rule: str) -> None:
    assert missing_rule(stderr) == rule
    assert of_kubectl(stderr) == f"kubectl exited with 1: {stderr.strip()} (missing rule: {rule})"


def test_the_log_of_kubectls_attempts_is_left_out_when_it_also_says_what_is_wrong() -> None:
    refused = "Unable to connect to the server: EOF"
    assert one_line(f"{LOG}{LOG}{refused}\n") == refused
    assert one_line(LOG) == LOG.strip()


def test_of_much_that_a_program_says_the_last_part_is_shown() -> None:
    assert one_line("x" * 999 + "\n" + "why" * 300, "p") == "… " + "x" * 97 + " / " + "why" * 300
    assert one_line("x" * 1000, "p") == "x" * 1000


def test_control_characters_do_not_reach_a_terminal_or_a_second_line() -> None:
    stderr = "\x1b[31mred\x1b[0m\r\nnext\x00\x85line\u2028and\u202eback\ttab \udcff"
    assert one_line(stderr) == "[31mred [0m / next / line / and back tab ?"


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
    assert one_line(ended.stderrs[1]) == f"jq: error (at <stdin>:0){QUOTING[program]}"
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
    shown = one_line(ended.stderrs[0])
    assert "hunter2" not in shown
    assert shown.startswith("…" if ended.stderrs[0].startswith(CUT) else ("error: ", "…"))


@pytest.mark.usefixtures("tools")
def test_an_error_of_jq_that_is_longer_than_what_is_kept_is_not_repeated() -> None:
    environment = {**os.environ, "SECRET": "hunter2\n" * 2000}
    ended, _ = run(("jq", "--null-input", "env.SECRET | fromjson"), environment=environment)
    assert ended.stderrs[0].startswith(CUT)
    assert str(failure(ended)) == "jq exited with 5: …"


def test_of_a_long_stderr_the_sure_causes_are_kept() -> None:
    assert one_line(f"{CUT}data\n{NOT_FOUND}") == f"… / {NOT_FOUND.strip()}"
    assert one_line(f"{CUT}bash: line 1: foo: not found\n", "bash") == "… / bash: line 1: foo: not found"


@pytest.mark.parametrize(
    ("stderr", "shown"),
    [
        ("curl: proxy http://bob:hunter2@proxy:1 is gone", "curl: proxy http://proxy:1 is gone"),
        ("fatal: unable to access 'https://hunter2@h/x.git/'", "fatal: unable to access 'https://h/x.git/'"),
        ("Get \"https://bob:hunt@er2@h/a\": EOF", 'Get "https://h/a": EOF'),
        ("Get \"https://bob:hunt/er2@h/a\": EOF", 'Get "https://h/a": EOF'),
        ("//bob:hunter2@h and //eve:hunter2@i", "//h and //i"),
        ("to=https%3A%2F%2Fbob%3Ahunter2%40h&x", "to=https%3A%2F%2Fh&x"),
        ("to=https%3a%2f%2fhunter2%40h%3A1", "to=https%3a%2F%2Fh%3A1"),
        ('parse "bob:hunter 2@h": first path segment', 'parse "h": first path segment'),
        # No user is meant here.
        ("see https://k8s.io/docs for bob@example.com", "see https://k8s.io/docs for bob@example.com"),
        ('User "bob@example.com" cannot get path', 'User "bob@example.com" cannot get path'),
    ],
)  # fmt: skip
def test_users_and_passwords_in_urls_are_cut_out_of_whatever_programs_say(stderr: str, shown: str) -> None:
    assert one_line(stderr, "any") == shown
    assert one_line(stderr) == shown


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("flag", "url"),
    [
        ("--proxy-url", "bob:hunter2@127.0.0.1:1"),
        ("--proxy-url", "ftp://bob:hunter2@127.0.0.1:1"),
        ("--proxy-url", "http://bob:hunter2 and hunter2/hunter2@127.0.0.1:1"),
        ("--server", "http://bob:hunter2 and hunter2/hunter2@127.0.0.1:1"),
        ("--server", "http://hunter2@127.0.0.1:1"),  # only in the log of its attempts
    ],
)
def test_passwords_that_kubectl_quotes_are_not_repeated(tmp_path: Path, flag: str, url: str) -> None:
    argv = ("kubectl", "--token=t", "--server=http://10.0.0.1:1", f"{flag}={url}", "get", "pod", "web")
    ended, _ = run(argv, environment={**os.environ, "KUBECACHEDIR": str(tmp_path)})
    assert ended.statuses == (1,)
    assert "hunter2" in ended.stderrs[0]
    assert all("hunter2" not in one_line(line) for line in ended.stderrs[0].splitlines())


EMPTY = "kubectl exited with 1: error: EOF (no credentials: is the token file empty?)"
NO_TOKEN = (
    "kubectl exited with 1: Unable to connect to the server: net/http: invalid header field value for"
    ' "Authorization" (no credentials: is the token file empty?)'
)


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "kubectl exited with 1: error: open {}: no such file or directory"),
        ("", EMPTY),
        ("\n", NO_TOKEN),
    ],
    ids=["missing", "empty", "a newline only"],
)
def test_an_unusable_token_file_is_said_and_not_what_jq_makes_of_it(
    tmp_path: Path, content: str | None, text: str
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    around = {**os.environ, "KUBECONFIG": str(tmp_path / "config"), "KUBECACHEDIR": str(tmp_path)}
    ended, _ = run(KUBECTL, JQ, environment=around)
    assert str(failure(ended)) == text.format(token)
