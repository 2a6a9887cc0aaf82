"""The directory of an output, in a volume that others may write to, and its errors for people."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
from collections.abc import Iterator

from kubectl_sidecar.errors import RefreshFailed

_NEW_DIRECTORY = 0o755
STAGED = re.compile(r"\.kubectl-sidecar-[0-9a-f]{16}\.staged")


def staged_name() -> str:
    """Return a name for a staged file that no other has."""
    return f".kubectl-sidecar-{os.urandom(8).hex()}.staged"


@contextlib.contextmanager
def open_parent(root: str, output: str) -> Iterator[int]:
    """Open the directory of an output, following no symlink below `root`: others may write to the volume.

    Directories below `root` are made as needed. An absolute output's directory must exist. Raises
    RefreshFailed, which says what to do, for whatever the file system refuses here or in the block.
    """
    absolute = output.startswith("/")
    try:
        with contextlib.ExitStack() as opened:
            fd = os.open("/" if absolute else root, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, fd)
            for part in filter(None, os.path.dirname(output).split("/")):
                fd = opened.enter_context(open_directory(part, fd, make=not absolute))
            yield fd
    except OSError as error:
        raise RefreshFailed(f"cannot write {output}: {_reason(error)}") from error


@contextlib.contextmanager
def open_directory(name: str, parent: int, *, make: bool = False) -> Iterator[int]:
    """Open a directory and no symlink, made if it is missing and that is asked for. Raises OSError."""
    made = False
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _NEW_DIRECTORY, dir_fd=parent)
            made = True
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if made and mode & 0o777 != _NEW_DIRECTORY:
            # The umask does not count. What else it has from its parent stays: the setgid bit gives the
            # volume's group to the files in it. It has no name here, which could be a symlink by now.
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode & ~0o777 | _NEW_DIRECTORY)
        yield fd
    finally:
        os.close(fd)


def open_found(parent: int, name: str) -> io.FileIO:
    """Open what others may have put there: no symlink is followed, no FIFO waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    return open(name, "rb", buffering=0, opener=lambda name, _: os.open(name, flags, dir_fd=parent))


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when somebody touches a file; reading it is no such thing."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def lock(fd: int, how: int = fcntl.LOCK_EX) -> bool:
    """Lock a file or directory; False: there are no locks here. Raises BlockingIOError if another has it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _reason(error: OSError) -> str:
    ways_out = {
        errno.ELOOP: "a directory in its path is a symlink, which is never followed: name the real directory",
        errno.ENOTDIR: f"{error.filename} is a symlink or a file, where a directory was expected",
        errno.EISDIR: "a directory is in the way: remove it, or write to another path",
        errno.EROFS: "the volume is mounted read-only: mount it without readOnly in this container",
        errno.EACCES: f"permission denied for UID {os.geteuid()}, GID {os.getegid()}:"
        " set fsGroup, or runAsUser to the owner of the directory",
        errno.EAGAIN: "another kubectl-sidecar is at work in it just now",
        errno.ENOSPC: "no space left in the volume: it must hold the old and the new content at once",
    }
    if error.errno in ways_out:
        return ways_out[error.errno]
    named = isinstance(error.filename, str) and not STAGED.fullmatch(error.filename)
    return f"{error.strerror} ({error.filename})" if named else f"{error.strerror}"
