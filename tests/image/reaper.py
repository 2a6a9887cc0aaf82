"""Runs a command, and collects the orphans of that command at once: `python -m tests.image.reaper COMMAND...`.

podman waits until the monitor of its container is gone, an orphan, and on some machines process 1 takes 20 s for that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.posix_spawnp(argv[0], argv, os.environ)
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
