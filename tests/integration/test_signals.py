"""The end, wherever it comes: at once, in order, with nothing left behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until

# Longer than any of these tests waits for an end: a child that needs the grace makes its test fail.
PATIENT = ("--grace", "60s")
DEAF = "bash -c 'trap \"\" TERM; echo > {ready}; while :; do sleep 1000; done' > output"


@contextlib.contextmanager
def silent_server() -> Iterator[socket.socket]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        yield server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_nothing_happens(sidecar: Launcher, number: signal.Signals) -> None:
    run = sidecar("--every", "1h", "echo > output")
    run.wait_for_output("output")
    assert run.stop(number) == 0
    assert run.log_lines(f"info stopping: {number.name}$")


def test_in_a_backoff(sidecar: Launcher) -> None:
    run = sidecar("false > output")
    run.wait_for_log("4 times")
    assert run.stop() == 0


def test_while_kubectl_hangs(sidecar: Launcher) -> None:
    with silent_server() as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        run = sidecar(*PATIENT, f"kubectl --server {address} get pods -o json | jq . > output")
        connection, _ = server.accept()
        assert run.stop() == 0
        connection.close()


def test_while_a_stage_runs_with_grandchildren(sidecar: Launcher, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    run = sidecar(*PATIENT, f"bash -c 'sleep 1000 & sleep 1000 & echo > {ready}; wait' | cat > output")
    wait_until(ready.exists)
    assert run.stop() == 0


def test_a_stage_that_does_not_listen_gets_the_grace_and_no_more(sidecar: Launcher, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    run = sidecar("--grace", "200ms", DEAF.format(ready=ready))
    wait_until(ready.exists)
    assert run.stop() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_without_grace(
    sidecar: Launcher, tmp_path: Path, second: signal.Signals
) -> None:
    ready = tmp_path / "ready"
    run = sidecar(*PATIENT, DEAF.format(ready=ready))
    wait_until(ready.exists)
    run.send(signal.SIGTERM)
    run.wait_for_log("stopping: SIGTERM")
    run.send(second)
    assert run.wait() == 128 + second
    wait_until(lambda: not run.children(), what="something is left behind")


def test_ctrl_c_reaches_its_group_and_counts_once(sidecar: Launcher, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f'trap "echo orderly > {ready}.end" TERM; echo > {ready}; sleep 1000 & wait'
    run = sidecar(*PATIENT, f"bash -c '{script}' > output")
    wait_until(ready.exists)
    os.killpg(run.pid, signal.SIGINT)  # what a terminal does
    assert run.wait() == 0
    assert Path(f"{ready}.end").read_text() == "orderly\n"
    assert run.children() == {}


@pytest.mark.parametrize("pid_1", [False, True])
def test_while_it_reads_its_tasks(sidecar: Launcher, tmp_path: Path, pid_1: bool) -> None:
    fifo = tmp_path / "tasks"
    os.mkfifo(fifo)
    run = sidecar("--file", fifo, isolation=Isolation(pid_1=pid_1))

    def opened() -> int:
        with contextlib.suppress(OSError):  # nobody reads it yet
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        return 0

    writing = wait_until(opened)
    assert run.stop() == 0
    os.close(writing)


@pytest.mark.smoke
@pytest.mark.slow
def test_at_any_moment_of_its_life(sidecar: Launcher) -> None:
    # jq compiles at the start what the tasks will run: programs are started, and end, all the time.
    lines = [f"echo '{{}}' | jq '.a' > output-{number}" for number in range(5)]

    def end(moment: float) -> str:
        run = sidecar(*PATIENT, "--every", "50ms", *lines)
        threading.Event().wait(moment)
        run.send(signal.SIGTERM)
        status = run.wait()
        # A program that was killed at the start may be on its way out still.
        wait_until(lambda: not run.children(), what="something is left behind")
        # Before there is a handler, the signal does what it does to every program.
        fine = status == 0 or (status == -signal.SIGTERM and not run.log())
        return "" if fine else f"after {moment:.3f} s: {status}\n{run.log()}"

    moments = [random.uniform(0, 0.8) for _ in range(300)]  # noqa: S311
    with ThreadPoolExecutor(4) as pool:
        assert "".join(pool.map(end, moments)) == ""


def test_as_pid_1_it_hears_signals_and_reaps_orphans(sidecar: Launcher, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    # An orphan leaves the group of its stage, and ends some time later.
    line = f"bash -c 'setsid sleep 0.05 & date +%N | tee -a {runs}' > output"
    run = sidecar(*PATIENT, "--every", "30ms", line, isolation=Isolation(pid_1=True))
    wait_until(lambda: runs.exists() and len(runs.read_text().splitlines()) > 10)
    run.send(signal.SIGSTOP)
    stopped_with = len(run.zombies())
    run.send(signal.SIGCONT)
    assert stopped_with < 5
    wait_until(lambda: run.zombies() == [], interval=0.001)
    assert run.log_lines("failed") == []
    assert run.stop() == 0
