"""What polling and watching cost the API server, and from that what example.yaml costs in a whole cluster."""

from __future__ import annotations

import itertools
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubectl_sidecar.kubectl.kubeconfig import stage_environment, watch_environment
from tests.bench.bed import Bed
from tests.bench.watch import Writer
from tests.harness.waiting import wait_until

NAME, ROUNDS, REST_SECONDS = "api", 7, 5
POLLS, WATCHES, CHANGES = 40, 150, 40
PING_SECONDS = "HTTP2_READ_IDLE_TIMEOUT_SECONDS"
GET = ("kubectl", "get", "configmap", NAME, "-o", "json")
# One line an event; what the API server sends is the same as for JSON.
WATCH = ("kubectl", "get", "configmap", f"--field-selector=metadata.name={NAME}", "--watch", "-o", "name")

# The table: both tasks of example.yaml in so many Pods, polled and watched with the default periods.
PODS, TASKS, POLL_SECONDS, RESYNC_SECONDS = (1_000, 10_000), 2, 30, 600
# A kubelet reports a Node that has not changed this often; the status of a Pod that runs hardly ever changes.
CHANGE_SECONDS = 300


@dataclass(frozen=True)
class Costs:
    """Milliseconds of CPU of the API server, and bytes of its memory."""

    poll: float
    uncached_poll: float
    # With the list that it begins with: each resync is one.
    start: float
    watch_second: float
    event: float
    watch_bytes: float


class Meter:
    """CPU and memory of the API server."""

    def __init__(self, bed: Bed) -> None:
        self._plane = bed.namespace.control_plane

    def rest(self) -> float:
        """Milliseconds in a second in which nothing is asked."""
        return statistics.median(self._rest() for _ in range(2 * ROUNDS))

    def cpu(self, action: Callable[[], object]) -> float:
        """Milliseconds of an action, beyond those at rest, which are measured anew each time."""
        samples = []
        for _ in range(ROUNDS):
            rest, began = self._rest(), time.monotonic()
            used = self._used(action)
            samples.append(used - rest * (time.monotonic() - began))
        return statistics.median(samples)

    def _rest(self) -> float:
        return self._used(lambda: time.sleep(REST_SECONDS)) / REST_SECONDS

    def memory(self) -> int:
        """Bytes of heap and stacks that are in use."""
        for _ in range(2):  # the second collection frees what pools have kept over the first
            text = self._plane.request("GET", "/debug/pprof/heap?gc=1&debug=1")
        return sum(map(int, re.findall(r"^# (?:HeapAlloc|Stack) = (\d+)", text, re.MULTILINE)))

    def _used(self, action: Callable[[], object]) -> float:
        before = self._so_far()
        action()
        return self._so_far() - before

    def _so_far(self) -> float:
        """By the scheduler's nanoseconds: at rest there are few of proc(5)'s ticks of 10 ms."""
        threads = Path(f"/proc/{self._plane.api_server.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


class Watches:
    """kubectls that watch, each with a connection of its own, and how often they have been told something."""

    def __init__(self, bed: Bed, environ: Mapping[str, str], count: int) -> None:
        self.count = count
        self._said = bed.scratch / "events"
        self._said.write_bytes(b"")
        with self._said.open("ab") as out:
            self._kubectls = [subprocess.Popen(WATCH, env=environ, stdout=out) for _ in range(count)]
        self.wait_for(1)

    def wait_for(self, times: int) -> None:
        def told() -> bool:
            return self._said.read_bytes().count(b"\n") >= times * self.count

        wait_until(told, 300, f"not {times} events for each of {self.count} watches", interval=0.1)

    def end(self) -> None:
        for kubectl in self._kubectls:
            kubectl.kill()
            kubectl.wait()


def api(bed: Bed) -> None:
    """CPU of kube-apiserver for a poll, a watch and an event, memory for a watch, and the table."""
    costs = measure(bed)
    print(f"a poll: {costs.poll:.2f} ms, without a discovery cache {costs.uncached_poll:.2f} ms")
    print(
        f"a watch: {costs.start:.2f} ms to start it, {costs.watch_second:.4f} ms a second at rest,", end=" "
    )
    print(f"{costs.watch_bytes / 1024:.0f} KB of memory")
    print(f"an event: {costs.event:.3f} ms")
    print(*table(costs), sep="\n", flush=True)


def measure(bed: Bed) -> Costs:
    meter = Meter(bed)
    Writer(bed).create(NAME)
    # As the program starts its kubectls; and as the bash loop does, with nowhere to keep a cache.
    cached = stage_environment(bed.environment(), os.memfd_create, str(bed.scratch / "kubectl-cache"))
    watching = watch_environment(cached)
    poll(cached, 1)
    polled = meter.cpu(lambda: poll(cached)) / POLLS
    uncached = meter.cpu(lambda: poll(bed.environment())) / POLLS
    started = meter.cpu(lambda: Watches(bed, watching, POLLS).end()) / POLLS
    unheard = meter.cpu(lambda: change(bed))
    rest, memory = meter.rest(), meter.memory()
    # At rest there are only kubectl's pings: they come more often here, to be seen among all else.
    watches = Watches(bed, {**watching, PING_SECONDS: "1"}, WATCHES)
    second = (meter.rest() - rest) / WATCHES / int(watching[PING_SECONDS])
    grown = (meter.memory() - memory) / WATCHES
    told = itertools.count(1 + CHANGES, CHANGES)

    def deliver() -> None:
        change(bed)
        watches.wait_for(next(told))

    event = (meter.cpu(deliver) - unheard) / (WATCHES * CHANGES)
    watches.end()
    return Costs(polled, uncached, started, second, event, grown)


def poll(environ: Mapping[str, str], count: int = POLLS) -> None:
    """At the same time, as those of a large cluster's Pods are, and as the watches are started."""
    kubectls = [subprocess.Popen(GET, env=environ, stdout=subprocess.DEVNULL) for _ in range(count)]
    assert not any(kubectl.wait() for kubectl in kubectls)


def change(bed: Bed) -> None:
    writer = Writer(bed)  # a connection that is not used for minutes is closed
    for _ in range(CHANGES):
        writer.change(NAME)
        time.sleep(0.05)


def table(costs: Costs) -> list[str]:
    """What both tasks of example.yaml in many Pods cost the API server, in Markdown."""
    watched = costs.start / RESYNC_SECONDS + costs.watch_second + costs.event / CHANGE_SECONDS
    rows = (
        ("polled, without a discovery cache", 3 / POLL_SECONDS, costs.uncached_poll / POLL_SECONDS, 0.0),
        ("polled", 1 / POLL_SECONDS, costs.poll / POLL_SECONDS, 0.0),
        ("watched", 2 / RESYNC_SECONDS, watched, costs.watch_bytes),
    )
    lines = ["| Pods | tasks | requests a second | CPU cores | memory |", "|---|---|---|---|---|"]
    for pods in PODS:
        tasks = pods * TASKS
        for how, requests, milliseconds, size in rows:
            memory = f"{tasks * size / 2**30:.2f} GB" if size else "-"
            cells = f"{tasks * requests:,.0f}", f"{tasks * milliseconds / 1000:.2f}", memory
            lines.append(f"| {pods:,} | {how} | {' | '.join(cells)} |")
    return lines
