"""Log lines to stderr, through a thread of their own: whoever logs never waits for who reads them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading

from kubectl_sidecar.errors import visible
from kubectl_sidecar.status.document import rfc3339

# Lines; while nobody reads stderr, what comes beyond them is dropped and counted.
MOST_WAITING = 1000
# How long the last lines may take.
CLOSING_SECONDS = 1.0

log = logging.getLogger("kubectl_sidecar")


def set_up_logging(style: str) -> LogHandler:
    """Write log lines to stderr from now on; `style` is text or json."""
    handler = LogHandler(style)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    return handler


class LogHandler(logging.Handler):
    """Puts each line into a bounded queue, from which its thread writes them."""

    def __init__(self, style: str, fd: int = 2) -> None:
        super().__init__()
        self._json = style == "json"
        self._fd = fd
        self._lines: queue.Queue[str] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._thread: threading.Thread | None = threading.Thread(target=self._write_all, daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1  # logging holds the handler's lock around this

    def close(self) -> None:
        """Wait until everything is written, for CLOSING_SECONDS; logging calls it once more at exit."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put("", timeout=CLOSING_SECONDS)
                thread.join(CLOSING_SECONDS)
        super().close()

    def _write_all(self) -> None:
        lost = told = 0
        line = "the first"
        while line:  # close() puts an empty one
            line = self._lines.get()
            try:
                self._write(line)
                missing = self._dropped + lost
                if missing > told and self._lines.empty():
                    text = f"{missing - told} log lines were dropped: stderr did not take them"
                    self._write(self.format(logging.makeLogRecord({"levelname": "WARNING", "msg": text})))
                    told = missing
            except OSError:  # its reader has gone, or the disk is full
                lost += 1

    def _write(self, line: str) -> None:
        data = line.encode(errors="backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, whatever is in the event."""
        time, level = rfc3339(record.created), record.levelname.lower()
        task, message = getattr(record, "task", ""), record.getMessage()
        if self._json:
            event = {"time": time, "level": level} | ({"task": task} if task else {})
            return json.dumps({**event, "message": message}) + "\n"
        message = " / ".join(line.strip() for line in message.splitlines())
        place = f"{task}: " if task else ""
        return visible(f"{time} {level.replace('warning', 'warn')} {place}{message}") + "\n"
