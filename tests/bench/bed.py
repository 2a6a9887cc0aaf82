"""What a measurement needs: a Pod to ask about, an account that may, and what a process has used."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.harness.access import Namespace, ServiceAccount, rule
from tests.harness.sidecar import Launcher

POD = "web"
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Bed:
    """One throwaway cluster, for all measurements of a run."""

    namespace: Namespace
    launcher: Launcher
    scratch: Path

    @cached_property
    def account(self) -> ServiceAccount:
        self.namespace.create_pod(POD)
        rules = rule("get list watch", "pods"), rule("get list watch", "configmaps")
        return self.namespace.service_account(*rules, name="bench")

    def environment(self, **more: str) -> Mapping[str, str]:
        """That of a Pod's container: nothing writable at home, so no cache, unless said otherwise."""
        home = {
            "HOME": "/proc",  # where not even root can make a directory
            "KUBECONFIG": str(self.account.kubeconfig),
            "PATH": os.environ["PATH"],
        }
        return {**home, "MYNS": self.namespace.name, "MYPOD": POD, **more}


def report(what: str, ours: Sequence[float], theirs: Mapping[str, Sequence[float]], unit: str = "ms") -> None:
    """Print medians, and the ratio of ours to each of theirs."""
    median = statistics.median(ours)
    print(f"{what}: {median:.1f} {unit}")
    for name, samples in theirs.items():
        other = statistics.median(samples)
        print(f"    {median / other:5.2f} times {name} ({other:.1f} {unit})", flush=True)


def cpu_of(command: Sequence[str | Path], environment: Mapping[str, str]) -> float:
    """Milliseconds of CPU, user and system, of a command and all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=dict(environment), check=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def cpu_so_far(pid: int) -> float:
    """Milliseconds of CPU that a process and its children that have ended have used; proc(5), in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * sum(map(int, fields[11:15])) / TICK


def memory(pid: int, key: str = "Pss") -> float:
    """Megabytes of smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Measure each once a round, so that what else the machine does falls on all of them alike."""
    samples: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for measure, own in zip(measures, samples, strict=True):
            own.append(measure())
    return samples
