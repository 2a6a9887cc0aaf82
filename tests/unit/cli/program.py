"""The program itself, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
WORDS = (sys.executable, "-m", "kubectl_sidecar")
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@contextmanager
def started(
    *words: str,
    before: Sequence[str] = (),
    cwd: Path | None = None,
    stdin: int | None = None,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run it behind the words `before`; whatever happens in the block, it has ended after that."""
    command = [*before, *WORDS, *words]
    with subprocess.Popen(command, env=ENVIRON, cwd=cwd, stdin=stdin, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def has_taken(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Tell whether a process has taken a signal over by now: a thread of it has it blocked."""
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        blocked = next(line for line in status.read_text().splitlines() if line.startswith("SigBlk:"))
        if int(blocked.split()[1], 16) & 1 << (number - 1):
            return True
    return False
