"""Volumes that are full, or hang, for a program in a mount namespace of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def small(volume: Path) -> list[str]:
    """Return the words before a program that is to see an empty file system of two pages there."""
    return _mounted(f"mount -t tmpfs -o size=8k tmpfs {volume}")


def hanging(volume: Path) -> list[str]:
    """Return the words before a program that is to see a volume there whose system calls never return.

    It is a FUSE file system whose server answers nothing.
    """
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip(f"no FUSE here: {error}")
    options = "fd=9,rootmode=40000,user_id=0,group_id=0"
    return _mounted(f"exec 9<> /dev/fuse; mount -i -t fuse -o {options} none {volume}")


def _mounted(script: str) -> list[str]:
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    return ["unshare", "--mount", *user, "--", "sh", "-ec", f'{script}; exec "$@"', "sh"]
