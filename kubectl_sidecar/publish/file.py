"""Content in memory to a file in the volume: its reader sees the old content or the new, whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubectl_sidecar.publish.volume import STAGED, identity, lock, open_found, open_parent, staged_name

log = logging.getLogger("kubectl_sidecar")

_FINAL = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


@dataclass(frozen=True, slots=True)
class Published:
    """What is in the output after a refresh; `size` and `sha256` are None when on-missing took it away."""

    changed: bool
    size: int | None  # bytes
    sha256: str | None


@dataclass(eq=False)
class Output:
    """Where one task publishes, and how files are written there: the same for a file and a directory."""

    root: str
    output: str
    mode: int
    durable: bool = True  # even after a crash of the node the output is not half a file
    _known: tuple[str, object] | None = None  # digest and identity of what was last published
    _warned: bool = False

    @contextlib.contextmanager
    def _new_file(self, name: str, parent: int, content: Iterable[bytes]) -> Iterator[int]:
        """Write a file that was not there; it is open, and locked, while the block runs. Raises OSError."""
        opener = functools.partial(os.open, mode=self.mode, dir_fd=parent)
        with open(name, "xb", opener=opener) as file:
            # Tells the sweep of another kubectl-sidecar that somebody is at work here.
            with contextlib.suppress(BlockingIOError):
                lock(file.fileno())
            self._set_mode(file.fileno())
            file.writelines(content)
            file.flush()
            self._sync(file.fileno())
            yield file.fileno()

    def _sync(self, fd: int) -> None:
        """Wait until a file or a directory is on the disk; raises OSError."""
        try:
            if self.durable:
                os.fsync(fd)  # a network file system says only now that it has no space
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):  # there is no such thing here
                raise

    def _set_mode(self, file: int) -> None:
        """Set the mode whatever the umask, and say it once where the file system has no modes."""
        with contextlib.suppress(OSError):
            os.fchmod(file, self.mode)
        mode = stat.S_IMODE(os.fstat(file).st_mode)
        if mode != self.mode and not self._warned:
            self._warned = True
            text = "its mode is %04o and not %04o: the file system does not let it be changed"
            log.warning(text, mode, self.mode, extra={"task": self.output})

    def _find(self, parent: int, name: str, size: int, sha256: str) -> tuple[int, ...] | None:
        """Return the identity of a file that has this content, and the mode: a run before left it."""
        with contextlib.suppress(OSError), open_found(parent, name) as file:
            found = os.fstat(file.fileno())
            if (found.st_mode, found.st_size) == (stat.S_IFREG | self.mode, size):
                return identity(found) if digest(file.fileno()) == (size, sha256) else None
        return None  # or missing, a symlink, unreadable: rename decides


@dataclass(eq=False)
class OutputFile(Output):
    """The file of one task, and what was last published there."""

    def publish(self, content: int | bytes) -> Published:
        """Put bytes, or what a file has, in place, unless the output has it already; raises RefreshFailed.

        Without a change nothing in the volume is opened, let alone written: whoever watches it is not woken.
        """
        if isinstance(content, int):
            # A process that a stage left running may hold it still; what cannot be sealed is published too.
            with contextlib.suppress(OSError):
                fcntl.fcntl(content, fcntl.F_ADD_SEALS, _FINAL)
        size, sha256 = digest(content)
        with contextlib.suppress(OSError):
            if self._known == (sha256, identity(os.lstat(os.path.join(self.root, self.output)))):
                return Published(False, size, sha256)
        with open_parent(self.root, self.output) as parent:
            present = self._find(parent, os.path.basename(self.output), size, sha256)
            self._known = sha256, present or self._replace(parent, content)
        return Published(present is None, size, sha256)

    def remove(self) -> Published:
        """Take the output away, if it is there; raises RefreshFailed when it cannot be."""
        # Where there is nothing to do, nothing in the volume is opened: whoever watches it is not woken.
        if not os.path.lexists(os.path.join(self.root, self.output)):
            return Published(False, None, None)
        with open_parent(self.root, self.output) as parent, contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.basename(self.output), dir_fd=parent)
        return Published(True, None, None)

    def _replace(self, parent: int, content: int | bytes) -> tuple[int, ...]:
        """Rename a copy of the content to the output; return the output's identity."""
        try:
            return self._rename_copy(parent, content)
        except FileNotFoundError:
            # The sweep of another kubectl-sidecar in the volume took the copy before it was locked.
            return self._rename_copy(parent, content)

    def _rename_copy(self, parent: int, content: int | bytes) -> tuple[int, ...]:
        name = staged_name()
        try:
            with self._new_file(name, parent, blocks(content)) as staged:
                os.rename(name, os.path.basename(self.output), src_dir_fd=parent, dst_dir_fd=parent)
                return identity(os.fstat(staged))
        finally:
            with contextlib.suppress(OSError):  # it has been renamed, or could not be made
                os.unlink(name, dir_fd=parent)


def sweep_staged(directory: int) -> None:
    """Remove the staged files that killed processes left: a living one's are locked. Raises OSError."""
    for name in filter(STAGED.fullmatch, os.listdir(directory)):
        with contextlib.suppress(OSError), open_found(directory, name) as staged:
            if stat.S_ISREG(os.fstat(staged.fileno()).st_mode):
                # A shared lock will do: NFS gives the other kind only for files that are open for writing.
                lock(staged.fileno(), fcntl.LOCK_SH)
                os.unlink(name, dir_fd=directory)


def digest(content: int | bytes) -> tuple[int, str]:
    """Return the size in bytes, and the SHA-256."""
    size, sha256 = 0, hashlib.sha256()
    for block in blocks(content):
        size += len(block)
        sha256.update(block)
    return size, sha256.hexdigest()


def blocks(content: int | bytes) -> Iterator[bytes]:
    """Yield the bytes, or what a file has, from its beginning."""
    if isinstance(content, bytes):
        yield content
        return
    offset = 0
    while block := os.pread(content, 1 << 16, offset):
        yield block
        offset += len(block)
