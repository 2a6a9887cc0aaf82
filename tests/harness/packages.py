"""Programs of the operating system: installed with apt-get where that is possible, named where it is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from tests.harness.progress import Unavailable, run


def need(programs: Mapping[str, str], what_for: str) -> None:
    """Make sure of programs, given as program -> Debian package."""
    missing = {program: package for program, package in programs.items() if not find(program)}
    if missing:
        install(sorted(set(missing.values())), f"{what_for} needs {', '.join(sorted(missing))}")


def install(names: Sequence[str], why: str) -> None:
    """Install packages, or raise Unavailable that names them."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"{why}: install the packages {' '.join(names)}")
    run("updating the package lists", ["apt-get", "update", "-q"])
    command = ["apt-get", "install", "-q", "--yes", "--no-install-recommends", *names]
    run(f"installing {' '.join(names)}", command, env={"DEBIAN_FRONTEND": "noninteractive"})


def find(program: str) -> str | None:
    # /usr/sbin holds ip on Debian and is not on everybody's PATH.
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
