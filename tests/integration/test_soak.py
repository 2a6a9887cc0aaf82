"""Thousands of refreshes, good and bad: what they need stays what it was."""

from __future__ import annotations

import re
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

# Five tasks a round. sh leaves cycles behind, of which Python's collector keeps a level after 800 pipelines.
WARM_UP, ROUNDS = 200, 300
TASKS = (
    "date +%N > clock-1",
    "date +%s.%N | cat > clock-2",
    "bash -c 'echo $EPOCHREALTIME >&2; echo $EPOCHREALTIME' | head -c 3 | cat > same",
    "bash -c 'sleep 1000 & (( RANDOM % 2 )) || exit 1; echo $RANDOM' > orphan",
    "@every 1s kubectl version --client -o json | jq -c '[now, .clientVersion.gitVersion]' > kubectl",
)


@dataclass(frozen=True)
class Needs:
    """What a process needs."""

    memory: int
    """KiB that are its own; how much of what it shares counts (PSS) depends on who else runs."""
    descriptors: int
    threads: int
    zombies: int


def needs(run: Sidecar) -> Needs:
    proc = Path(f"/proc/{run.pid}")
    dirty = re.search(r"^Private_Dirty:\s+(\d+) kB", (proc / "smaps_rollup").read_text(), re.MULTILINE)
    assert dirty
    return Needs(
        int(dirty[1]),
        len(list((proc / "fd").iterdir())),
        len(list((proc / "task").iterdir())),
        len(run.zombies()),
    )


def refresh(run: Sidecar, times: int) -> None:
    """All tasks at once, and again when one of the slowest is done."""
    done = len(run.log_lines("clock-2: "))
    for count in range(done + 1, done + 1 + times):
        run.send(signal.SIGUSR1)
        run.wait_for_log("clock-2: changed", count=count - 1)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_thousands_of_refreshes_leave_nothing_behind(sidecar: Launcher) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # an emptyDir in memory
        # As in the image: each thread that allocates has an arena of its own otherwise.
        env = {"MALLOC_ARENA_MAX": "1"}
        run = sidecar("--every", "1h", *TASKS, output_directory=Path(name), env=env)
        run.wait_for_log("clock-2: first success")
        refresh(run, WARM_UP)
        before = at_rest(run)
        refresh(run, ROUNDS)
        after = at_rest(run)
        assert after.memory < before.memory + 1024, f"{before} {after}"
        assert (after.descriptors, after.threads, after.zombies) == (before.descriptors, before.threads, 0)
        assert run.log_lines("orphan: recovered")
        assert run.stop() == 0


def at_rest(run: Sidecar) -> Needs:
    """What it needs when no stage runs."""

    def resting() -> Needs:
        found = needs(run)
        assert not run.children()
        assert found == needs(run)
        return found

    return wait_until(resting)
