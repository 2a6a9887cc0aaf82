"""Log lines: one an event, and nobody waits for who reads them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kubectl_sidecar.status.log
from kubectl_sidecar.status.log import MOST_WAITING, LogHandler, log, set_up_logging
from tests.harness.waiting import wait_until


@pytest.fixture
def log_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[LogHandler]]:
    """Makes handlers that are gone at the end."""
    monkeypatch.setattr(log, "propagate", False)
    level = log.level
    log.setLevel(logging.INFO)

    class Added(LogHandler):
        def __init__(self, style: str, fd: int) -> None:
            super().__init__(style, fd)
            log.addHandler(self)

    yield Added
    log.handlers.clear()
    log.setLevel(level)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)  # whoever is still writing has no reader now
    os.close(write)


def everything(pipe: tuple[int, int], handler: LogHandler) -> list[str]:
    """Read what is written until the handler has been closed."""
    chunks: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        os.set_blocking(pipe[0], False)
        while True:
            was_done = done.is_set()
            try:
                chunks.append(os.read(pipe[0], 1 << 16))
            except BlockingIOError:
                if was_done:
                    return
                done.wait(0.01)

    reader = threading.Thread(target=read)
    reader.start()
    handler.close()
    done.set()
    reader.join()
    return b"".join(chunks).decode().splitlines()


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("text", " warn a: failed: two / lines; next attempt in 1s"),
        (
            "json",
            ', "level": "warning", "task": "a", "message": "failed: two\\n  lines; next attempt in 1s"}',
        ),
    ],
)
def test_an_event_is_one_line_whatever_is_in_it(
    style: str, line: str, log_to: type[LogHandler], pipe: tuple[int, int]
) -> None:
    handler = log_to(style, pipe[1])
    log.warning("failed: two\n  lines; next attempt in 1s", extra={"task": "a"})
    (said,) = everything(pipe, handler)
    assert said.endswith(line)


def test_no_control_character_reaches_a_terminal(log_to: type[LogHandler], pipe: tuple[int, int]) -> None:
    handler = log_to("text", pipe[1])
    log.info("a\x1b[31mb\udcff", extra={"task": "c\nd"})
    (said,) = everything(pipe, handler)
    assert said.endswith(" info c␊d: a␛[31mb\ufffd")


def test_a_json_line_of_no_task_has_none(log_to: type[LogHandler], pipe: tuple[int, int]) -> None:
    handler = log_to("json", pipe[1])
    log.info("ready")
    (said,) = everything(pipe, handler)
    event = json.loads(said)
    assert event == {"time": event["time"], "level": "info", "message": "ready"}


def test_lines_go_to_stderr_once_that_is_set_up(capfd: pytest.CaptureFixture[str]) -> None:
    before = log.propagate, log.level
    handler = set_up_logging("text")
    log.info("ready")
    handler.close()
    log.removeHandler(handler)
    log.propagate = before[0]
    log.setLevel(before[1])
    assert capfd.readouterr().err.endswith(" info ready\n")


def fill(pipe: tuple[int, int]) -> int:
    """Leave no room in a pipe; returns the bytes that were put there."""
    os.set_blocking(pipe[1], False)
    filled = 0
    try:
        while True:
            filled += os.write(pipe[1], b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(pipe[1], True)
        return filled


def test_a_pipe_that_nobody_reads_holds_up_nobody(log_to: type[LogHandler], pipe: tuple[int, int]) -> None:
    filled = fill(pipe)
    handler = log_to("text", pipe[1])
    began = time.monotonic()
    log.info("0")
    wait_until(lambda: handler._lines.empty())  # noqa: SLF001 (the first one is being written)
    for number in range(1, MOST_WAITING + 501):
        log.info("%d", number)
    assert time.monotonic() - began < 5
    while filled:
        filled -= len(os.read(pipe[0], min(filled, 1 << 16)))
    said = [line.partition(" ")[2] for line in everything(pipe, handler)]
    notice = "warn 500 log lines were dropped: stderr did not take them"
    assert said == [*(f"info {number}" for number in range(MOST_WAITING + 1)), notice]


def test_dropped_lines_are_told_once(log_to: type[LogHandler], pipe: tuple[int, int]) -> None:
    filled = fill(pipe)
    handler = log_to("text", pipe[1])
    for number in range(MOST_WAITING + 2):
        log.info("%d", number)
    while filled:
        filled -= len(os.read(pipe[0], min(filled, 1 << 16)))
    said = everything(pipe, handler)
    assert len([line for line in said if "dropped" in line]) == 1


def test_closing_does_not_wait_for_ever(
    log_to: type[LogHandler], pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubectl_sidecar.status.log, "CLOSING_SECONDS", 0.1)
    fill(pipe)
    handler = log_to("text", pipe[1])
    log.info("never read")
    began = time.monotonic()
    handler.close()
    assert time.monotonic() - began > 0.09
    handler.close()  # as logging does at the end of the program
    assert time.monotonic() - began < 5


def test_a_reader_that_has_gone_ends_nothing(log_to: type[LogHandler]) -> None:
    read, write = os.pipe()
    os.close(read)
    handler = log_to("text", write)
    log.info("lost")
    log.info("lost as well")
    handler.close()
    os.close(write)


def test_lines_that_a_full_disk_took_are_counted(log_to: type[LogHandler], tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open("/dev/full", os.O_WRONLY)
    handler = log_to("text", fd)
    log.info("first")
    log.info("second")
    wait_until(lambda: handler._lines.empty())  # noqa: SLF001 (the second one may be on its way)
    with path.open("wb") as file:
        os.dup2(file.fileno(), fd)
    log.info("third")
    handler.close()
    os.close(fd)
    *kept, told = path.read_text().splitlines()
    assert kept[-1].endswith(" info third")
    assert told.endswith(f" warn {3 - len(kept)} log lines were dropped: stderr did not take them")
