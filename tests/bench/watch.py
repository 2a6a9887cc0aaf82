"""A change in the cluster to the file, against the raw pipe: latency, CPU, and the cost of being idle."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.bed import Bed, cpu_so_far, report
from tests.bench.bed import memory as megabytes
from tests.harness.processes import children
from tests.harness.sidecar import Sidecar

CHANGES, IDLE_SECONDS, TASKS = 200, 30, 10
LINE = "@watch kubectl get configmap {} -o json | jq .data > {}"
RAW = (
    "kubectl get configmap --field-selector metadata.name={} -w --output-watch-events -o json --chunk-size=0"
    " | jq --unbuffered -c .object.data"
    " | while read -r line; do printf '%s\\n' \"$line\" > {}.tmp; mv {}.tmp {}; done"
)


class Writer:
    """Changes ConfigMaps over one connection that stays open."""

    def __init__(self, bed: Bed) -> None:
        plane = bed.namespace.control_plane
        context = ssl.create_default_context(cafile=str(plane.authority.certificate))
        admin = plane.directory / "admin"
        context.load_cert_chain(admin.with_suffix(".crt"), admin.with_suffix(".key"))
        self._connection = http.client.HTTPSConnection(plane.network.address, plane.port, context=context)
        self._path = f"/api/v1/namespaces/{bed.namespace.name}/configmaps"
        self._numbers = itertools.count(1)

    def create(self, name: str) -> None:
        self._request(
            "POST", self._path, {"metadata": {"name": name}, "data": {"n": "0"}}, "application/json"
        )

    def change(self, name: str) -> bytes:
        """Return what the new version has and no older one."""
        value = f"value-{next(self._numbers)}."
        body = {"data": {"n": value, "filler": "x" * 4000}}
        self._request("PATCH", f"{self._path}/{name}", body, "application/merge-patch+json")
        return value.encode()

    def _request(self, method: str, path: str, body: object, kind: str) -> None:
        self._connection.request(method, path, json.dumps(body), {"Content-Type": kind})
        answer = self._connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text


@contextlib.contextmanager
def raw_pipe(bed: Bed, name: str, output: Path) -> Iterator[int]:
    """The pipe that a user would write, without any of our promises; yields its process."""
    script = RAW.format(name, *[output] * 4)
    environment = dict(bed.environment(HOME=str(bed.scratch)))
    process = subprocess.Popen(["bash", "-c", script], env=environment, start_new_session=True)
    try:
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def seconds_until(output: Path, value: bytes) -> float:
    began = time.monotonic()
    while True:
        with contextlib.suppress(FileNotFoundError):
            if value in output.read_bytes():
                return time.monotonic() - began
        assert time.monotonic() - began < 10, f"{output} does not show {value!r}"
        time.sleep(0.0001)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def cpu_of_tree(pid: int) -> float:
    return sum(map(cpu_so_far, tree(pid)))


def p95(samples: Sequence[float]) -> float:
    return statistics.quantiles(samples, n=20)[-1]


def start(bed: Bed, *lines: str) -> Sidecar:
    directory = bed.scratch / f"outputs-{time.monotonic_ns()}"
    directory.mkdir()
    environment = bed.environment(HOME=str(bed.scratch))
    return bed.launcher(*lines, env=environment, output_directory=directory)


def latency(bed: Bed) -> None:
    """From the answered PATCH to the file, and the CPU that takes, in turn."""
    writer, output = Writer(bed), bed.scratch / "raw.json"
    writer.create("ours")
    writer.create("raw")
    sidecar = start(bed, LINE.format("ours", "ours.json"))
    sidecar.wait_for_output("ours.json")
    with raw_pipe(bed, "raw", output) as pipe:
        seconds_until(output, b"0")
        before = cpu_of_tree(sidecar.pid), cpu_of_tree(pipe)
        ours, theirs = [], []
        for _ in range(CHANGES):
            ours.append(1000 * seconds_until(sidecar.output("ours.json"), writer.change("ours")))
            time.sleep(0.02)
            theirs.append(1000 * seconds_until(output, writer.change("raw")))
            time.sleep(0.02)
        after = cpu_of_tree(sidecar.pid), cpu_of_tree(pipe)
    report("change to file, median", ours, {"the raw pipe": theirs})
    report("change to file, 95 %", [p95(ours)], {"the raw pipe": [p95(theirs)]})
    cpu = [(then - now) / CHANGES for now, then in zip(before, after, strict=True)]
    report("CPU of a change", [cpu[0]], {"the raw pipe": [cpu[1]]})
    sidecar.stop()


def idle(bed: Bed) -> None:
    """Memory of one watched task against the raw pipe, of ten on ten objects, and their CPU at rest."""
    writer, output = Writer(bed), bed.scratch / "raw.json"
    names = [f"idle-{number}" for number in range(TASKS)]
    for name in names:
        writer.create(name)
    with raw_pipe(bed, names[0], output) as pipe:
        seconds_until(output, b"0")
        theirs = sum(map(megabytes, tree(pipe)))
    one = start(bed, LINE.format(names[0], "one.json"))
    one.wait_for_output("one.json")
    ours = sum(map(megabytes, tree(one.pid)))
    one.stop()
    report("memory (PSS) of one watched task", [ours], {"the raw pipe": [theirs]}, "MB")
    many = start(bed, *(LINE.format(name, f"{name}.json") for name in names))
    for name in names:
        many.wait_for_output(f"{name}.json")
    time.sleep(5)
    everything = sum(map(megabytes, tree(many.pid)))
    print(f"each further watched task: {(everything - ours) / (TASKS - 1):.1f} MB")
    before = cpu_of_tree(many.pid)
    time.sleep(IDLE_SECONDS)
    used = (cpu_of_tree(many.pid) - before) / 10 / IDLE_SECONDS
    print(f"{TASKS} watched tasks at rest: {used:.2f} % of a core, kubectl's own included")
    many.stop()
