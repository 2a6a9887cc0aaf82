"""Contents in memory to the files of a directory, all at once, in the layout of a mounted ConfigMap.

    dashboards/..kubectl-sidecar-0123456789abcdef/node.json    a generation: the files
    dashboards/..data -> ..kubectl-sidecar-0123456789abcdef    replaced by rename, which publishes them all
    dashboards/node.json -> ..data/node.json                   what a reader opens

The steps are those of the kubelet's atomic_writer.go, but for one: the links of new names are made before
`..data` is replaced. Nothing that can fail comes after it, and who waits for a new `..data` finds every name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish.contents import parse_contents
from kubectl_sidecar.publish.file import Output, OutputFile, Published, blocks, digest, sweep_staged
from kubectl_sidecar.publish.volume import identity, lock, open_directory, open_parent

_DATA = "..data"
# A generation, and the link that is about to become `..data`.
_OURS = re.compile(r"\.\.kubectl-sidecar-[0-9a-f]{16}")

Files = Mapping[str, bytes]


@dataclass(eq=False)
class OutputDirectory(Output):
    """The directory of one task, and what was last published there; its methods promise what a file's do."""

    allow_empty: bool = False  # whether it may be without files

    def publish(self, content: int) -> Published:
        """Put the files of a JSON object in place."""
        files = parse_contents(b"".join(blocks(content)))
        if not files and not self.allow_empty:
            text = "the object is empty, and a directory without files is published with @allow-empty only"
            raise RefreshFailed(text)
        size, sha256 = sum(map(len, files.values())), _sha256_of(files)
        identities = self._identities(files)
        if identities and self._known == (sha256, identities):
            return Published(False, size, sha256)
        with open_parent(self.root, self.output) as directory, _locked(directory):
            missing = self._missing_links(directory, files)
            changed = bool(missing) or not self._has(directory, files)
            if changed:
                self._replace(directory, files, missing)
                identities = self._identities(files)
            self._known = sha256, identities
        return Published(changed, size, sha256)

    def remove(self) -> Published:
        """Take all files away at once; the directory stays, so that whoever watches it hears of new ones."""
        if not os.path.islink(os.path.join(self.root, self.output, _DATA)):
            return Published(False, None, None)
        with open_parent(self.root, self.output) as directory, _locked(directory):
            os.unlink(_DATA, dir_fd=directory)
            _tidy(directory)
        return Published(True, None, None)

    def _identities(self, files: Files) -> list[tuple[int, ...]]:
        """Return what changes when anything of these is touched, and open nothing; [] if one is missing."""
        path = os.path.join(self.root, self.output)
        with contextlib.suppress(OSError):
            generation = os.readlink(os.path.join(path, _DATA))
            paths = [_DATA, generation, *files, *(os.path.join(generation, name) for name in files)]
            return [identity(os.lstat(os.path.join(path, each))) for each in paths]
        return []

    def _missing_links(self, directory: int, files: Files) -> list[str]:
        """Return the names that have no link yet; raises RefreshFailed if one is a file of somebody else."""
        links = {name: _target(directory, name) for name in (_DATA, *files)}
        for name, target in links.items():
            if target == "" or (name != _DATA and target not in (None, f"{_DATA}/{name}")):
                text = f"{name} is there and not ours: remove it, or use another name or directory"
                raise RefreshFailed(f"cannot write {self.output}: {text}")
        return [name for name in files if links[name] is None]

    def _has(self, directory: int, files: Files) -> bool:
        """Tell whether these files are published, with their mode: a run before left them."""
        with contextlib.suppress(OSError), _published(directory) as generation:
            return set(os.listdir(generation)) == files.keys() and all(
                self._find(generation, name, *digest(content)) for name, content in files.items()
            )
        return False

    def _replace(self, directory: int, files: Files, missing: Iterable[str]) -> None:
        generation, staged = (f"..kubectl-sidecar-{os.urandom(8).hex()}" for _ in range(2))
        try:
            with open_directory(generation, directory, make=True) as made:
                for name, content in files.items():
                    with self._new_file(name, made, [content]):
                        pass
                self._sync(made)
            for name in missing:
                os.symlink(f"{_DATA}/{name}", name, dir_fd=directory)
            os.symlink(generation, staged, dir_fd=directory)
            os.rename(staged, _DATA, src_dir_fd=directory, dst_dir_fd=directory)
            with contextlib.suppress(OSError):  # it is published
                self._sync(directory)
        finally:
            with contextlib.suppress(OSError):
                _tidy(directory)


def new_output(root: str, output: str, mode: int, *, allow_empty: bool) -> OutputFile | OutputDirectory:
    """Return what publishes an output: it is a directory when it ends in a slash."""
    if output.endswith("/"):
        return OutputDirectory(root, output, mode, allow_empty=allow_empty)
    return OutputFile(root, output, mode)


def sweep(root: str, outputs: Collection[str]) -> None:
    """Remove what killed processes left in the directories of the outputs, and nothing of living ones."""
    for place in {os.path.join(os.path.dirname(output), "") for output in outputs}:
        if os.path.isdir(os.path.join(root, place)):
            with contextlib.suppress(RefreshFailed), open_parent(root, place) as directory:
                sweep_staged(directory)
                if place in outputs:
                    with _locked(directory):
                        _tidy(directory)


@contextlib.contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Keep other kubectl-sidecars out. Raises BlockingIOError while one is in it."""
    lock(directory)
    try:
        yield
    finally:
        # Closing alone does not do it: a stage that is just being started may have a copy.
        with contextlib.suppress(OSError):
            fcntl.flock(directory, fcntl.LOCK_UN)


def _sha256_of(files: Files) -> str:
    """Return what `sha256sum * | sha256sum` prints in the directory."""
    lines = (f"{digest(content)[1]}  {name}\n" for name, content in files.items())
    return digest("".join(lines).encode())[1]


def _target(directory: int, name: str) -> str | None:
    """Return where a symlink leads; "" for what is no symlink, None for what is not there."""
    try:
        return os.readlink(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return ""


@contextlib.contextmanager
def _published(directory: int) -> Iterator[int]:
    """Open the generation that `..data` leads to; raises OSError when it leads elsewhere."""
    target = os.readlink(_DATA, dir_fd=directory)
    if not _OURS.fullmatch(target):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
    with open_directory(target, directory) as generation:
        yield generation


def _tidy(directory: int) -> None:
    """Remove what is ours and not published: the last generation, what was left halfway. Raises OSError."""
    current, names = _target(directory, _DATA), set[str]()
    if current is not None:
        with _published(directory) as generation:
            names.update(os.listdir(generation))
    for name in os.listdir(directory):
        with contextlib.suppress(OSError):
            if _OURS.fullmatch(name) and name != current:
                _discard(directory, name)
            elif name not in names and _target(directory, name) == f"{_DATA}/{name}":
                os.unlink(name, dir_fd=directory)


def _discard(directory: int, name: str) -> None:
    """Remove a generation, or a link to one; raises OSError when somebody has put a directory into it."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        with open_directory(name, directory) as generation:
            for inner in os.listdir(generation):
                with contextlib.suppress(OSError):
                    os.unlink(inner, dir_fd=generation)
        os.rmdir(name, dir_fd=directory)
