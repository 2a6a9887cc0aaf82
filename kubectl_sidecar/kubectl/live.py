"""Ask kubectl, and through it the cluster: which types there are, and what an account may do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.kubectl import kubeconfig
from kubectl_sidecar.kubectl.rbac import Types
from kubectl_sidecar.kubectl.rule import PATHS, Rule
from kubectl_sidecar.kubectl.stderr import failure, one_line
from kubectl_sidecar.process.pipeline import Ended, Launcher, Stop

_NOT_SERVED = "is no type of objects that the cluster knows"
_NOT_BUILT_IN = "is not built into Kubernetes {}, and no cluster can be asked: run this where one is"
_OBJECT = r'jsonpath={.apiVersion}{"\t"}{.kind}{"\t"}{.metadata.namespace}{"\t"}{.metadata.name}{"\n"}'


def built_in_types() -> Types:
    """Return the types of the Kubernetes that our kubectl belongs to."""
    with open(f"{os.path.dirname(__file__)}/types.json", encoding="utf-8") as file:
        table = json.load(file)
    return Types(table["resources"], _NOT_BUILT_IN.format(table["version"]))


class Cluster:
    """The cluster that kubectl reaches from here. Everything raises RefreshFailed when it cannot be asked."""

    def __init__(self, launcher: Launcher, environ: Mapping[str, str], timeout: float) -> None:
        """`timeout`: the seconds that one answer may take."""
        self._launcher = launcher
        self._timeout = timeout
        self._problem = kubeconfig.problem(environ)
        cache = f"{launcher.directory}/kubectl" if launcher.directory else None
        self._environment = kubeconfig.stage_environment(environ, launcher.memory_file, cache)

    def types(self) -> Types:
        """Return the types of objects that the cluster knows."""
        groups = json.loads(self._answer("get", "--raw=/apis"))["groups"]
        order = {group["name"]: number for number, group in enumerate(groups)}
        # Where an aggregated API server does not answer, kubectl fails, and prints the others.
        resources = json.loads(self._answer("api-resources", "--output=json", may_fail=True))["resources"]
        return Types(sorted(resources, key=lambda it: order.get(it.get("group"), -1)), _NOT_SERVED)

    def namespace(self) -> str:
        """Return the namespace that is meant where none is named."""
        view = ("config", "view", "--minify", "--output=jsonpath={.contexts[0].context.namespace}")
        _, output = self._run(view)
        return output.decode() or "default"

    def allows(self, rule: Rule, account: tuple[str, str] | None) -> bool:
        """Tell whether a service account, by its namespace and name, may do this; None: whether we may.

        The rule is for one verb of one resource, and one name at most.
        """
        (resource,), (verb,), words = rule.resources, rule.verbs, ["auth", "can-i"]
        if rule.group != PATHS:
            plural, _, subresource = resource.partition("/")
            resource = "/".join([f"{plural}.{rule.group}".removesuffix("."), *rule.names])
            words += [f"--subresource={subresource}"]
        words += [verb, resource, f"--namespace={rule.namespace}" if rule.namespace else "--all-namespaces"]
        words += [f"--as=system:serviceaccount:{account[0]}:{account[1]}"] if account else []
        # It exits with 1 for a no as for an error.
        return self._answer(*words, may_fail=True).startswith(b"yes")

    def read_files(self, flags: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        """Yield KIND.VERSION.GROUP, namespace and name of each object in files; raises ValueError."""
        words = ("label", "--local", "--overwrite", f"--output={_OBJECT}", *flags, "read=yes")
        ended, output = self._run(words)
        if ended.statuses != (0,) or not output:
            raise ValueError(one_line(ended.stderrs[0]) or "there is no object to be read")
        for line in output.decode().splitlines():
            version, kind, namespace, name = line.split("\t")
            group, _, version = version.rpartition("/")
            yield f"{kind}.{version}.{group}", namespace, name

    def _answer(self, *words: str, may_fail: bool = False) -> bytes:
        """Return what a kubectl says; with `may_fail` also when it fails, if it says anything."""
        if self._problem:
            raise RefreshFailed(self._problem)
        ended, output = self._run(words)
        if ended.why == "timeout":
            raise RefreshFailed(f"kubectl {words[0]} had not ended after {self._timeout:g} s")
        if ended.statuses != (0,) and not (may_fail and output):
            raise failure(ended)
        return output

    def _run(self, words: Sequence[str]) -> tuple[Ended, bytes]:
        return self._launcher.run([("kubectl", *words)], self._environment, Stop(), self._timeout)
