"""Saying what is being done while it takes long: one line a step, on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Unavailable(Exception):
    """Something that the tests need cannot be had on this machine; the text says why, and the way out."""


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def run(
    title: str, argv: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a long command quietly and return what it printed; raise Unavailable with its last lines."""
    beat = 1 if sys.stderr.isatty() else 30
    started = time.monotonic()
    say(title)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while _still_runs(process, beat):
                _show_elapsed(title, time.monotonic() - started)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        log.seek(0)
        printed = log.read().decode(errors="replace")
    if process.returncode:
        tail = "\n".join(printed.splitlines()[-20:])
        raise Unavailable(f"{title}: `{' '.join(map(str, argv))}` failed ({process.returncode}):\n{tail}")
    say(f"{title}: done in {time.monotonic() - started:.0f} s")
    return printed


def _still_runs(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _show_elapsed(title: str, seconds: float) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"    {title}: {seconds:.0f} s", file=sys.stderr, end=end, flush=True)
