"""How lines are watched: the commands, and what is refused."""

from __future__ import annotations

import shlex

import pytest

from kubectl_sidecar.errors import Position
from kubectl_sidecar.task import Stage, WatchPlan
from kubectl_sidecar.watch.plan import plan

ONE_TYPE = "kubectl watches one type of objects at a time; make it a task for each type, or leave @watch out"
RAW = "--raw cannot be watched: write kubectl get TYPE NAME -o json instead, or leave @watch out"
SUBRESOURCE = "--subresource cannot be watched: kubectl would watch the object itself; leave @watch out"
OTHER = "only kubectl get can be watched, and this is {}; leave @watch out"
EVENTS = ["--watch", "--output-watch-events", "--chunk-size=0"]


def stages(line: str, *, expanded: bool = False) -> list[Stage]:
    """Split a line at its bars, as the parser does it with words that hold none."""
    where = Position("tasks")
    return [Stage(tuple(shlex.split(stage)), where, expanded) for stage in line.split(" | ")]


def planned(line: str) -> WatchPlan:
    return plan(stages(line))


def refusal(line: str, *, expanded: bool = False) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        plan(stages(line, expanded=expanded))
    return str(caught.value)


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
    kubectl = planned(line).argv
    selector = "--field-selector=metadata.name=web"
    assert list(kubectl) == ["kubectl", "get", "pod", *EVENTS, selector, "--output=json"]
    assert planned(line).feeds


def test_what_says_which_object_is_meant_is_kept() -> None:
    line = (
        "/bin/kubectl -n ns --context=c --kubeconfig k --as me --as-group=a --as-group b"
        " --tls_server_name=x get deployments.v1.apps web -ojson | /bin/jq .status"
    )
    kubectl = planned(line).argv
    kept = ["--namespace=ns", "--context=c", "--kubeconfig=k", "--as=me", "--as-group=a", "--as-group=b"]
    kept.append("--tls-server-name=x")
    assert list(kubectl[:-2]) == ["/bin/kubectl", "get", "deployments.v1.apps", *kept, *EVENTS]


def test_names_are_escaped_for_the_field_selector() -> None:
    kubectl = planned("kubectl get role a,b=c -o json | jq .").argv
    assert "--field-selector=metadata.name=a\\,b\\=c" in kubectl


def test_managed_fields_are_kept_for_those_who_want_them() -> None:
    line = "kubectl get pod web -o json --show-managed-fields{} | jq ."
    wanted, unwanted = planned(line.format("")), planned(line.format("=false"))
    assert (wanted.managed_fields, unwanted.managed_fields) == (True, False)
    # They share no watch.
    assert wanted.argv == (*unwanted.argv, "--show-managed-fields")


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
    found = planned(line)
    assert [list(found.argv)] == [["kubectl", "get", *words, "--no-headers"]]
    assert not found.feeds
    assert not found.ahead


@pytest.mark.parametrize(
    "line",
    [
        "kubectl get pod web -o yaml",
        "kubectl get pod web -o json",
        "kubectl get pod web -o json --ignore-not-found | jq .",
        "kubectl get pod web -o json --warnings-as-errors | jq .",
        "kubectl get pod web -o json --show-labels | jq .",
        "kubectl get pod web -o json --output-watch-events | jq .",
        "kubectl get pod web -o json | tee copy | jq .",
        "kubectl get pod web -o json | jq -Rs .",
        "kubectl get pod web -o json | jq -rR .",
        "kubectl get pod web -o json | jq --rawfile a /dev/stdin .",
        "kubectl get pod web -o json | jq --slurpfile a /dev/stdin .",
        "kubectl get pod web -o json | jq input_line_number",
    ],
)
def test_one_named_object_that_is_not_read_as_json_is_a_trigger_too(line: str) -> None:
    found = planned(line)
    selector = "--field-selector=metadata.name=web"
    words = ["kubectl", "get", "pod", *EVENTS, selector, "--no-headers"]
    assert list(found.argv) == words
    assert not found.feeds


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("kubectl get -o json", "expected a type of objects after get"),
        ("kubectl get pod/web node", "expected TYPE NAME or TYPE/NAME after get"),
        ("kubectl get pods,nodes", ONE_TYPE),
        ("kubectl get pod/web node/a", ONE_TYPE),
        ("kubectl get pods,nodes/a", ONE_TYPE),
        ("kubectl get all", ONE_TYPE),
        ("kubectl get --raw /api", RAW),
        ("kubectl get -f x.yaml", "--filename cannot be watched: name the objects instead"),
        ("kubectl get -kx", "--kustomize cannot be watched: name the objects instead"),
        ("kubectl get pod web --subresource=status -o json | jq .", SUBRESOURCE),
        ("kubectl get pods -Aw", "--watch cannot be watched: @watch does that; leave it out"),
        (
            "kubectl get pods --foo=1",
            "what kubectl's flag --foo means is not known; leave it or @watch out",
        ),
        ("kubectl get pods -n", "expected a value after --namespace; leave it or @watch out"),
    ],
)
def test_what_cannot_be_watched_is_refused(line: str, text: str) -> None:
    assert refusal(line) == text


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("cat x", "`cat`"),
        ("/bin/bash -c 'kubectl get pods'", "`bash`"),
        ("kubectl logs web", "`kubectl logs`"),
        ("kubectl logs web -c app --tail=5 --since 1h", "`kubectl logs`"),
        ("kubectl describe pod web --show-events=false", "`kubectl describe`"),
        ("kubectl -n ns --context=c top pods --containers", "`kubectl top`"),
        ("kubectl --foo=1 api-resources --namespaced", "`kubectl api-resources`"),
        ("kubectl --help", "`kubectl`"),
    ],
)
def test_what_is_no_kubectl_get_is_told_so_whatever_flags_it_has(line: str, what: str) -> None:
    assert refusal(line) == OTHER.format(what)


def test_no_refusal_shows_a_value_from_the_environment() -> None:
    assert refusal("kubectl get pods --secret", expanded=True) == (
        "what kubectl's flag means is not known; leave it or @watch out"
    )
    assert refusal("kubectl hunter2", expanded=True) == OTHER.format("another command")


@pytest.mark.parametrize(
    "words", [".", "-c .", "-rS .x --arg a b", "--indent 2 --argjson a 1 .", "-es .", "'.'", "--arg a -n ."]
)
def test_a_jq_that_does_nothing_before_its_input_comes_is_started_ahead(words: str) -> None:
    assert planned(f"kubectl get pod web -o json | jq {words} | jq {words}").ahead


@pytest.mark.parametrize(
    "words",
    [
        "-n input",  # the clock may be read before the input
        "--slurpfile a f .",  # files are read at once, and may have changed by the time of the input
        "-f program",
        ". file",
        "--arg a -c . file",
        "-L lib 'import \"m\" as m; m::f'",
        "'include \"m\"; f'",
        "--unknown .",
        "--args . a",
    ],
)
def test_a_jq_that_does_something_before_its_input_comes_is_not(words: str) -> None:
    found = planned(f"kubectl get pod web -o json | jq {words}")
    assert found.feeds
    assert not found.ahead


def test_only_jq_is_known_to_wait_for_its_input() -> None:
    assert not planned("kubectl get pod web -o json | jq . | bash -c 'date; cat'").ahead
    assert not planned("kubectl get pod web -o json | jq . | cat .").ahead


AGES = "@watch: the ages in kubectl's table will be as old as the last change or resync (@every)"
NOW = "@watch: what jq makes of `now` will be as old as the last change or resync (@every)"


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("kubectl get pods", [AGES]),
        ("kubectl get pods --no-headers -o wide", [AGES]),
        ("kubectl get pods -o json | jq '{at: now}'", [NOW]),
        ("kubectl get pods -o json | jq . | jq -r '.x - now|floor'", [NOW]),
        ("kubectl get pods -o wide | jq -R 'now'", [AGES, NOW]),
        ("kubectl get pods -o name", []),
        ("kubectl get pods -o custom-columns=N:.metadata.name", []),
        ("kubectl get pods -o json | jq '.now, $now, snow, .x.nowhere'", []),
        ("kubectl get pods -o json | jq --arg now 1 --argjson now 2 '$now'", []),
        ("kubectl get pods -o json | grep now", []),
    ],
)
def test_check_warns_of_output_that_goes_stale_between_changes(line: str, texts: list[str]) -> None:
    assert planned(line).warnings == (*texts,)


def test_a_source_that_says_nothing_cannot_be_watched() -> None:
    silent = [Stage(("kubectl", "get", "pod", "web"), Position("LINE 1"), quiet=True)]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        plan(silent)
    assert str(caught.value) == (
        "what kubectl says is needed: that an object is gone, or a verb missing; leave 2>/dev/null out"
    )
