"""The locked Python environment of the tests, by `python3 -m tests.harness.environment [newest|oldest]`."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.harness import cache, signals
from tests.harness.packages import install as install_packages
from tests.harness.progress import Unavailable, run

LOCK = Path("requirements/dev.txt")
SUPPORTED = ((3, 11), (3, 12), (3, 13))
Version = tuple[int, ...]


@functools.cache
def interpreters() -> dict[Version, str]:
    """The supported Pythons of this machine that can make environments, oldest first, one for each minor."""
    found: dict[Version, tuple[Version, str]] = {}
    candidates = {os.path.realpath(candidate): candidate for candidate in _candidates()}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(_ask, candidates.values()))
    for answer in answers:
        if answer and answer[0][:2] in SUPPORTED:
            found[answer[0][:2]] = max(answer, found.get(answer[0][:2], answer))
    return {minor: found[minor][1] for minor in sorted(found)}


def _candidates() -> Iterator[str]:
    for name in ("python3", *(f"python3.{minor}" for _, minor in SUPPORTED)):
        for folder in os.get_exec_path():
            program = shutil.which(name, path=folder)
            # pyenv's names on PATH are slow and work only for the versions it has switched on.
            if program and Path(folder).name != "shims":
                yield program
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for major, minor in SUPPORTED:
        yield from map(str, pyenv.glob(f"versions/{major}.{minor}.*/bin/python3"))


def _ask(program: str) -> tuple[Version, str] | None:
    """The version and real path of a Python that has all it needs to make an environment."""
    question = "import sys, venv, ensurepip; print(*sys.version_info[:3], sys._base_executable)"
    answer = subprocess.run(
        [program, "-I", "-c", question], capture_output=True, text=True, check=False, timeout=60
    )
    if answer.returncode:
        return None
    major, minor, patch, path = answer.stdout.strip().split(" ", 3)
    return (int(major), int(minor), int(patch)), path


def pick(which: str) -> str:
    """The newest or the oldest supported Python."""
    found = interpreters()
    if not found:
        # Debian keeps what makes environments in a package of its own.
        install_packages(
            ["python3", "python3-venv"], "no Python 3.11, 3.12 or 3.13 that can make environments"
        )
        interpreters.cache_clear()
        found = interpreters()
    if not found:
        raise Unavailable("the system's Python is too old: install Python 3.11, 3.12 or 3.13")
    return found[min(found) if which == "oldest" else max(found)]


def environment(python: str) -> Path:
    """The environment of this Python that holds exactly what the lock says."""
    answer = _ask(python)
    if answer is None:
        raise Unavailable(f"{python} cannot make environments")
    version = ".".join(map(str, answer[0]))

    def make(path: Path) -> None:
        run(f"making an environment for Python {version}", [python, "-m", "venv", str(path)])
        pip = [str(path / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
        options = ["--require-hashes", "--only-binary=:all:", "--requirement", str(LOCK)]
        run("installing the locked packages", [*pip, *options])

    return cache.directory(f"python-{version}-{cache.key(LOCK, python)}", make)


def install(locked: Path, directory: Path) -> Path:
    """Install this clone's package, built as its users get it, over a locked environment; return the Python.

    The environment is shared between clones and runs, so the package goes into one of its own on top.
    """
    python = directory / "bin/python"
    subprocess.run([locked / "bin/python", "-m", "venv", "--without-pip", directory], check=True)
    site = next(directory.glob("lib/python3.*/site-packages"))
    (site / "locked.pth").write_text(f"{next(locked.glob('lib/python3.*/site-packages'))}\n")
    pip = [str(locked / "bin/python"), "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation", "."]
    run("installing kubectl-sidecar", [*pip, *options])
    return python


def main(which: str = "newest") -> int:
    signals.set_defaults()
    try:
        print(environment(pick(which)))
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
