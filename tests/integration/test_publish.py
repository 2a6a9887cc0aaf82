"""What readers see of an output, whatever happens to its writers."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.harness.files import identity
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until

SIZE = 1 << 20
# Whole contents of one letter each; a shell that picks another one each time.
PUBLISH = """
import os, sys
from kubectl_sidecar.publish.file import OutputFile
output = OutputFile(sys.argv[1], "output", 0o644)
for number in range({count}):
    content = os.memfd_create("content")
    os.write(content, b"abcdefg"[number % 7 : number % 7 + 1] * {size})
    output.publish(content)
    os.close(content)
"""
LINE = f"bash -c 'head -c {SIZE} /dev/zero | tr \"\\0\" $((RANDOM % 10))' > output"


def assert_whole(content: bytes) -> None:
    assert (len(content), len(set(content))) == (SIZE, 1), f"{len(content)} bytes, {set(content)}"


@pytest.mark.slow
def test_a_reader_never_sees_a_partial_an_empty_or_a_mixed_file() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # an emptyDir in memory
        volume = Path(name)
        words = [sys.executable, "-c", PUBLISH.format(size=SIZE, count=2000), name]
        with subprocess.Popen(words) as publisher:
            wait_until((volume / "output").exists)
            seen = set()
            while publisher.poll() is None:
                content = (volume / "output").read_bytes()
                assert_whole(content)
                seen.add(content[:1])
        assert publisher.returncode == 0
        assert len(seen) == 7
        assert [path.name for path in volume.iterdir()] == ["output"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_last_good_content_and_no_litter(
    sidecar: Launcher, tmp_path: Path
) -> None:
    directory = tmp_path / "volume"
    for _ in range(15):
        run = sidecar("--every", "20ms", LINE, output_directory=directory)
        run.wait_for_output("output")
        run.wait_for_log("changed", count=2)
        threading.Event().wait(random.uniform(0, 0.05))  # noqa: S311 - somewhere in a refresh
        run.send(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        assert_whole((directory / "output").read_bytes())
        run.destroy()
    assert sidecar("--once", LINE, output_directory=directory).wait() == 0
    assert [path.name for path in directory.iterdir()] == ["output"]


def test_a_stop_at_any_moment_leaves_whole_content_and_no_litter(sidecar: Launcher) -> None:
    for _ in range(5):
        run = sidecar("--every", "20ms", LINE)
        run.wait_for_output("output")
        threading.Event().wait(random.uniform(0, 0.05))  # noqa: S311
        assert run.stop() == 0
        assert_whole(run.output("output").read_bytes())
        assert [path.name for path in run.output_directory.iterdir()] == ["output"]


def test_a_full_volume_keeps_the_last_good_content_until_there_is_space(
    sidecar: Launcher, tmp_path: Path
) -> None:
    volume, content = tmp_path / "volume", tmp_path / "content"
    volume.mkdir()
    content.write_bytes(b"good")
    isolation = Isolation(tmpfs=(volume, 64 << 10))
    run = sidecar("--every", "50ms", f"cat {content} > output", output_directory=volume, isolation=isolation)
    run.wait_for_log("output: first success: 4 bytes$")
    inside = Path(f"/proc/{run.pid}/root{volume}/output")
    before = identity(inside)
    content.write_bytes(bytes(100 << 10))
    run.wait_for_log("output: failed: cannot write output: no space left in the volume: .*; next attempt in ")
    assert (inside.read_bytes(), identity(inside)) == (b"good", before)
    content.write_bytes(b"better")
    run.send(signal.SIGUSR1)
    run.wait_for_log("output: recovered after .*: 6 bytes$")
    assert inside.read_bytes() == b"better"
    assert [path.name for path in inside.parent.iterdir()] == ["output"]
    assert run.stop() == 0


def test_a_program_that_overlooks_a_full_volume_publishes_nothing_all_the_same(
    sidecar: Launcher, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    isolation = Isolation(tmpfs=(volume, 16 << 10))
    # As `kubectl get -o name` does: a failed write is no failure to it (kubernetes#141115).
    overlooks = "bash -c 'for i in {1..1000}; do echo configmap/some-name-$i; done 2> /dev/null; exit 0'"
    lines = ["head -c 8000 /dev/zero > ballast", f"{overlooks} > output"]
    run = sidecar(*lines, output_directory=volume, isolation=isolation)
    run.wait_for_log("ballast: first success")
    run.wait_for_log("output: failed: cannot write output: no space left in the volume: ")
    inside = Path(f"/proc/{run.pid}/root{volume}")
    assert [path.name for path in inside.iterdir()] == ["ballast"]
    assert run.stop() == 0


def test_a_read_only_volume_is_named_and_nothing_else_stops(sidecar: Launcher, tmp_path: Path) -> None:
    (tmp_path / "writable").mkdir()
    isolation = Isolation(read_only_but=tmp_path / "writable")
    run = sidecar("echo > output", f"echo > {tmp_path}/writable/other", isolation=isolation)
    run.wait_for_log("writable/other: first success: 1 bytes$")
    run.wait_for_log(
        "output: failed: cannot write output: the volume is mounted read-only:"
        " mount it without readOnly in this container; next attempt in "
    )
    assert run.stop() == 0
