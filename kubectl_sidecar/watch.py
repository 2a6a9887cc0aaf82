"""One run of the programs that tell of changes, and the thread that reads what they tell."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kubectl_sidecar.commands import Running
from kubectl_sidecar.diagnosis import reason
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.shutdown import Wakeup

# What jq still has to print when kubectl is gone, and the other way round.
_LAST_WORDS = 1.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told, in the thread of the watch."""

    line: Callable[[bytes], None]
    """Of each line, without its newline; lines that came together are told one by one."""
    end: Callable[[Watch], None]
    """That no process of the watch is left."""


class Watch:
    """It ends when its programs do, whatever their exit status: of kubectl's, 0 means nothing."""

    def __init__(
        self, argvs: Sequence[Sequence[str]], start: Callable[[int], Running], listener: Listener
    ) -> None:
        """`start` starts the programs, `argvs`, writing to a file descriptor; raises RefreshFailed."""
        self.began = time.monotonic()
        self.heard = Wakeup()
        """Set by its first line, or by its end."""
        self.has_ended = False
        self.reason = ""
        """What the programs said when they ended."""
        self.crash: BaseException | None = None
        self._argvs = argvs
        self._start = start
        self._listener = listener
        self._stop = Wakeup()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        """Give everything back, once it has ended, which stop() brings about."""
        self._thread.join()
        self._stop.close()
        self.heard.close()

    def _run(self) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                running = self._start(write)
            finally:
                os.close(write)
            with running:
                self._listen(running, read)
                ended = running.finish(self._stop, _LAST_WORDS)
            self.reason = reason(self._argvs, ended)
        except RefreshFailed as error:
            self.reason = str(error)
        except BaseException as error:  # noqa: BLE001 (a bug: the tasks would wait for ever)
            self.crash = error
        finally:
            os.close(read)
            self.has_ended = True
            self.heard.set()
            self._listener.end(self)

    def _listen(self, running: Running, pipe: int) -> None:
        begun = bytearray()
        while running.wait_for_output(pipe, self._stop) and (data := os.read(pipe, 1 << 16)):
            *lines, rest = data.split(b"\n")
            if not lines:
                begun += rest
                continue
            lines[0] = bytes(begun) + lines[0]
            begun[:] = rest
            for line in lines:
                self._listener.line(line)
            self.heard.set()
