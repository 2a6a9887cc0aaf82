"""Publish what is in memory, and look at what that does to a volume."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

from kubectl_sidecar.publish.directory import OutputDirectory
from kubectl_sidecar.publish.file import OutputFile, Published

CONTENT = b"\x00 any bytes\n\xff without a newline"
STAGED = ".kubectl-sidecar-{}.staged"


def put(file: OutputFile | OutputDirectory, content: bytes) -> Published:
    """Publish what is in memory, as what the stages wrote is."""
    fd = os.memfd_create("content", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, content)
        return file.publish(fd)
    finally:
        os.close(fd)


def publish(root: Path, output: str, content: bytes, mode: int = 0o644) -> Published:
    """Publish once, as after a start."""
    return put(OutputFile(str(root), output, mode), content)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def identity(path: Path) -> tuple[int, int, int, int]:
    """Changes whenever a file, or what a directory lists, is touched."""
    of = path.stat()
    return of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_mode


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


HEAD = """
    import errno, logging, os, sys
    from pathlib import Path
    from kubectl_sidecar.errors import RefreshFailed
    from kubectl_sidecar.publish.directory import OutputDirectory, sweep
    from kubectl_sidecar.publish.file import OutputFile
    from tests.unit.process.seccomp import refuse
    from tests.unit.publish.inotify import watching
    from tests.unit.publish.publishing import STAGED, mode, names, publish, put
    root = Path(sys.argv[1])
"""


def isolated(mounts: str, script: str, directory: Path) -> str:
    """Run a script where `mounts` hold, with `directory` as $DIR and `root`; returns what it printed."""
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    code = textwrap.dedent(HEAD) + textwrap.dedent(script)
    python = [sys.executable, "-c", code, str(directory)]
    words = ["unshare", "--mount", *user, "--", "sh", "-ec", f'{mounts}; exec "$@"', "sh", *python]
    environment = {**os.environ, "DIR": str(directory)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
