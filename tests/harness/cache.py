"""Directories outside the clone, named by the content of what made them, made once and whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.harness.progress import say


def root() -> Path:
    """Where everything is kept. (Not a KUBECTL_SIDECAR_ name: the program refuses those it does not know.)"""
    if chosen := os.environ.get("SIDECAR_TEST_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubectl-sidecar"


def key(*parts: str | Path) -> str:
    """A short name for the content of some texts and files."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        digest.update(b"%d:" % len(content) + content)
    return digest.hexdigest()[:16]


def directory(name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name`, filled by `make` if no earlier run has.

    Two runs at once: the second waits for the first. It is made at its final place, since a Python
    environment knows its own path, and is complete only with its marker: half a one is thrown away.
    """
    path = root() / name
    marker = path / ".complete"
    if marker.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / f".{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that makes {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            make(path)
            marker.touch()
    return path
