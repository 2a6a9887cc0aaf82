"""What `rbac` prints is enough, and no more than that; and `check --live` knows what will happen."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from kubectl_sidecar.kubectl import live
from kubectl_sidecar.kubectl.rule import PATHS, Rule
from kubectl_sidecar.process.pipeline import Launcher
from kubectl_sidecar.process.signals import Groups
from tests.harness import sidecar as harness
from tests.harness.access import RBAC, Namespace, ServiceAccount
from tests.harness.certificates import write_kubeconfig
from tests.harness.control_plane import ControlPlane
from tests.harness.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("kubectl-sidecar")
EXAMPLES = (
    "example.yaml",
    "examples/dashboards.yaml",
    "examples/env.yaml",
    "examples/once.yaml",
    "examples/task-file.yaml",
)
PAGES = ("README.md", "docs/directories.md", "docs/task-lines.md", "docs/watching.md")
# A task line as they show it.
SHOWN = re.compile(r"^ +(?:- '?)?((?:@.*)?kubectl get .*) > \S+$", re.MULTILINE)
NODE = "rbac-node"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# What is kept of each type in the table of the built-in ones.
KEYS = ("name", "singularName", "shortNames", "kind", "group", "namespaced", "categories")

# {ns} is the account's namespace, {other} another one, {files} a directory.
GET = """
kubectl get pod web db -o json | jq '.items | length'
kubectl get pod/web service/front
kubectl get pods,configmaps web
kubectl get svc,endpoints -o name
kubectl get secrets --field-selector=metadata.name==tls,type=Opaque -o name
kubectl get secrets -n {other} --field-selector metadata.name!=tls -o json
kubectl get cm -l app=web -o yaml
kubectl -n {other} get cm far -o jsonpath={{.metadata.name}}
kubectl get --namespace={other} pods --no-headers
kubectl get pods --namespace {other} -o custom-columns=NAME:.metadata.name --sort-by=.metadata.name
kubectl get pv,sc -o json
kubectl get no rbac-node -o wide
kubectl get ns {other} -o name
kubectl get crd widgets.zeta.example.com -o name
kubectl get clusterroles system:discovery system:basic-user -o json
kubectl get ValidatingWebhookConfiguration -o json
kubectl get ev --ignore-not-found=false -o json
kubectl get events.events.k8s.io -n {other} -o json
kubectl get ing.v1.networking.k8s.io -o json
kubectl get ingress.networking -n {other} -o json
kubectl get Deployment.v1.apps web -o name
kubectl get deploy.apps -n {other} -o json
kubectl get po.v1. web -o name
kubectl get jobs,cj -A -o json
kubectl get leases -A --field-selector metadata.name=leader -o json
kubectl get leases -n {other} --field-selector metadata.name=leader -o json
kubectl get deploy web --subresource=status -o json
kubectl get deploy web --subresource=scale -o json
kubectl get rc,limits,quota -o json | jq .kind | sort | uniq -c
kubectl get all -n {other} -o name
kubectl get -f {files}/some.yaml -o name
kubectl get -R -f {files}/more -f {files}/one.json -o name
"""
CUSTOM = """
kubectl get wd -o name
kubectl get widget wide -n {other} -o json
kubectl get gizmo small -o name
kubectl get widgets -o name
kubectl get widgets.zeta.example.com -A -o name
kubectl get widget wide --subresource=status -n {other} -o name
kubectl get podmetrics web -o json
kubectl top pod
kubectl top pod web -n {other} --containers
kubectl top pods -A --use-protocol-buffers=false
kubectl top node --no-headers
kubectl top no rbac-node --show-capacity
"""
RAW = """
kubectl get --raw /api/v1/namespaces/{ns}/serviceaccounts/sidecar | jq .kind
kubectl get --raw '/api/v1/namespaces/{ns}/replicationcontrollers?limit=5'
kubectl get --raw '/api/v1/namespaces/{other}/podtemplates?fieldSelector=metadata.name%3Dnone'
kubectl get --raw '/api/v1/namespaces/{ns}/secrets?watch=1&timeoutSeconds=1' | head -n 1
kubectl get --raw /apis/apps/v1/namespaces/{ns}/deployments/web/status
kubectl get --raw /api/v1/persistentvolumeclaims
kubectl get --raw /api/v1/namespaces/{ns}/status
kubectl get --raw /api/v1/nodes/rbac-node
kubectl get --raw '/metrics?x=y' | head -n 1
kubectl get --raw /livez/ping
kubectl get --raw /version
kubectl get --raw /apis/apps/v1
kubectl get --raw /openapi/v3 | jq '.paths | length'
"""
FREE = """
kubectl auth can-i create selfsubjectaccessreviews
kubectl auth whoami -o json | jq .kind
kubectl version -o json | jq .serverVersion.major
kubectl api-resources --namespaced=false -o name
kubectl api-versions | grep apps
date +%Y
"""
WATCHED = """
@watch kubectl get pod web -n {other} -o json | jq .metadata.name
@watch kubectl get deploy/web -o json | jq .kind
@watch kubectl get cm -o json | jq '.items | length'
@watch kubectl get svc front back -o json
@watch kubectl get rs -A -o json
@watch kubectl get sa --field-selector metadata.name=sidecar -o json
@watch kubectl get wd wide -n {other} -o json | jq .kind
@watch kubectl get ns -l kubernetes.io/metadata.name={other} -o name
"""

Json = dict[str, Any]


def custom_type(group: str, plural: str, kind: str, version: str = "v1", **more: Any) -> Json:  # noqa: ANN401
    names = {"plural": plural, "kind": kind, **more.get("names", {})}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": schema,
        "subresources": {"status": {}},
    }
    scope = more.get("scope", "Namespaced")
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {"group": group, "scope": scope, "names": names, "versions": [served]},
    }


CUSTOM_TYPES = [
    custom_type("zeta.example.com", "widgets", "Widget", names={"shortNames": ["wd"]}),
    # Of all widgets kubectl takes these, if nothing else is said: its groups are in order.
    custom_type("alpha.example.com", "widgets", "Gadget", names={"singular": "gizmo", "categories": ["all"]}),
    # Objects that stand for a metrics server.
    custom_type("metrics.k8s.io", "pods", "PodMetrics", "v1beta1"),
    custom_type("metrics.k8s.io", "nodes", "NodeMetrics", "v1beta1", scope="Cluster"),
]


class Right(NamedTuple):
    """What one entry of a rule allows."""

    namespace: str
    group: str
    resource: str
    name: str
    verb: str

    def rule(self) -> Rule:
        group = PATHS if self.resource.startswith("/") else self.group
        names = (self.name,) if self.name else ()
        return Rule(self.namespace, group, (self.resource,), names, (self.verb,))

    def covers(self, other: Right) -> bool:
        place, name = self.namespace or other.namespace, self.name or other.name
        return self._replace(namespace=place, name=name) == other


def rights(roles: Iterable[Json]) -> set[Right]:
    """All that Roles allow."""
    found = set()
    for role in roles:
        for rule in role["rules"]:
            found |= rights_of(rule, role["metadata"].get("namespace", ""))
    return found


def rights_of(rule: Json, namespace: str) -> set[Right]:
    return {
        Right(namespace, group, resource, name, verb)
        for group in rule.get("apiGroups", [""])
        for resource in rule.get("resources", []) + rule.get("nonResourceURLs", [])
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def drops(roles: Sequence[Json]) -> Iterator[tuple[str, list[Json]]]:
    """Yield the Roles without each rule, and without each entry of a rule that has several."""
    for r, role in enumerate(roles):
        for n, rule in enumerate(role["rules"]):
            less = deepcopy(list(roles))
            del less[r]["rules"][n]
            yield f"{rule}", less
            for key, entries in rule.items():
                for entry in entries if len(entries) > 1 else ():
                    less = deepcopy(list(roles))
                    less[r]["rules"][n][key].remove(entry)
                    yield f"{entry} of {rule}", less


class Row(NamedTuple):
    """A row of the table of `check --live`."""

    task: str
    allowed: str
    text: str
    right: Right


def rows(table: str) -> list[Row]:
    found = []
    pattern = r"(\S+) +(yes|no) +((\{.*\}) in (?:a Role in namespace (\S+)|a ClusterRole))"
    for line in table.partition("  RULE\n")[2].splitlines():
        match = re.fullmatch(pattern, line)
        assert match, line
        (right,) = rights_of(yaml.safe_load(match[4]), match[5] or "")
        found.append(Row(match[1], match[2], match[3], right))
    return found


@dataclass
class World:
    """Two namespaces with objects, and an account that runs the corpus."""

    control_plane: ControlPlane
    namespace: Namespace
    other: Namespace
    directory: Path
    lines: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.control_plane.admin_kubeconfig),
            "KUBECACHEDIR": str(self.directory / "cache"),
            "MYPOD": "web",
            "MYNODE": NODE,
            "MYNS": self.namespace.name,
            **more,
        }

    def call(self, *words: str, **environ: str) -> str:
        """What the program prints."""
        own = {name: value for name, value in self.environment(**environ).items() if value}
        done = subprocess.run([PROGRAM, *words], env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done}"
        return done.stdout

    def rbac(self, *lines: str, **environ: str) -> str:
        return self.call("rbac", "--service-account", f"{self.namespace.name}/sidecar", *lines, **environ)

    def account(self, name: str) -> ServiceAccount:
        """A service account without any rights."""
        path = f"/api/v1/namespaces/{self.namespace.name}/serviceaccounts"
        self.control_plane.request("POST", path, {"metadata": {"name": name}})
        directory = self.directory / name
        directory.mkdir()
        account = ServiceAccount(self.control_plane, self.namespace.name, name, directory)
        account.rotate_token()
        user = {"tokenFile": str(account.token_file)}
        write_kubeconfig(account.kubeconfig, self.control_plane.cluster, user, self.namespace.name)
        return account

    def bind(self, account: ServiceAccount, roles: Iterable[Json]) -> None:
        """Give an account Roles of its own that allow what these do."""
        for role in roles:
            kind, namespace = role["kind"], role["metadata"].get("namespace")
            path = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
            metadata = {"name": f"{account.namespace}-{account.name}"}
            subject = {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}
            role_ref = {"kind": kind, "name": metadata["name"], "apiGroup": "rbac.authorization.k8s.io"}
            binding = {"metadata": metadata, "subjects": [subject], "roleRef": role_ref}
            request = self.control_plane.request
            request("POST", f"{path}/{kind.lower()}s", {"metadata": metadata, "rules": role["rules"]})
            request("POST", f"{path}/{kind.lower()}bindings", binding)

    def wait_until_in_force(self, account: ServiceAccount, every: Iterable[Right]) -> None:
        """Wait for the API server's authorizer, which follows changes in order, a moment behind."""
        for right in every:
            wait_until(partial(self.allowed, account, right), what=f"{right} is not in force")

    def allowed(self, account: ServiceAccount, right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        attributes = {
            "namespace": right.namespace,
            "verb": right.verb,
            "group": right.group,
            "name": right.name,
        }
        target = {"resourceAttributes": {**attributes, "resource": resource, "subresource": subresource}}
        if right.resource.startswith("/"):
            target = {"nonResourceAttributes": {"path": right.resource, "verb": right.verb}}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        review = self.control_plane.request("POST", path, {"spec": {"user": account.user, **target}})
        return bool(review["status"]["allowed"])


def documented_lines() -> Iterator[str]:
    """The task lines of the documentation and of the examples."""
    for path in (*PAGES, *EXAMPLES):
        text = re.sub(r" *(?:\\|(\|))\n *", r" \1 ", Path(path).read_text())
        yield from SHOWN.findall(text)


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("rbac")
    made = World(
        control_plane, Namespace(control_plane, directory), Namespace(control_plane, directory), directory
    )
    create(control_plane, CUSTOM_TYPES)
    try:
        names = [kind["metadata"]["name"] for kind in CUSTOM_TYPES]
        control_plane.kubectl("wait", "--for=condition=Established", "crd", *names)
        populate(made)
        places = {"ns": made.namespace.name, "other": made.other.name, "files": directory}
        lines = [
            line.format(**places) for line in "".join((GET, CUSTOM, RAW, FREE, WATCHED)).split("\n") if line
        ]
        corpus = dict.fromkeys((*documented_lines(), *lines))
        made.lines = {f"{number:02}": line for number, line in enumerate(corpus)}
        yield made
    finally:
        # Other tests find what they are used to.
        control_plane.kubectl("delete", "crd", *names)


def create(control_plane: ControlPlane, objects: Iterable[Json]) -> None:
    control_plane.kubectl("create", "-f", "-", stdin="\n---\n".join(map(json.dumps, objects)))


def populate(world: World) -> None:
    """Make the objects that the corpus names."""
    ns, other = world.namespace, world.other
    for place, names in ((ns, ("web", "db")), (other, ("web",))):
        for name in names:
            place.create_pod(name, {"app": "demo-task-file"})
    world.control_plane.create_node(NODE)
    capacity = {"cpu": "1", "memory": "1Gi"}
    patch = json.dumps({"status": {"allocatable": capacity, "capacity": capacity}})
    ns.kubectl("patch", "node", NODE, "--subresource=status", "--patch", patch)
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "app", "image": "example.invalid/app"}]},
    }
    deployment = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    cpu = {"timestamp": "2026-01-01T00:00:00Z", "window": "30s", "usage": {"cpu": "10m", "memory": "1Mi"}}
    pod_metrics = {**cpu, "containers": [{"name": "app", "usage": cpu["usage"]}]}
    here, there = {"namespace": ns.name}, {"namespace": other.name}
    create(world.control_plane, [
        *(thing("apps/v1", "Deployment", name, here, spec=deployment) for name in ("web", "demo-task-file")),
        *(thing("v1", "Service", name, here, spec={"ports": [{"port": 80}]}) for name in ("front", "back")),
        thing("v1", "ConfigMap", "web", {**here, "labels": {"app": "web"}}),
        thing("v1", "ConfigMap", "far", there),
        thing("v1", "Secret", "tls", here, data={"tls.key": "a2V5"}),
        thing("zeta.example.com/v1", "Widget", "near", here),
        thing("zeta.example.com/v1", "Widget", "wide", there),
        thing("alpha.example.com/v1", "Gadget", "small", here),
        thing("metrics.k8s.io/v1beta1", "PodMetrics", "web", here, **pod_metrics),
        thing("metrics.k8s.io/v1beta1", "PodMetrics", "web", there, **pod_metrics),
        thing("metrics.k8s.io/v1beta1", "NodeMetrics", NODE, {}, **cpu),
    ])  # fmt: skip
    files = world.directory
    (files / "more/deep").mkdir(parents=True)
    some = [thing("v1", "ConfigMap", "far", there), thing("zeta.example.com/v1", "Widget", "wide", there)]
    (files / "some.yaml").write_text(yaml.safe_dump_all(some))
    (files / "more/deep/a.yaml").write_text(yaml.safe_dump(thing("apps/v1", "Deployment", "web", {})))
    one = {"apiVersion": "v1", "kind": "List", "items": [thing("v1", "Service", "back", {})]}
    (files / "one.json").write_text(json.dumps(one))


def thing(version: str, kind: str, name: str, metadata: Json, **fields: Any) -> Json:  # noqa: ANN401
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, **fields}


def test_what_it_prints_is_enough_and_no_more_and_live_knows_what_will_happen(
    world: World, sidecar: harness.Launcher
) -> None:
    assert len(world.lines) >= 60
    assert len({*documented_lines()}) >= 9
    tasks = [f"{line} > {name}" for name, line in world.lines.items()]
    printed = world.rbac(*tasks)
    assert printed == world.rbac(*tasks)
    account = world.account("sidecar")
    world.control_plane.kubectl("apply", "-f", "-", stdin=printed)
    roles = [document for document in yaml.safe_load_all(printed) if document["kind"].endswith("Role")]
    world.wait_until_in_force(account, rights(roles))

    needed = check_enough(world, account, tasks, sidecar)
    check_minimal(world, roles, needed, sidecar)


def check_enough(
    world: World, account: ServiceAccount, tasks: list[str], sidecar: harness.Launcher
) -> list[Row]:
    """Run the tasks as an account that may do what was printed; return what `check --live` says of them."""
    needed = rows(world.call("check", "--live", "--as", f"{account.namespace}/{account.name}", *tasks))
    assert {row.allowed for row in needed} == {"yes"}
    mark = world.control_plane.audit_mark()
    run = sidecar(
        "--every",
        "1h",
        "--concurrency",
        "4",
        *tasks,
        account=account,
        env=world.environment(KUBECONFIG=str(account.kubeconfig)),
    )
    for name in world.lines:
        # Not its output: a failure is to be seen at once.
        assert "first success" in run.wait_for_log(f" {name}: (first success|failed)", timeout=60)
    watched = {row.right for row in needed if row.right.verb == "watch"}

    def watches() -> bool:
        requests = world.control_plane.requests_since(mark, account.user)
        assert [request for request in requests if request.status == 403] == []
        return len({(it.resource, it.namespace, it.name) for it in requests if it.verb == "watch"}) >= len(
            watched
        )

    wait_until(watches, timeout=30)
    assert run.stop() == 0
    assert not run.log_lines("failed|cannot be watched")
    requests = world.control_plane.requests_since(mark, account.user)
    assert [request for request in requests if request.status == 403] == []
    return needed


class Drop(NamedTuple):
    """Something that an account lacks, and a task that is to fail for that."""

    what: str
    account: ServiceAccount
    line: str
    is_watched: bool
    rights: set[Right]
    """That the task needs."""
    lost: set[Right]

    @property
    def name(self) -> str:
        return self.account.name


def check_minimal(world: World, roles: list[Json], needed: list[Row], sidecar: harness.Launcher) -> None:
    """Without any rule or entry some task fails, for the reason that `check --live` has said."""
    every = [prepare(world, number, drop, roles, needed) for number, drop in enumerate(drops(roles))]
    last = world.account("last")
    world.bind(last, roles)
    world.wait_until_in_force(last, rights(roles))
    cluster = live.Cluster(Launcher(Groups(), 0, 1 << 20, None), world.environment(), 30.0)
    with ThreadPoolExecutor(2) as threads:
        found = zip(every, threads.map(lambda drop: missing_by_live(cluster, drop), every), strict=True)
        missing = {drop.name: rules for drop, rules in found}
    watched = [drop for drop in every if drop.is_watched]
    polled = [drop for drop in every if not drop.is_watched]
    options = ("--concurrency", "4", "--status-file", world.directory / "status")
    once = sidecar("--once", "--deadline", "1ms", *options, *map(task_of, polled), env=world.environment())
    watching = sidecar("--every", "1h", *options[:2], *map(task_of, watched), env=world.environment())
    assert once.process.wait(120) == 1
    for drop in polled:
        (said,) = once.log_lines(f" {drop.name}: failed: ")
        assert said_rule(said) in missing[drop.name], drop.what
    for drop in watched:
        said = watching.wait_for_log(f" {drop.name}: it cannot be watched", timeout=60)
        assert said_rule(said) in missing[drop.name], drop.what
    assert watching.stop() == 0


def prepare(
    world: World, number: int, dropped: tuple[str, list[Json]], roles: list[Json], needed: list[Row]
) -> Drop:
    """Make an account that lacks something, and find a task that needs it."""
    what, less = dropped
    left = rights(less)
    lost = rights(roles) - left
    affected = [
        row
        for row in needed
        if any(right.covers(row.right) for right in lost)
        and not any(right.covers(row.right) for right in left)
    ]
    assert affected, f"no task needs {what}"
    row = min(affected, key=lambda row: "@watch" in world.lines[row.task])
    line = world.lines[row.task]
    is_watched = "@watch" in line and row.right.verb != "get"
    if not is_watched:
        line = line.replace("@watch", "")  # as it is done while the watch is down
    rights_of_task = {other.right for other in needed if other.task == row.task}
    places = {right.namespace for right in rights_of_task} | {""}
    account = world.account(f"drop-{number}")
    world.bind(account, [role for role in less if role["metadata"].get("namespace", "") in places])
    return Drop(what, account, line, is_watched, rights_of_task, lost)


def task_of(drop: Drop) -> str:
    kubectl = f"kubectl --kubeconfig={drop.account.kubeconfig} "
    return f"{drop.line.replace('kubectl ', kubectl, 1)} > {drop.name}"


def missing_by_live(cluster: live.Cluster, drop: Drop) -> set[str]:
    """Return the rules that are missing by what `check --live` asks."""
    account = drop.account.namespace, drop.name
    missing = {right for right in drop.rights if not cluster.allows(right.rule(), account)}
    assert all(any(lost.covers(right) for lost in drop.lost) for right in missing), drop.what
    return {right.rule().with_place() for right in missing}


def said_rule(line: str) -> str:
    found = re.search(r"\(missing rule: (.*?)\)", line)
    assert found, line
    return found[1]


def offline(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `rbac` where there is no cluster."""
    environ = {"PATH": os.environ["PATH"], "KUBECONFIG": "/dev/null", **environ}
    return subprocess.run([PROGRAM, "rbac", *words], env=environ, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("tools")
def test_without_a_cluster_it_knows_the_built_in_types() -> None:
    done = offline("kubectl get po > a", KUBECTL_SIDECAR_SERVICE_ACCOUNT="shop/app")
    assert done.returncode == 0
    comment, _, manifests = done.stdout.partition("\n")
    assert comment.startswith(
        "# the types of objects are the built-in ones: no cluster can be asked (kubectl exited with 1: "
    )
    assert manifests.startswith("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n")
    done = offline("--service-account=a/b", "kubectl get wd,po > a", "kubectl get gizmo > b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[::3] == [
        f"LINE {number}:1:1: `{word}` is not built into Kubernetes 1.37,"
        " and no cluster can be asked: run this where one is"
        for number, word in ((1, "wd"), (2, "gizmo"))
    ]


@pytest.mark.usefixtures("tools")
def test_what_it_cannot_judge_is_a_comment_and_a_failure_unless_that_is_allowed() -> None:
    words = ("--service-account=shop/app", "kubectl get pods | bash -c cat > a", "date > b")
    done = offline(*words)
    comments = [line for line in done.stdout.splitlines()[1:] if line.startswith("#")]
    assert comments == ["# a: what `bash` needs is not known: it may ask the cluster for anything"]
    assert done.returncode == 1
    allowed = offline("--allow-unknown", *words)
    assert (allowed.returncode, allowed.stdout) == (0, done.stdout)
    nothing = offline("--service-account=shop/app", "date > b")
    assert (nothing.returncode, nothing.stdout.splitlines()[1:]) == (0, ["# no rule is needed"])


@pytest.mark.usefixtures("tools")
def test_roles_of_two_accounts_of_one_name_do_not_meet() -> None:
    line = "kubectl get pods,nodes -n shop > a"
    names = {}
    for account in ("shop/app", "other/app"):
        printed = yaml.safe_load_all(offline("--service-account", account, line).stdout)
        names[account] = {(each["kind"], each["metadata"]["name"]) for each in printed if "rules" in each}
    assert names == {
        "shop/app": {("Role", "app"), ("ClusterRole", "shop:app")},
        "other/app": {("Role", "other:app"), ("ClusterRole", "other:app")},
    }


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "error: --service-account NAMESPACE/NAME is required"),
        (("--service-account=app",), "`app` is not NAMESPACE/NAME of a service account"),
    ],
)
def test_bad_flags(words: tuple[str, ...], text: str) -> None:
    done = offline(*words, "date > a")
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith(text)


@pytest.mark.parametrize("path", EXAMPLES)
@pytest.mark.usefixtures("tools")
def test_the_roles_of_the_examples_are_what_it_prints(path: str, tmp_path: Path) -> None:
    """Without a cluster, and without the variables that a Pod has."""
    documents = [*yaml.safe_load_all(Path(path).read_text())]
    name = next(each["metadata"]["name"] for each in documents if each["kind"] == "ServiceAccount")
    texts = [each["data"].get("tasks", "") for each in documents if each["kind"] == "ConfigMap"]
    pods = [each["spec"]["template"]["spec"] for each in documents if "template" in each.get("spec", {})]
    lines = [word for pod in pods for word in pod["initContainers"][0].get("args", ()) if " > " in word]
    (tmp_path / "tasks").write_text("\n".join([*texts, *lines]))
    printed = offline("--service-account", f"default/{name}", "--name", name, "-f", tmp_path / "tasks")
    assert roles_of(documents) == roles_of(yaml.safe_load_all(printed.stdout))


@pytest.mark.usefixtures("tools")
def test_the_roles_beside_the_component_are_what_the_command_in_them_prints() -> None:
    text = Path("examples/component/rbac.yaml").read_text()
    command, _, shown = text.partition("\n")
    printed = offline(*shlex.split(command.removeprefix("# kubectl-sidecar rbac ")))
    assert shown == printed.stdout.partition("\n")[2]


def roles_of(documents: Iterable[Json]) -> dict[str, Json]:
    """Roles and bindings by their kinds, in one form: `default` is the namespace where none is named."""
    found = {}
    for each in documents:
        if each["apiVersion"].startswith("rbac."):
            each["metadata"].pop("namespace", None)
            for subject in each.get("subjects", ()):
                subject.setdefault("namespace", "default")
            found[each["kind"]] = each
    return found


def test_the_documentation_shows_what_it_prints(world: World) -> None:
    page = Path("docs/permissions.md").read_text()
    shown = re.findall(r"^    \$ kubectl-sidecar (rbac .*)\n((?:    .*\n)+)", page, re.MULTILINE)
    assert shown
    for words, output in shown:
        printed = world.call(*shlex.split(words), MYPOD="", MYNODE="", MYNS="")
        assert printed == textwrap.dedent(output)


def test_the_table_of_built_in_types_is_that_of_the_pinned_server(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    order = {
        group["name"]: number for number, group in enumerate(control_plane.request("GET", "/apis")["groups"])
    }
    custom = {item["spec"]["group"] for item in control_plane.request("GET", CRDS)["items"]}
    listed = json.loads(control_plane.kubectl("api-resources", "--output=json"))["resources"]
    resources = [
        {key: each[key] for key in KEYS if key in each}
        for each in sorted(listed, key=lambda each: order.get(each.get("group"), -1))
        if {"get", "list"} & set(each["verbs"]) and each.get("group") not in custom
    ]
    version = control_plane.request("GET", "/version")
    lines = ",\n".join(map(json.dumps, resources))
    fresh = f'{{"version": "{version["major"]}.{version["minor"]}", "resources": [\n{lines}\n]}}\n'
    (tmp_path / "types.json").write_text(fresh)
    table = Path(live.__file__).with_name("types.json")
    assert table.read_text() == fresh, f"cp {tmp_path}/types.json {table}"
