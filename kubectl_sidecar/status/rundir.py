"""The private directory of this container: kubectl's cache and the status document live there."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping

from kubectl_sidecar.publish.volume import lock
from kubectl_sidecar.status.document import PREFIX, candidates


@contextlib.contextmanager
def runtime_directory(environ: Mapping[str, str]) -> Iterator[str | None]:
    """Make the directory for the duration of the block, and yield its path; None: nothing is writable."""
    # A second kubectl-sidecar in the same container gets a directory with a number behind its name.
    for path in (f"{path}{suffix}" for path in candidates(environ) for suffix in ("", ".2", ".3", ".4")):
        try:
            fd, has_locks = _take(path)
        except OSError:
            continue
        try:
            # What killed ones left is locked by nobody; without locks nobody can know what is in use.
            if has_locks:
                _remove_abandoned(os.path.dirname(path))
            # Its parent may be a symlink (TMPDIR), which is never followed when something is published.
            yield os.path.realpath(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(fd)
        return
    yield None


def _take(path: str) -> tuple[int, bool]:
    """Return the descriptor of a private locked directory, and whether there are locks; raises OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(fd)
        is_private = found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700
        if not is_private or not os.access(path, os.W_OK):
            raise PermissionError(path)
        has_locks = lock(fd)
        if not os.path.samestat(found, os.stat(path)):  # its last holder has just removed it
            raise FileNotFoundError(path)
    except OSError:
        os.close(fd)
        raise
    return fd, has_locks


def _remove_abandoned(parent: str) -> None:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(f"{PREFIX}{os.geteuid()}-"):
                with contextlib.suppress(OSError):
                    fd, _ = _take(entry.path)
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(fd)
