"""The status command: the status document as a table for people, or as it is."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubectl_sidecar import flags
from kubectl_sidecar.document import Document, Unreadable, find, from_rfc3339
from kubectl_sidecar.errors import InvalidInput, Problem, SidecarError
from kubectl_sidecar.health import health as print_health
from kubectl_sidecar.health import paths, unhealthy
from kubectl_sidecar.shutdown import STOP_SIGNALS, Signals

_COLUMNS = ("OUTPUT", "STATE", "AGE", "CHANGED", "FAILURES", "NEXT", "ERROR")
_EVERY = 1.0
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def health(given: argparse.Namespace, environ: Mapping[str, str], _: Signals) -> int:
    """Run the health command with whatever flags it has."""
    problems: list[Problem] = []
    values = flags.values([flags.MAX_AGE], vars(given), environ, problems)
    if problems:
        raise InvalidInput(problems)
    return print_health(given.probe, values["max_age"], given.status_file, environ)


def status(given: argparse.Namespace, environ: Mapping[str, str], signals: Signals) -> int:
    """Print the document; returns the exit status."""
    places = paths(given.status_file, environ)
    if given.watch:
        return _watch(places, signals)
    document = _read(places)
    text = (
        document.text
        if given.form == "json"
        else "".join(f"{line}\n" for line in lines(document, time.time()))
    )
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def _read(places: Sequence[str]) -> Document:
    try:
        return find(places)
    except Unreadable as error:
        raise SidecarError(str(error)) from None


def _watch(places: Sequence[str], signals: Signals) -> int:
    if not sys.stdout.isatty():
        raise InvalidInput(
            [Problem("--watch", "stdout is no terminal; use kubectl exec -it, or leave --watch out")]
        )
    signals.hold()
    while True:
        try:
            shown = list(lines(find(places), time.time()))
        except Unreadable as error:
            shown = [str(error)]
        size = os.get_terminal_size()
        visible = [f"{line[: size.columns]}{_CLEAR_LINE}" for line in shown[: size.lines - 1]]
        sys.stdout.write("\n".join([_HOME + visible[0], *visible[1:], _CLEAR_BELOW]))
        sys.stdout.flush()
        if STOP_SIGNALS.intersection(signals.wait(_EVERY)):
            return 0


def lines(document: Document, now: float) -> Iterator[str]:
    """Yield the table, and what is wrong with the whole of it."""
    problem = unhealthy(document, "liveness", None, time.clock_gettime(time.CLOCK_BOOTTIME))
    if problem:
        yield f"not alive: {problem}"
    rows = [_COLUMNS, *(_row(task, document.content["stuck"], now) for task in document.content["tasks"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if refused := document.content["reloadError"]:
        yield "the last reload was refused, the tasks above go on:"
        yield from refused.splitlines()


def _row(task: Mapping[str, Any], stuck: Sequence[str], now: float) -> tuple[str, ...]:
    def ago(name: str) -> str:
        return "-" if task[name] is None else short(now - from_rfc3339(task[name]))

    next_attempt = "-" if task["nextAttempt"] is None else short(from_rfc3339(task["nextAttempt"]) - now)
    state = "stuck" if task["output"] in stuck else task["state"]
    return (
        task["output"],
        state if task["required"] else f"{state} (optional)",
        ago("lastSuccess"),
        ago("lastChange"),
        str(task["failures"]),
        next_attempt,
        task["lastError"] or "-",
    )


def short(seconds: float) -> str:
    """12s, 4m10s, 3h5m, 9d4h: the two largest units."""
    left = max(round(seconds), 0)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return "".join(part for part in parts[:2] if not part.startswith("0")) or "0s"
