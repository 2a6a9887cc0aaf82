"""How lines are watched: the commands, and what is refused."""

from __future__ import annotations

import pytest

from kubectl_sidecar import watching
from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.jqwords import reads_json, waits_for_input
from kubectl_sidecar.taskfile import Source, load_tasks
from kubectl_sidecar.tasks import Defaults, Task

ONE_TYPE = (
    "@watch: kubectl watches one type of objects at a time; make it a task for each type, or leave @watch out"
)
OTHER_PROGRAM = (
    "@watch: only kubectl get can be watched, and the first stage is another program; leave @watch out"
)
RAW = "@watch: --raw cannot be watched: write kubectl get TYPE NAME -o json instead, or leave @watch out"
SUBRESOURCE = (
    "@watch: --subresource cannot be watched: kubectl would watch the object itself; leave @watch out"
)
EVENTS = ["--watch", "--output-watch-events", "--chunk-size=0"]


def task(line: str, environ: dict[str, str] | None = None) -> Task:
    (loaded,) = load_tasks([Source("tasks", f"@watch {line} > out")], environ or {}, Defaults())
    return loaded


def watched(line: str) -> watching.Watching:
    return watching.plan(task(line).stages)


def problem(line: str, environ: dict[str, str] | None = None) -> str:
    (found,) = watching.problems([task(line, environ)])
    assert found.where == "tasks:1:8"
    return found.text


@pytest.mark.parametrize(
    "line",
    [
        "kubectl get pod web -o json | jq .status",
        "kubectl get pod/web -ojson | jq .status",
        "kubectl get -o=json pod web | jq .status",
        "kubectl get --output json -- pod web | jq .status",
        "kubectl get pod web --output=yaml -o json --chunk-size=5 --request-timeout=1s -v6 | jq .status",
    ],
)
def test_one_named_object_as_json_is_fed_to_jq(line: str) -> None:
    kubectl, jq = watched(line).argvs
    selector = "--field-selector=metadata.name=web"
    assert list(kubectl) == ["kubectl", "get", "pod", *EVENTS, selector, "--output=json"]
    assert jq[:3] == ("jq", "--unbuffered", "-c")
    assert "del(.metadata.managedFields)" in jq[3]
    assert watched(line).feeds


def test_what_says_which_object_is_meant_is_kept() -> None:
    line = (
        "/bin/kubectl -n ns --context=c --kubeconfig k --as me --as-group=a --as-group b"
        " --tls_server_name=x get deployments.v1.apps web -ojson | /bin/jq .status"
    )
    kubectl, jq = watched(line).argvs
    kept = ["--namespace=ns", "--context=c", "--kubeconfig=k", "--as=me", "--as-group=a", "--as-group=b"]
    kept.append("--tls-server-name=x")
    assert list(kubectl[:-2]) == ["/bin/kubectl", "get", "deployments.v1.apps", *kept, *EVENTS]
    assert jq[0] == "/bin/jq"


def test_names_are_escaped_for_the_field_selector() -> None:
    assert (
        "--field-selector=metadata.name=a\\,b\\=c"
        in watched("kubectl get role a,b=c -o json | jq .").argvs[0]
    )


def test_managed_fields_are_kept_for_those_who_want_them() -> None:
    line = "kubectl get pod web -o json --show-managed-fields{} | jq ."
    assert "managedFields" not in watched(line.format("")).argvs[1][3]
    assert "managedFields" in watched(line.format("=false")).argvs[1][3]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kubectl get pods -A -o json | jq .items", ["pods", "--all-namespaces=true", *EVENTS]),
        ("kubectl get pods -lapp=web -o wide", ["pods", "--selector=app=web", *EVENTS]),
        ("kubectl get pods --field-selector=a=b -o json | jq .", ["pods", "--field-selector=a=b", *EVENTS]),
        ("kubectl get pods a b -o json | jq .", ["pods", *EVENTS]),
        ("kubectl get pods/a pods/b --sort-by .x --no-headers", ["pods", *EVENTS]),
        ("kubectl get pod a -Aojson | jq .", ["pod", "--all-namespaces=true", *EVENTS]),
        ("kubectl get pod '' -o json | jq .", ["pod", *EVENTS]),
    ],
)
def test_everything_else_is_watched_for_that_something_has_changed(line: str, words: list[str]) -> None:
    plan = watched(line)
    assert [list(argv) for argv in plan.argvs] == [["kubectl", "get", *words, "--no-headers"]]
    assert not plan.feeds


@pytest.mark.parametrize(
    "line",
    [
        "kubectl get pod web -o yaml",
        "kubectl get pod web -o json",
        "kubectl get pod web -o json --ignore-not-found | jq .",
        "kubectl get pod web -o json | tee copy | jq .",
        "kubectl get pod web -o json | jq -Rs .",
        "kubectl get pod web -o json | jq input_line_number",
    ],
)
def test_one_named_object_that_is_not_read_as_json_is_a_trigger_too(line: str) -> None:
    plan = watched(line)
    selector = "--field-selector=metadata.name=web"
    assert [list(argv) for argv in plan.argvs] == [
        ["kubectl", "get", "pod", *EVENTS, selector, "--no-headers"]
    ]
    assert not plan.feeds


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "cat x",
            OTHER_PROGRAM,
        ),
        ("kubectl logs web", "@watch: only kubectl get can be watched; leave @watch out"),
        ("kubectl get -o json", "@watch: expected a type of objects after get"),
        ("kubectl get pod/web node", "@watch: expected TYPE NAME or TYPE/NAME after get"),
        (
            "kubectl get pods,nodes",
            ONE_TYPE,
        ),
        (
            "kubectl get pod/web node/a",
            ONE_TYPE,
        ),
        (
            "kubectl get all",
            ONE_TYPE,
        ),
        (
            "kubectl get --raw /api",
            RAW,
        ),
        ("kubectl get -f x.yaml", "@watch: --filename cannot be watched: name the objects instead"),
        ("kubectl get -kx", "@watch: --kustomize cannot be watched: name the objects instead"),
        (
            "kubectl get pod web --subresource=status -o json | jq .",
            SUBRESOURCE,
        ),
        (
            "kubectl get pods --foo=1",
            "@watch: what kubectl's flag --foo means for a watch is not known; leave it or @watch out",
        ),
        (
            "kubectl get pods -oz -x",
            "@watch: what kubectl's flag -x means for a watch is not known; leave it or @watch out",
        ),
        ("kubectl get pods -n", "@watch: expected a value after --namespace"),
    ],
)
def test_what_cannot_be_watched_is_refused(line: str, text: str) -> None:
    assert problem(line) == text


def test_no_problem_shows_a_value_from_the_environment() -> None:
    text = problem('kubectl get pods "$FLAG"', {"FLAG": "--secret"})
    assert text == "@watch: what kubectl's flag means for a watch is not known; leave it or @watch out"


def test_tasks_that_are_not_watched_are_none_of_its_business() -> None:
    (polled,) = load_tasks([Source("tasks", "kubectl logs web > out")], {}, Defaults())
    assert watching.problems([polled]) == []


def test_check_says_how_a_task_is_watched_and_what_that_needs() -> None:
    assert watching.describe(task("kubectl get pod web -o json | jq .")) == (
        "each object is fed to the rest of the line; needs the verbs get, list and watch for it"
    )
    assert watching.describe(task("kubectl get pods")) == (
        "each change runs the line again; needs the verbs list and watch for what it lists or gets"
    )


def test_a_watch_word_in_the_line_itself_is_refused_before() -> None:
    with pytest.raises(InvalidInput):
        task("kubectl get pods -w")


@pytest.mark.parametrize(
    "words", [".", "-c .", "-rS .x --arg a b", "--indent 2 --argjson a 1 .", "-es .", "'.'"]
)
def test_a_jq_that_does_nothing_before_its_input_comes_is_started_ahead(words: str) -> None:
    assert watched(f"kubectl get pod web -o json | jq {words} | jq {words}").ahead


@pytest.mark.parametrize(
    "words",
    [
        "-n input",  # the clock may be read before the input
        "--slurpfile a f .",  # files are read at once, and may have changed by the time of the input
        "-f program",
        ". file",
        "-L lib 'import \"m\" as m; m::f'",
        "'include \"m\"; f'",
        "--unknown .",
        "--args . a",
    ],
)
def test_a_jq_that_does_something_before_its_input_comes_is_not(words: str) -> None:
    plan = watched(f"kubectl get pod web -o json | jq {words}")
    assert plan.feeds
    assert not plan.ahead


def test_only_jq_is_known_to_wait_for_its_input() -> None:
    assert not waits_for_input(["bash", "-c", "date"])
    assert not watched("kubectl get pod web -o json | jq . | bash -c 'date; cat'").ahead


def test_raw_input_is_not_json() -> None:
    assert reads_json([["jq", "-r", "."]])
    assert not reads_json([["jq", "-rR", "."]])
    assert not reads_json([["jq", "--rawfile", "a", "/dev/stdin", "."]])
    assert not reads_json([["jq", "--slurpfile", "a", "/dev/stdin", "."]])
    assert not reads_json([])
