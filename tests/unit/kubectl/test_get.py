"""The command line of `kubectl get` is read as kubectl reads it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from kubectl_sidecar.errors import Position
from kubectl_sidecar.kubectl import get as module
from kubectl_sidecar.kubectl.get import Get, invoked, take_apart
from kubectl_sidecar.task import Stage
from tests.unit.kubectl.running import run

HELP = ("get --help", "top pod --help", "top node --help", "options")
RENEW = """what the pinned kubectl's help says is new:
    cp {} {}
Does a new flag say who is asked, by whom or for what? It belongs to WHO_AND_WHERE or _KEPT in get.py."""


def get(words: str, *, expanded: bool = False) -> Get:
    return take_apart(Stage(tuple(shlex.split(f"kubectl {words}")), Position("tasks"), expanded))


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("get pod -ojson", {"output": "json"}),
        ("get pod -o=json", {"output": "json"}),
        ("get pod --output json", {"output": "json"}),
        ("get pod --output=yaml --output=json", {"output": "json"}),
        ("get pod -Aojson", {"all-namespaces": "true", "output": "json"}),
        ("get pod -A=false", {"all-namespaces": "false"}),
        ("get pod --show_labels false", {"show-labels": "true"}),
        ("-v6 -n ns get pod", {"v": "6", "namespace": "ns"}),
        ("get pod -l -x", {"selector": "-x"}),
        ("get --raw /api", {"raw": "/api"}),
        ("get -f a.yaml --subresource=status", {"filename": "a.yaml", "subresource": "status"}),
        ("get pod -- -o json", {}),
    ],
)
def test_flags_are_read_by_the_rules_of_pflag(words: str, flags: dict[str, str]) -> None:
    assert get(words).flags == flags


def test_what_is_no_flag_is_kept_in_order_from_the_verb_on() -> None:
    assert get("-n ns get --show-labels pod a -o json b").words == ["get", "pod", "a", "b"]
    assert get("get pod - -- -x").words == ["get", "pod", "-", "-x"]


def test_what_says_whom_to_ask_for_what_is_kept_as_words() -> None:
    kept = get("-n ns get pod --as-group=a --as-group b -A -o json --request-timeout=1s").kept
    assert kept == ["--namespace=ns", "--as-group=a", "--as-group=b", "--all-namespaces=true"]


def test_a_switch_is_on_when_go_says_so() -> None:
    assert get("get pod -A").is_on("all-namespaces")
    assert get("get pod -A=T").is_on("all-namespaces")
    assert not get("get pod -A=0").is_on("all-namespaces")
    assert not get("get pod").is_on("all-namespaces")


@pytest.mark.parametrize(
    ("words", "objects"),
    [
        ("pods", [("pods", None)]),
        ("pods,svc", [("pods", None), ("svc", None)]),
        ("pod a b", [("pod", "a"), ("pod", "b")]),
        ("pods,svc a", [("pods", "a"), ("svc", "a")]),
        ("pod/a node/b", [("pod", "a"), ("node", "b")]),
        ("pod ''", [("pod", "")]),
    ],
)
def test_types_and_names(words: str, objects: list[tuple[str, str | None]]) -> None:
    assert get(f"get {words}").objects() == objects


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("get -o json", "expected a type of objects after get"),
        ("get pod/web node", "expected TYPE NAME or TYPE/NAME after get"),
        ("get pod/web/x", "expected TYPE NAME or TYPE/NAME after get"),
    ],
)
def test_what_is_no_types_and_names(words: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        get(words).objects()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("get pods --foo=1", "what kubectl's flag --foo means is not known"),
        ("get pods -oz -x", "what kubectl's flag -x means is not known"),
        ("get pods -n", "expected a value after --namespace"),
        ("get pods --output", "expected a value after --output"),
    ],
)
def test_flags_that_are_not_known_or_lack_their_value_are_refused(words: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        get(words)


def test_a_flag_from_the_environment_is_not_shown() -> None:
    with pytest.raises(ValueError, match=r"^what kubectl's flag means is not known$"):
        get("get pods --secret", expanded=True)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("/usr/bin/kubectl get pods", "kubectl get"),
        ("kubectl -n ns --context=c --as me -v 6 logs web --tail=5", "kubectl logs"),
        ("kubectl --insecure_skip_tls_verify get pods", "kubectl get"),
        ("kubectl --foo get pods", "kubectl"),  # who knows whether "get" is its value
        ("kubectl --foo=get pods", "kubectl pods"),
        ("kubectl - get pods", "kubectl get"),
        ("kubectl -- get pods", "kubectl"),
        ("kubectl -n", "kubectl"),
        ("bash -c 'kubectl get pods'", "bash"),
    ],
)
def test_the_command_is_found_among_flags(line: str, what: str) -> None:
    assert invoked(shlex.split(line)) == what


@pytest.mark.usefixtures("tools")
def test_the_table_of_flags_is_that_of_the_pinned_kubectl(tmp_path: Path) -> None:
    long_names: dict[str, str] = {}
    is_switch: dict[str, bool] = {}
    for words in HELP:
        ended, output = run(("kubectl", *words.split()))
        assert ended.statuses == (0,)
        shown = re.findall(r"^ +(?:-(\w), )?--([\w-]+)=(.*):$", output.decode(), re.MULTILINE)
        assert shown, words
        long_names |= {letter: name for letter, name, _ in shown if letter}
        is_switch |= {name: default in ("true", "false") for _, name, default in shown}
    fresh = json.dumps({"long_names": long_names, "is_switch": is_switch}, indent=1, sort_keys=True) + "\n"
    (tmp_path / "flags.json").write_text(fresh)
    table = Path(module.__file__).with_name("flags.json")
    assert table.read_text() == fresh, RENEW.format(tmp_path / "flags.json", table)
