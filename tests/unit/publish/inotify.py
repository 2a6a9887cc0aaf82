"""What a watcher of a file and of its directory sees, by inotify(7)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

# sys/inotify.h
_ALL_EVENTS = 0x00000FFF
_NAMES = (
    "ACCESS MODIFY ATTRIB CLOSE_WRITE CLOSE_NOWRITE OPEN"
    " MOVED_FROM MOVED_TO CREATE DELETE DELETE_SELF MOVE_SELF"
).split()
_HEADER = struct.Struct("iIII")


class Watcher:
    """Tells the events since it was asked last."""

    def __init__(self, *paths: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in paths:
            if libc.inotify_add_watch(self._fd, os.fsencode(path), _ALL_EVENTS) < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch: {path}")

    def events(self) -> list[str]:
        """The events, such as "OPEN output", in their order; those of a watched file itself have no name."""
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return []
        found, offset = [], 0
        while offset < len(data):
            _, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0").decode()
            offset += length
            found += [f"{event} {name}".strip() for bit, event in enumerate(_NAMES) if mask >> bit & 1]
        return found

    def close(self) -> None:
        os.close(self._fd)


@contextlib.contextmanager
def watching(*paths: Path) -> Iterator[Watcher]:
    watcher = Watcher(*paths)
    try:
        yield watcher
    finally:
        watcher.close()
