"""Once things are quiet, a watched output is what bash makes of the line without @watch."""

from __future__ import annotations

import os
import random
import subprocess

from tests.harness.access import Namespace, rule
from tests.harness.configmap import ConfigMap
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until

ROUNDS, CHANGES = 4, 8
# What is fed by a watch, and what is only triggered by one.
LINES = [
    "kubectl get configmap web -o json | jq .data",
    "kubectl get cm/web -ojson | jq -r .data.n",
    "kubectl get configmaps.v1. web --output=json | jq -S .",
    "kubectl --request-timeout=5s get configmap web -o=json | jq -c '.metadata | keys'",
    "kubectl get configmap web -o json | jq --tab -e '.data | select(.n)' | jq -r '.n | length'",
    "kubectl get configmap web -o json | jq -s length",
    "kubectl get configmap web -o json | jq -n '[inputs.data.n]'",
    "kubectl get configmap web -o json | jq -R . | tail -3",
    "kubectl get configmap web -o json | jq -r 'input_line_number'",
    "kubectl get configmap web -o json | jq .data.n | tr -d '\"' | sed 's/^/n=/'",
    "kubectl get configmap web -o json --show-managed-fields | jq '.metadata.managedFields | length'",
    "kubectl get configmap web -o json",
    "kubectl get configmap web -o yaml | grep -v creationTimestamp",
    "kubectl get configmap web -o jsonpath={.metadata.name}={.data.n}",
    "kubectl get configmap web other -o json | jq '[.items[].data]'",
    "kubectl get configmaps -l app=web -o json | jq '[.items[] | {(.metadata.name): .data}] | add'",
    "kubectl get configmaps -o custom-columns=NAME:.metadata.name,N:.data.n --no-headers",
    "kubectl get configmaps --sort-by=.data.n -o name",
    "kubectl get configmap web -o json --ignore-not-found | jq -n '[inputs.data]'",
]
VALUES = ["0", "1", "", "9007199254740993", "1.000", "1e2", "ä ☃ \U0001f980", "two\nlines"]
VALUES += ['"quoted" \\', "<&>", "x" * 70_000]


class World:
    """Three ConfigMaps, changed at random: the same way each time."""

    def __init__(self, namespace: Namespace) -> None:
        self._web, self._other, self._third = (
            ConfigMap(namespace, name) for name in ("web", "other", "third")
        )
        self._dice, self._third_exists = random.Random(3), False  # noqa: S311
        self._web.create(n="0")
        self._other.create(n="1")

    def change(self) -> None:
        self._dice.choice([self._put, self._put, self._put, self._recreate, self._put_other, self._toggle])()

    def _value(self) -> str:
        return self._dice.choice(VALUES)

    def _put(self) -> None:
        self._web.put(n=self._value(), more=self._value())

    def _recreate(self) -> None:
        self._web.delete()
        self._web.create(n=self._value())

    def _put_other(self) -> None:
        self._other.put(n=self._value())

    def _toggle(self) -> None:
        (self._third.delete if self._third_exists else self._third.create)()
        self._third_exists = not self._third_exists


def test_a_watched_output_is_what_bash_makes_of_the_line(namespace: Namespace, sidecar: Launcher) -> None:
    world = World(namespace)
    account = namespace.service_account(rule("get list watch", "configmaps"))
    run = sidecar(*(f"@watch {line} > {i}" for i, line in enumerate(LINES)), account=account)
    environment = {**os.environ, "HOME": str(namespace.directory), "KUBECONFIG": str(account.kubeconfig)}

    def by_bash(line: str) -> bytes:
        script = ["bash", "-o", "pipefail", "-c", line]
        return subprocess.run(script, env=environment, capture_output=True, check=True).stdout

    def same() -> None:
        for i, line in enumerate(LINES):
            expected = by_bash(line)
            assert run.output(str(i)).exists(), line
            assert run.output(str(i)).read_bytes() == expected, line

    wait_until(same, timeout=20)
    for _ in range(ROUNDS):
        for _ in range(CHANGES):
            world.change()
        wait_until(same, timeout=20)
    assert run.stop() == 0
