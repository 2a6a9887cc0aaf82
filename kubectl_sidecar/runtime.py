"""The private directory of this container: kubectl's cache and the status file live there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping

_PREFIX = "kubectl-sidecar-"


def candidates(environ: Mapping[str, str]) -> list[str]:
    """Where it may be, best first.

    /dev/shm is the last one: it is there and writable in every container, also with a read-only root file
    system, but it is memory, and the containers of a Pod share it.
    """
    parents = [environ.get("TMPDIR") or "/tmp", "/tmp", "/dev/shm"]  # noqa: S108 (_take looks at the owner)
    return [f"{parent}/{_PREFIX}{os.geteuid()}-{_container()}" for parent in dict.fromkeys(parents)]


def _container() -> int:
    """A number that the processes of a container share, and no two containers do: the mount namespace."""
    return os.stat("/proc/self/ns/mnt").st_ino


@contextlib.contextmanager
def runtime_directory(environ: Mapping[str, str]) -> Iterator[str | None]:
    """Make the directory for the duration of the block, or yield None where nothing is writable.

    A second kubectl-sidecar in the same container gets a directory with a number behind its name. What killed
    ones left is removed: nobody holds its lock.
    """
    for path in candidates(environ):
        for name in (path, f"{path}.2", f"{path}.3", f"{path}.4"):
            with contextlib.suppress(OSError):
                fd = _take(name)
                break
        else:
            continue
        try:
            _remove_abandoned(os.path.dirname(path))
            yield name
        finally:
            _remove(name)
            os.close(fd)
        return
    yield None


def _take(path: str) -> int:
    """Make and lock a directory; raises OSError when that cannot be, or when it is somebody else's."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(fd)
        private = owner.st_uid == os.geteuid() and stat.S_IMODE(owner.st_mode) == 0o700
        if not private or not os.access(path, os.W_OK):
            raise PermissionError(path)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(owner, os.stat(path)):  # its last holder has just removed it
            raise FileNotFoundError(path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _remove_abandoned(parent: str) -> None:
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(f"{_PREFIX}{os.geteuid()}-"):
                with contextlib.suppress(OSError):
                    fd = _take(entry.path)
                    _remove(entry.path)
                    os.close(fd)


def _remove(path: str) -> None:
    import shutil  # it loads three compression libraries, and is needed at the end only

    shutil.rmtree(path, ignore_errors=True)
