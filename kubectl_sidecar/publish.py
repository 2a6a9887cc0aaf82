"""Staged file to output: the reader sees the old content or the new, whole, or nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.lean import without

# CPython's own SHA-256 instead of OpenSSL's: libcrypto is 3.4 MB for the few kilobytes that are hashed.
with without({"_hashlib": None}):
    import hashlib

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STAGED = re.compile(r"\.kubectl-sidecar-[0-9a-f]{16}\.staged")
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Published:
    """What is in the output after a refresh; `size` and `sha256` are None when on-missing took it away."""

    changed: bool
    size: int | None
    sha256: str | None


class Staged:
    """A file on the output's file system that becomes the output when it is published, or nothing at all.

    It has no name until then (O_TMPFILE), so that a kill leaves no litter and a directory watcher does not
    wake for content that did not change. File systems that cannot do it get a hidden name beside the output
    instead.
    """

    def __init__(self, root: str, output: str, mode: int) -> None:
        """Raises RefreshFailed when the output's directory cannot be opened, made or written."""
        self._root = root
        self._output = output
        self._entry = os.path.basename(output)
        self._name: str | None = None
        self.fd = self._parent = -1
        try:
            with _explained(output):
                self._parent = _open_parent(root, output)
                self.fd = self._create()
                # Before anything is in it, and again by nobody: the umask does not count.
                os.fchmod(self.fd, mode)
        except BaseException:
            self.close()
            raise

    def _create(self) -> int:
        try:
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._parent)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
        return self._create_named()

    def _create_named(self) -> int:
        name = _staged_name()
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._parent)
        self._name = name
        # Tells the sweep of another kubectl-sidecar in the same volume that somebody is at work here.
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # that sweep was faster
        return self._create_named()

    def __enter__(self) -> Staged:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing behind but what was published."""
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._parent)
        for fd in (self.fd, self._parent):
            if fd != -1:
                os.close(fd)

    def is_in_place(self) -> bool:
        """Tell whether its directory still is the output's: it may have been removed, or replaced."""
        try:
            now = _open_parent(self._root, self._output, make=False)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(now), os.fstat(self._parent))
        finally:
            os.close(now)

    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self.fd).st_size

    def publish(self, *, durable: bool = True) -> Published:
        """Put the file in place, unless the output has the same bytes and mode already."""
        with _explained(self._output):
            digest = hashlib.sha256()
            for block in _blocks(self.fd):
                digest.update(block)
            size = self.size()
            if changed := not self._same_as_output():
                name = self._named()
                if durable:
                    # Before the rename: after a crash of the node the output must not be half a file, and a
                    # network file system says only now that it has no space.
                    os.fsync(self.fd)
                os.rename(name, self._entry, src_dir_fd=self._parent, dst_dir_fd=self._parent)
                self._name = None
            return Published(changed, size, digest.hexdigest())

    def _named(self) -> str:
        """Give the file a name in its directory, if it has none."""
        if self._name is None:
            name = _staged_name()
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            try:
                # The way that open(2) gives to name an O_TMPFILE without CAP_DAC_READ_SEARCH.
                os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self._parent, follow_symlinks=True)
                self._name = name
            except OSError:  # AppArmor may not let a file without a path be linked, /proc may be hidden
                self._copy_to_named()
        assert self._name is not None
        return self._name

    def _copy_to_named(self) -> None:
        unnamed, self.fd = self.fd, self._create_named()
        try:
            os.fchmod(self.fd, stat.S_IMODE(os.fstat(unnamed).st_mode))
            offset = 0
            while copied := os.sendfile(self.fd, unnamed, offset, 1 << 30):
                offset += copied
        finally:
            os.close(unnamed)

    def _same_as_output(self) -> bool:
        try:
            # O_NONBLOCK: whatever lies there may be a FIFO that nobody writes to.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            output = os.open(self._entry, flags, dir_fd=self._parent)
        except OSError:
            return False  # missing, a symlink or unreadable: rename decides
        try:
            ours, theirs = os.fstat(self.fd), os.fstat(output)
            if (ours.st_mode, ours.st_size) != (theirs.st_mode, theirs.st_size):
                return False
            # zip_longest: whoever else may write there can change its size meanwhile.
            blocks = itertools.zip_longest(_blocks(self.fd), _blocks(output))
            return all(one == other for one, other in blocks)
        finally:
            os.close(output)


def remove(root: str, output: str) -> bool:
    """Take an output away; False when there was none. Raises RefreshFailed when it cannot be."""
    with _explained(output):
        try:
            parent = _open_parent(root, output, make=False)
        except FileNotFoundError:
            return False
        try:
            os.unlink(os.path.basename(output), dir_fd=parent)
        except FileNotFoundError:
            return False
        finally:
            os.close(parent)
    return True


def sweep(root: str, outputs: Iterable[str]) -> None:
    """Remove the staged files that a killed process left beside the outputs: a living one's are locked."""
    for directory in {os.path.dirname(output) for output in outputs}:
        with contextlib.suppress(OSError):
            parent = _open_parent(root, os.path.join(directory, "_"), make=False)
            try:
                for name in filter(_STAGED.fullmatch, os.listdir(parent)):
                    _remove_if_abandoned(parent, name)
            finally:
                os.close(parent)


def _remove_if_abandoned(parent: int, name: str) -> None:
    with contextlib.suppress(OSError):  # in use (BlockingIOError), gone, or not to be removed by us
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=parent)
        finally:
            os.close(fd)


def _open_parent(root: str, output: str, *, make: bool = True) -> int:
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


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, _BLOCK, offset):
        yield block
        offset += len(block)


def _staged_name() -> str:
    return f".kubectl-sidecar-{os.urandom(8).hex()}.staged"


@contextlib.contextmanager
def _explained(output: str) -> Iterator[None]:
    """Turn the file system's errors into a failed refresh that says what to do."""
    try:
        yield
    except OSError as error:
        raise RefreshFailed(f"cannot write {output}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    name = error.filename if isinstance(error.filename, str) else "."
    place = "" if name == "." or _STAGED.fullmatch(name) else f" ({name})"
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
