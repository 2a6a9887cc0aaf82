"""The directory of an output, in a volume that others may write to, and its errors for people."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from kubectl_sidecar.errors import RefreshFailed

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STAGED = re.compile(r"\.kubectl-sidecar-[0-9a-f]{16}\.staged")
"""The names that staged files have, where they need one."""


def staged_name() -> str:
    return f".kubectl-sidecar-{os.urandom(8).hex()}.staged"


def open_parent(root: str, output: str, *, make: bool = True) -> int:
    """Open the directory of an output, following no symlink below `root`: others may write to the volume.

    Directories below `root` are made as needed. An absolute output's directory must exist.
    """
    absolute = output.startswith("/")
    fd = os.open("/" if absolute else root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in filter(None, os.path.dirname(output).split("/")):
        outer = fd
        try:
            made = make and not absolute and _mkdir(part, outer)
            fd = os.open(part, _DIRECTORY, dir_fd=outer)
            if made:
                os.fchmod(fd, 0o755)  # whatever the umask; by no name, which could be a symlink by now
        finally:
            os.close(outer)
    return fd


def _mkdir(name: str, parent: int) -> bool:
    """Make a directory; False: there is something already."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def explained(output: str) -> Iterator[None]:
    """Turn the file system's errors into a failed refresh that says what to do."""
    try:
        yield
    except OSError as error:
        raise RefreshFailed(f"cannot write {output}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    name = error.filename if isinstance(error.filename, str) else "."
    place = "" if name == "." or STAGED.fullmatch(name) else f" ({name})"
    ways_out = {
        errno.ELOOP: "a directory in its path is a symlink, which is never followed: name the real directory",
        errno.ENOTDIR: f"{error.filename} is a symlink or a file, where a directory was expected",
        errno.EISDIR: "a directory is in the way: remove it, or write to another path",
        errno.EROFS: "the volume is mounted read-only: mount it without readOnly in this container",
        errno.EACCES: f"permission denied for UID {os.geteuid()}, GID {os.getegid()}:"
        " set fsGroup, or runAsUser to the owner of the directory",
        errno.ENOSPC: "no space left in the volume: it must hold the old and the new content at once",
    }
    return ways_out.get(error.errno or 0, f"{os.strerror(error.errno or 0)}{place}")
