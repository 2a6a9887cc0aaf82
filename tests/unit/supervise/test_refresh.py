"""What a refresh refuses to publish, seen from outside, where the kernel or a limit gives less than usual."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import os, sys
from tests.unit.process.seccomp import refuse
{}
os.execv(sys.executable, sys.argv[1:])
"""
# As `kubectl get -o name` does: a failed write is no failure to it (kubernetes#141115).
OVERLOOKS = "bash -c 'for i in {1..1000}; do echo configmap/some-name-$i; done 2> /dev/null; exit 0' > output"


def run(directory: Path, line: str, *, before: str, mounts: str = ":") -> str:
    """Run a line once with its private directory in `directory`/private; return what is logged of it."""
    (directory / "private").mkdir()
    program = [sys.executable, "-m", "kubectl_sidecar", "run", "--once", "--deadline=50ms"]
    words = [sys.executable, "-c", RUN.format(before), *program, f"--output-dir={directory}", line]
    script = f'{mounts}; exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-ec", script, "sh", *words]
    environment = {
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(directory / "private"),
        "PYTHONPATH": ":".join(sys.path),
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 1, done.stderr
    return next(text for text in done.stderr.splitlines() if " output: " in text)


@pytest.mark.slow
def test_a_full_private_directory_in_place_of_memory_cuts_nothing_off(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("good\n")
    mounts = f"mount -t tmpfs -o size=12k tmpfs {tmp_path}/private"
    said = run(tmp_path, OVERLOOKS, before="refuse(memfd_create=38)", mounts=mounts)
    assert "output: failed: no space left for what the stages write, in memory or in /tmp; giving up" in said
    assert (tmp_path / "output").read_text() == "good\n"


def test_a_limit_on_file_sizes_is_named_where_it_is_the_smaller_one(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    said = run(tmp_path, "seq 10000 > output", before=limit)
    assert (
        "output: failed: wrote more than 8191 bytes (the limit on file sizes, RLIMIT_FSIZE); giving up"
        in said
    )
    assert not (tmp_path / "output").exists()
