"""The rbac command: print the Roles that the tasks need, no more."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from kubectl_sidecar.cli import flags
from kubectl_sidecar.cli.check import loader
from kubectl_sidecar.cli.live import all_needs, cluster
from kubectl_sidecar.errors import RefreshFailed, visible
from kubectl_sidecar.kubectl.live import built_in_types
from kubectl_sidecar.kubectl.rbac import merged
from kubectl_sidecar.kubectl.rule import Rule
from kubectl_sidecar.process.pipeline import Launcher

_DESCRIPTION = """\
Print the Roles, ClusterRoles and bindings that the tasks need, and no more,
for kubectl apply -f -.

Types of objects are looked up in the cluster or, where there is none, in a
table of the built-in ones. A variable that is not set here is no problem: it
stands for any name, or the service account's namespace."""
_EPILOG = """\
exit status:
  0  all is known
  1  what a stage needs is not; a comment says which
  2  bad flags or tasks"""
_GROUP = "rbac.authorization.k8s.io"
_BINDING = """\
roleRef:
  apiGroup: {group}
  kind: {kind}
  name: {role}
subjects:
- kind: ServiceAccount
  name: {name}
  namespace: {namespace}
"""


def main(words: Sequence[str], environ: Mapping[str, str], launcher: Launcher) -> int:
    """Print the manifests; return the exit status."""
    parser = flags.parser("rbac", _DESCRIPTION, _EPILOG)
    settings = flags.settings(parser, words, environ, {"": flags.RBAC_FLAGS})
    if settings.service_account is None:
        parser.error("--service-account NAMESPACE/NAME is required")
    tasks = loader(replace(settings, allow_unset=True), environ, launcher).load()
    comments: list[str] = []
    with cluster(settings, environ, launcher) as asked:
        try:
            types = asked.types()
        except RefreshFailed as error:
            types = built_in_types()
            comments.append(f"the types of objects are the built-in ones: no cluster can be asked ({error})")
        found = all_needs(tasks, types, settings.service_account[0], asked)
    for task, needs in zip(tasks, found, strict=True):
        comments += [f"{task.output}: {text}" for text in (*needs.notes, *needs.unknown)]
    rules = merged(rule for needs in found for rule in needs.rules)
    if not rules:
        comments.append("no rule is needed")
    print("".join(f"# {visible(comment)}\n" for comment in comments), end="")
    print("---\n".join(_manifests(rules, settings.service_account, settings.name)), end="")
    return int(any(needs.unknown for needs in found) and not settings.allow_unknown)


def _manifests(rules: Iterable[Rule], account: tuple[str, str], name: str | None) -> Iterator[str]:
    """Yield the text of each object; the rules are sorted by namespace."""
    home, subject = map(json.dumps, account)
    for namespace, together in groupby(rules, key=lambda rule: rule.namespace):
        # Elsewhere than in the account's own namespace, another account of that name may have a Role.
        called = json.dumps(name or (account[1] if namespace == account[0] else ":".join(account)))
        kind = "Role" if namespace else "ClusterRole"
        place = f"  namespace: {json.dumps(namespace)}\n" if namespace else ""
        role = "rules:\n" + "".join(f"- {rule}\n" for rule in together)
        binding = _BINDING.format(group=_GROUP, kind=kind, role=called, name=subject, namespace=home)
        for end, content in (("", role), ("Binding", binding)):
            head = f"apiVersion: {_GROUP}/v1\nkind: {kind}{end}\nmetadata:\n  name: {called}\n{place}"
            yield head + content
