"""Staged file to output: the reader sees the old content or the new, whole, or nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubectl_sidecar.lean import without
from kubectl_sidecar.volume import STAGED, explained, open_parent, staged_name

# CPython's own SHA-256 instead of OpenSSL's: libcrypto is 3.4 MB for the few kilobytes that are hashed.
with without({"_hashlib": None}):
    import hashlib

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
            with explained(output):
                self._parent = open_parent(root, output)
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
        name = staged_name()
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
            now = open_parent(self._root, self._output, make=False)
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
        with explained(self._output):
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
            name = staged_name()
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
    with explained(output):
        try:
            parent = open_parent(root, output, make=False)
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
            parent = open_parent(root, os.path.join(directory, "_"), make=False)
            try:
                for name in filter(STAGED.fullmatch, os.listdir(parent)):
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


def _blocks(fd: int) -> Iterator[bytes]:
    offset = 0
    while block := os.pread(fd, _BLOCK, offset):
        yield block
        offset += len(block)
