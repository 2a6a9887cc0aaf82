"""From task lines to the rules that they need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_sidecar.errors import Position
from kubectl_sidecar.kubectl.live import Cluster, built_in_types
from kubectl_sidecar.kubectl.rbac import Needs, Types, merged, needs
from kubectl_sidecar.kubectl.rule import PATHS, Rule
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.process.pipeline import Launcher
from kubectl_sidecar.process.signals import Groups
from kubectl_sidecar.task import Settings, Stage, Task
from tests.harness.certificates import write_kubeconfig
from tests.unit.kubectl import answers
from tests.unit.kubectl.running import run

WIDGETS = [
    {"name": "widgets", "singularName": "gizmo", "kind": "Gadget", "group": "alpha.io", "namespaced": True},
    {"name": "widgets", "singularName": "widget", "kind": "Widget", "group": "beta.io", "namespaced": True,
     "shortNames": ["wd", "po"]},
]  # fmt: skip


def task(line: str, environ: Mapping[str, str]) -> Task:
    loader = Loader(Settings(lines=(f"{line} > f",), allow_unset=True), environ, lambda _: (0, ""))
    (loaded,) = loader.load()
    return loaded


def files(flags: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    if flags != ["--filename=a.yaml", "--filename=b.yaml", "--recursive=true"]:
        raise ValueError(" ".join(flags))
    yield "Pod.v1.", "", "web"
    yield "Deployment.v1.apps", "shop", "app"


@pytest.fixture(scope="module")
def types() -> Types:
    built_in = built_in_types()
    return Types([*built_in.resources, *WIDGETS], built_in.otherwise)


@pytest.fixture
def environ(tools: object) -> dict[str, str]:  # noqa: ARG001 (on PATH)
    return {"PATH": os.environ["PATH"]}


def shown(found: Needs) -> list[str]:
    """Rules in short: `get pods/log web @shop`; @ alone is everywhere."""
    return [" ".join((",".join(rule.verbs), *resources(rule), *rule.names, f"@{rule.namespace}"))
            for rule in merged(found.rules)]  # fmt: skip


def resources(rule: Rule) -> list[str]:
    return [f"{it}.{rule.group}".removesuffix("./").strip(".") for it in rule.resources]


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ("get pod web", ["get pods web @ns"]),
        ("get pod/web deploy/app", ["get pods web @ns", "get deployments.apps app @ns"]),
        ("get pod web db", ["get pods db web @ns"]),
        ("get pods,svc", ["list pods services @ns"]),
        ("get pods,svc web", ["get pods services web @ns"]),
        ("get pods -l app=web", ["list pods @ns"]),
        ("get pods -n shop", ["list pods @shop"]),
        ("-n a get pods --namespace=shop", ["list pods @shop"]),
        ("get pods -A", ["list pods @"]),
        ("get pods -A=false -n ''", ["list pods @ns"]),
        ("get nodes -n shop", ["list nodes @"]),
        ("get no n1", ["get nodes n1 @"]),
        ("get ns", ["list namespaces @"]),
        ("get ns shop", ["get namespaces shop @shop"]),
        ("get pods --field-selector metadata.name=web", ["list pods web @ns"]),
        ("get pods --field-selector=spec.nodeName=n,metadata.name==web", ["list pods web @ns"]),
        (r"get pods --field-selector 'metadata.name=a\,b'", ["list pods a,b @ns"]),
        ("get pods --field-selector metadata.name!=web", ["list pods @ns"]),
        ("get pods --field-selector spec.metadata.name=web", ["list pods @ns"]),
        ("get deploy web --subresource=scale", ["get deployments/scale.apps web @ns"]),
        ("get deployments.v1.apps", ["list deployments.apps @ns"]),
        ("get Deployment.apps", ["list deployments.apps @ns"]),
        ("get ingress.networking", ["list ingresses.networking.k8s.io @ns"]),
        ("get ev", ["list events @ns"]),
        ("get events.events.k8s.io", ["list events.events.k8s.io @ns"]),
        ("get po.v1.", ["list pods @ns"]),
        ("get widgets", ["list widgets.alpha.io @ns"]),
        ("get widget", ["list widgets.beta.io @ns"]),
        ("get wd", ["list widgets.beta.io @ns"]),
        ("get Gadget", ["list widgets.alpha.io @ns"]),
        ("get po", ["list pods @ns"]),
        ("get -f a.yaml -f b.yaml -R", ["get pods web @ns", "get deployments.apps app @shop"]),
        ("top pod", ["list pods.metrics.k8s.io @ns"]),
        ("top po web --containers", ["get pods.metrics.k8s.io web @ns"]),
        ("top pods -A --sum", ["list pods.metrics.k8s.io @"]),
        ("top pod --field-selector=metadata.name=web", ["list pods web @ns", "list pods.metrics.k8s.io @ns"]),
        ("top node", ["list nodes @", "list nodes.metrics.k8s.io @"]),
        ("top no n1", ["get nodes n1 @", "get nodes.metrics.k8s.io n1 @"]),
        ("get --raw /metrics?x=y", ["get /metrics @"]),
        ("get --raw /livez/ping", ["get /livez/ping @"]),
        ("get --raw /logs/", ["get /logs/ @"]),
        ("get --raw /api/v1/namespaces/shop/pods/web/log?tailLines=1", ["get pods/log web @shop"]),
        ("get --raw /api/v1/namespaces/shop/pods", ["list pods @shop"]),
        ("get --raw '/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dweb&watch=1'",
         ["watch pods web @shop"]),
        ("get --raw /api/v1/watch/namespaces/shop/pods/web", ["watch pods web @shop"]),
        ("get --raw /api/v1/pods?watch=true", ["watch pods @"]),
        ("get --raw /api/v1/namespaces/shop", ["get namespaces shop @shop"]),
        ("get --raw /api/v1/namespaces/shop/status", ["get namespaces/status shop @shop"]),
        ("get --raw /api/v1/namespaces", ["list namespaces @"]),
        ("get --raw /apis/alpha.io/v1/namespaces/shop/widgets/w", ["get widgets.alpha.io w @shop"]),
        ("get --raw /api/v1/namespaces/shop/services/http:web:80/proxy/a/b",
         ["get services/proxy http:web:80 @shop"]),
        *((f"get --raw {path}", []) for path in ("/version", "/api", "/apis/apps/v1", "/livez", "/openapi")),
        *((words, []) for words in ("version", "api-resources", "auth can-i get pods -q", "auth whoami")),
    ],
)  # fmt: skip
def test_what_kubectl_is_told_says_which_rules_it_needs(
    types: Types, environ: Mapping[str, str], words: str, rules: list[str]
) -> None:
    found = needs(task(f"kubectl {words} | jq .", environ), types, "ns", files)
    assert (shown(found), found.notes, found.unknown) == (rules, [], [])


@pytest.mark.parametrize(
    ("words", "rules"),
    [
        ("get pod web -o json | jq .", ["get,list,watch pods web @ns"]),
        ("get pod web", ["get,list,watch pods web @ns"]),
        ("get pods", ["list,watch pods @ns"]),
        ("get pod web db", ["list,watch pods @ns", "get pods db web @ns"]),
        ("get pods -l a=b -n shop", ["list,watch pods @shop"]),
        ("get pods --field-selector metadata.name=web", ["list,watch pods web @ns"]),
        ("get nodes -A", ["list,watch nodes @"]),
        ("get ns shop", ["list,watch namespaces shop @", "get namespaces shop @shop"]),
    ],
)
def test_what_is_watched_is_listed_and_watched_as_well(
    types: Types, environ: Mapping[str, str], words: str, rules: list[str]
) -> None:
    assert shown(needs(task(f"@watch kubectl {words}", environ), types, "ns", files)) == rules


@pytest.mark.parametrize(
    ("line", "rules", "notes"),
    [
        ("kubectl get pod $POD", ["get pods @ns"], ["$POD is not set here: the rule is for any name"]),
        (
            'kubectl get "pod/web-${POD}"',
            ["get pods @ns"],
            ["${POD} is not set here: the rule is for any name"],
        ),
        (
            "kubectl get pod web -n $NS",
            ["get pods web @ns"],
            ["$NS is not set here: the namespace ns is taken"],
        ),
        ("kubectl get ns $NS", ["get namespaces @"], ["$NS is not set here: the rule is for any name"]),
        ("kubectl get pods -l a=$A", ["list pods @ns"], []),
        ("kubectl get pod ${POD:-web}", ["get pods web @ns"], []),
        ("kubectl get pod '$POD'", ["get pods $POD @ns"], []),
        (
            "kubectl get --raw /api/v1/namespaces/$NS/pods/$POD",
            ["get pods @ns"],
            [
                "$NS is not set here: the namespace ns is taken",
                "$POD is not set here: the rule is for any name",
            ],
        ),
    ],
)
def test_a_variable_that_is_not_set_stands_for_any_name_or_the_accounts_namespace(
    types: Types, environ: Mapping[str, str], line: str, rules: list[str], notes: list[str]
) -> None:
    found = needs(task(line, environ), types, "ns", files)
    assert (shown(found), found.notes, found.unknown) == (rules, notes, [])


def test_a_variable_that_is_set_is_as_good_as_its_value(types: Types, environ: dict[str, str]) -> None:
    found = needs(
        task("kubectl get pod $POD -n $NS", {**environ, "POD": "web", "NS": "shop"}), types, "", files
    )
    assert (shown(found), found.notes) == (["get pods web @shop"], [])


ANYTHING = "it may ask the cluster for anything"
ONLY = "only kubectl get and kubectl top are understood"
ELSEWHERE = "makes it ask as somebody else, or somewhere else"


@pytest.mark.parametrize(
    ("line", "shown", "reason"),
    [
        ("bash -c 'kubectl get pods'", "`bash`", ANYTHING),
        ("echo a | curl x", "`curl`", ANYTHING),
        ("kubectl logs web", "`kubectl logs`", ONLY),
        ("kubectl auth reconcile -f x", "`kubectl auth`", ONLY),
        ("kubectl version --as=root", "`kubectl version`", ONLY),
        ("kubectl get pods --as=root", "`kubectl get`", f"--as {ELSEWHERE}"),
        ("kubectl --context c get pods", "`kubectl get`", f"--context {ELSEWHERE}"),
        ("kubectl get pods --nope", "`kubectl get`", "what kubectl's flag --nope means is not known"),
        ("kubectl get -f c.yaml", "`kubectl get`", "--filename=c.yaml"),
        ("kubectl get", "`kubectl get`", "expected a type of objects after get"),
        (
            "kubectl top",
            "`kubectl top`",
            "expected kubectl top pod or kubectl top node, and one name at most",
        ),
        ("kubectl get $T", "a stage", "$T is not set here"),
        ("kubectl get $T,pod web", "a stage", "$T is not set here"),
        ("kubectl get -f $T", "a stage", "$T is not set here"),
        ("kubectl get --raw $P", "a stage", "$P is not set here"),
        ("kubectl get --raw /apis/$G/v1/pods", "a stage", "$G is not set here"),
        ("kubectl get pod a --subresource $S", "a stage", "$S is not set here"),
        ("kubectl $V pods", "a stage", ONLY),
        ("$P get pods", "a stage", ANYTHING),
    ],
)
def test_what_cannot_be_judged_is_said_and_never_guessed(
    types: Types, environ: Mapping[str, str], line: str, shown: str, reason: str
) -> None:
    found = needs(task(line, environ), types, "ns", files)
    assert (found.rules, found.unknown) == (set(), [f"what {shown} needs is not known: {reason}"])


def test_a_hook_needs_what_its_stages_do(types: Types, environ: Mapping[str, str]) -> None:
    found = needs(
        task("@on-change 'kubectl get pod web | kill 1' kubectl get node a", environ), types, "ns", files
    )
    assert (shown(found), found.unknown) == (["get nodes a @", "get pods web @ns"], [])
    found = needs(
        task("@watch @on-change 'kubectl exec web x' kubectl get pods", environ), types, "ns", files
    )
    assert shown(found) == ["list,watch pods @ns"]
    assert found.unknown == [f"what `kubectl exec` needs is not known: {ONLY}"]
    assert not needs(task("@on-change http://h/ kubectl get pods", environ), types, "ns", files).unknown


def test_what_a_variable_holds_is_not_shown_where_it_cannot_be_judged(
    types: Types, environ: Mapping[str, str]
) -> None:
    secret = {**environ, "S": "hunter2"}
    assert needs(task("kubectl $S", secret), types, "ns", files).unknown == [
        "what a stage needs is not known: only kubectl get and kubectl top are understood"
    ]
    (problem,) = needs(task('kubectl get "$S"', secret), types, "ns", files).problems
    assert problem.text.startswith("the type of objects is not built into Kubernetes")


def test_a_type_that_is_not_built_in_is_a_problem_with_a_way_out(
    types: Types, environ: Mapping[str, str]
) -> None:
    (problem,) = needs(task("kubectl get pods,foos.example.com", environ), types, "ns", files).problems
    assert str(problem).splitlines()[0] == (
        "LINE 1:1:1: `foos.example.com` is not built into Kubernetes 1.37, and no cluster can be asked:"
        " run this where one is"
    )


def test_a_category_is_all_its_types(types: Types, environ: Mapping[str, str]) -> None:
    found = shown(needs(task("kubectl get all,cm -n shop", environ), types, "ns", files))
    assert found == [
        "list configmaps pods replicationcontrollers services @shop",
        "list daemonsets.apps deployments.apps replicasets.apps statefulsets.apps @shop",
        "list horizontalpodautoscalers.autoscaling @shop",
        "list cronjobs.batch jobs.batch @shop",
    ]


FLAGS = (
    "-n",
    "--raw",
    "--subresource=",
    "--field-selector=metadata.name=",
    "-A",
    "-f",
    "-o",
    "--",
    "-k.",
    "--as",
)
WORDS = (
    "get",
    "top",
    "pod",
    "no",
    "all",
    "a",
    "",
    "pod/a",
    "pods,svc",
    "a.b.c",
    "/api/v1/watch",
    "/apis//",
    "$A",
)


@pytest.mark.slow
@given(
    st.lists(
        st.sampled_from((*FLAGS, *WORDS)) | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    )
)
def test_whatever_the_words_are_there_is_an_answer(types: Types, words: list[str]) -> None:
    where = Position("f")
    stage = Stage(("kubectl", *words), where, unset=frozenset(range(0, 9, 2)))
    plain = Task((stage,), "f", 1.0, 1.0, 0, "keep", None, None, True, False, where, where)
    assert not any("\0" in str(rule) for rule in merged(needs(plain, types, "ns", files).rules))


def one(namespace: str, resource: str, name: str, verb: str, group: str = "") -> Rule:
    return Rule(namespace, group, (resource,), (name,) if name else (), (verb,))


@pytest.mark.parametrize(
    ("asked", "rules"),
    [
        ([one("a", "pods", "x", "get"), one("a", "pods", "y", "get")],
         [Rule("a", "", ("pods",), ("x", "y"), ("get",))]),
        ([one("a", "pods", "x", "get"), one("a", "pods", "", "get")],
         [Rule("a", "", ("pods",), (), ("get",))]),
        ([one("a", "pods", "x", "get"), one("", "pods", "", "get")],
         [Rule("", "", ("pods",), (), ("get",))]),
        ([one("a", "pods", "x", "get"), one("", "pods", "x", "get")],
         [Rule("", "", ("pods",), ("x",), ("get",))]),
        ([one("a", "pods", "", "get"), one("", "pods", "x", "get")],
         [Rule("", "", ("pods",), ("x",), ("get",)), Rule("a", "", ("pods",), (), ("get",))]),
        ([one("a", "pods", "", "list"), one("a", "svc", "", "list"), one("a", "svc", "", "watch")],
         [Rule("a", "", ("pods",), (), ("list",)), Rule("a", "", ("svc",), (), ("list", "watch"))]),
        ([one("a", "pods", "x", "get"), one("a", "svc", "x", "get")],
         [Rule("a", "", ("pods", "svc"), ("x",), ("get",))]),
        ([one("", "nodes", "", "get"), one("", "/a", "", "get", PATHS), one("", "/b", "", "get", PATHS)],
         [Rule("", "", ("nodes",), (), ("get",)), Rule("", PATHS, ("/a", "/b"), (), ("get",))]),
        ([one("a", "pods", "", "get"), one("a", "pods", "", "get", "metrics.k8s.io")],
         [Rule("a", "", ("pods",), (), ("get",)), Rule("a", "metrics.k8s.io", ("pods",), (), ("get",))]),
    ],
)  # fmt: skip
def test_rules_are_merged_only_where_that_allows_nothing_more(asked: list[Rule], rules: list[Rule]) -> None:
    assert merged(asked) == rules
    assert merged(reversed(asked)) == rules


def test_a_rule_is_text_for_a_role() -> None:
    assert Rule("shop", "apps", ("deployments",), ("a", 'b"'), ("get", "list")).with_place() == (
        '{apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["a", "b\\""], '
        'verbs: ["get", "list"]} in a Role in namespace shop'
    )
    assert Rule("", PATHS, ("/metrics",), (), ("get",)).with_place() == (
        '{nonResourceURLs: ["/metrics"], verbs: ["get"]} in a ClusterRole'
    )


@pytest.mark.slow
def test_types_are_known_while_an_aggregated_server_does_not_answer(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = {"groupVersion": "broken.example.com/v1", "version": "v1"}
    groups = [{"name": "broken.example.com", "versions": [version], "preferredVersion": version}]
    monkeypatch.setitem(answers._DISCOVERY, "/apis", {"kind": "APIGroupList", "groups": groups})  # noqa: SLF001
    with answers.serving() as server:
        server.answers = {"v1": answers.status(503, "ServiceUnavailable", "nobody is there")}
        write_kubeconfig(tmp_path / "config", {"server": f"http://{server.address}"}, {})
        around = {**environ, "KUBECONFIG": str(tmp_path / "config"), "KUBECACHEDIR": str(tmp_path / "cache")}
        ended, _ = run(("kubectl", "api-resources", "--output=json"), environment=around)
        assert ended.statuses == (1,)
        cluster = Cluster(Launcher(Groups(), 0, 1 << 20, None), around, 20.0)
        assert [each["kind"] for each in cluster.types().find("pods")] == ["Pod"]


@pytest.mark.slow
def test_what_is_in_files_is_read_by_kubectl(environ: dict[str, str], tmp_path: Path) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}}
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "wide"}}
    objects = {"apiVersion": "v1", "kind": "List", "items": [pod, widget]}
    (tmp_path / "some.json").write_text(json.dumps(objects))
    (tmp_path / "bad.json").write_text("{")
    cluster = Cluster(Launcher(Groups(), 0, 1 << 20, None), {**environ, "KUBECONFIG": "/dev/null"}, 20.0)
    read = list(cluster.read_files([f"--filename={tmp_path}/some.json"]))
    assert read == [("Pod.v1.", "shop", "web"), ("Widget.v1.example.com", "", "wide")]
    for name, text in (
        ("bad.json", "error parsing"),
        ("none.json", "does not exist"),
        ("-", "there is no object to be read"),
    ):
        with pytest.raises(ValueError, match=text):
            list(cluster.read_files([f"--filename={tmp_path / name if name != '-' else name}"]))
