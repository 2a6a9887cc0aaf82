"""One refresh against the bash loop: CPU, time to the first file, memory, and that nothing grows."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.bench.bed import Bed, cpu_of, cpu_so_far, in_turn, report
from tests.bench.bed import memory as megabytes
from tests.harness.sidecar import Sidecar
from tests.harness.waiting import wait_until

LINE = 'kubectl -n "$MYNS" get pod "$MYPOD" -o json | jq .status > {}'
ROUNDS, BATCH = 30, 10


def _status(sidecar: Sidecar) -> Any:  # noqa: ANN401 - it is JSON
    # The private document: one in the volume as well would be one more to write.
    document = next(sidecar.output_directory.glob("*/kubectl-sidecar-*/status.json"))
    return json.loads(document.read_text())["tasks"][0]


def _refresh(sidecar: Sidecar) -> None:
    before = _status(sidecar)["lastSuccess"]
    sidecar.send(signal.SIGUSR1)
    wait_until(lambda: _status(sidecar)["lastSuccess"] != before, what="not refreshed", interval=0.002)


def _start(bed: Bed, *lines: str, every: str = "1h") -> Sidecar:
    directory = bed.scratch / f"outputs-{time.monotonic_ns()}"
    private = directory / "private"
    private.mkdir(parents=True)
    env = bed.environment(TMPDIR=str(private))
    return bed.launcher("--every", every, *lines, env=env, output_directory=directory)


def cpu(bed: Bed) -> None:
    """CPU of one refresh, children included, per refresh of a batch: proc(5) counts in ticks of 10 ms."""
    sidecar = _start(bed, LINE.format("ours.json"))
    sidecar.wait_for_output("ours.json")

    def ours() -> float:
        before = cpu_so_far(sidecar.pid)
        for _ in range(BATCH):
            _refresh(sidecar)
        return (cpu_so_far(sidecar.pid) - before) / BATCH

    loop = f"for i in $(seq {BATCH}); do {LINE.format(bed.scratch / 'bash.json')}; done"

    def bash(**more: str) -> float:
        return cpu_of(["bash", "-c", loop], bed.environment(**more)) / BATCH

    cached = {"HOME": str(bed.scratch)}
    mine, plain, with_cache = in_turn(ROUNDS, ours, bash, lambda: bash(**cached))
    theirs = {
        "the bash loop as its manifest runs it": plain,
        "the bash loop with a writable HOME": with_cache,
    }
    report("CPU of one refresh", mine, theirs)
    sidecar.stop()


def start(bed: Bed) -> None:
    """From the start of the process to its first file, and of the bare pipeline to its end."""

    def ours() -> float:
        began = time.monotonic()
        sidecar = _start(bed, LINE.format("first.json"))
        wait_until(sidecar.output("first.json").exists, interval=0.001)
        took = time.monotonic() - began
        sidecar.stop()
        return 1000 * took

    def bare() -> float:
        began = time.monotonic()
        command = LINE.format(bed.scratch / "bare.json")
        subprocess.run(["bash", "-c", command], env=dict(bed.environment()), check=True)
        return 1000 * (time.monotonic() - began)

    mine, theirs = in_turn(15, ours, bare)
    report("start to first file", mine, {"the bare pipeline": theirs})


def memory(bed: Bed) -> None:
    """The supervisor with two idle tasks."""
    sidecar = _start(bed, LINE.format("one.json"), LINE.format("two.json"))
    sidecar.wait_for_output("one.json")
    sidecar.wait_for_output("two.json")
    sizes = ", ".join(
        f"{key} {megabytes(sidecar.pid, key):.1f} MB" for key in ("Pss", "Rss", "Private_Dirty")
    )
    print(f"supervisor with two idle tasks: {sizes}", flush=True)
    sidecar.stop()


def flat(bed: Bed) -> None:
    """Two thousand refreshes, a tenth of them failing: what the supervisor holds before and after."""
    counting = "bash -c 'echo $RANDOM$RANDOM$RANDOM; exit $((RANDOM % 10 == 0))' | cat > {}"
    sidecar = _start(bed, *(counting.format(f"{name}.txt") for name in "ab"), every="1ms")

    def refreshed(times: int) -> bool:
        return len(sidecar.log_lines("changed|success|recovered")) >= times

    for times in (200, 2200):
        wait_until(functools.partial(refreshed, times), 300, interval=0.5)
        print(f"after {times} refreshes: {_held(sidecar)}", flush=True)
    sidecar.stop()


def _held(sidecar: Sidecar) -> str:
    process = Path(f"/proc/{sidecar.pid}")
    counts = {
        "threads": len(list((process / "task").iterdir())),
        "descriptors": len(list((process / "fd").iterdir())),
    }
    held = ", ".join(f"{count} {name}" for name, count in counts.items())
    return f"Pss {megabytes(sidecar.pid):.1f} MB, {held}, {len(sidecar.zombies())} zombies"
