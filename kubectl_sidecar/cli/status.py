"""The status command: the status document as a table for people, or as it is."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kubectl_sidecar.cli import flags
from kubectl_sidecar.errors import SidecarError, visible
from kubectl_sidecar.status.document import Document, Unreadable, find
from kubectl_sidecar.status.health import unhealthy

_DESCRIPTION = """\
Show what the kubectl-sidecar of this container is doing, task by task.

AGE: since the last success. CHANGED: since the content last changed. NEXT:
until the next attempt."""
_WATCH = "refresh the table every second, until Ctrl-C"
_FILE = "read this document instead of this container's own"
_COLUMNS = ("OUTPUT", "STATE", "AGE", "CHANGED", "FAILURES", "NEXT", "ERROR")
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the document; return the exit status."""
    parser = flags.parser("status", _DESCRIPTION)
    parser.add_argument("-o", choices=["table", "json"], default="table", dest="form", help="[table]")
    parser.add_argument("--watch", action="store_true", default=False, help=_WATCH)
    parser.add_argument("--status-file", metavar="PATH", default=None, help=_FILE)
    given = parser.parse_args(words)
    if given.watch and not sys.stdout.isatty():
        parser.error("--watch: stdout is no terminal; use kubectl exec -it, or leave --watch out")
    if given.watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(given.status_file, environ)
        return 0
    try:
        document = find(given.status_file, environ)
    except Unreadable as error:
        raise SidecarError(str(error)) from None
    if given.form == "json":
        print(document.text, end="")
    else:
        print(*lines(document), sep="\n")
    return 0


def _watch(status_file: str | None, environ: Mapping[str, str]) -> None:
    """Show the table anew every second, for ever."""
    while True:
        try:
            shown = list(lines(find(status_file, environ)))
        except Unreadable as error:
            shown = [str(error)]
        size = shutil.get_terminal_size()
        clipped = [f"{line[: size.columns]}{_CLEAR_LINE}" for line in shown[: max(size.lines - 1, 1)]]
        print(_HOME + "\n".join([*clipped, _CLEAR_BELOW]), end="", flush=True)
        time.sleep(1)


def lines(document: Document) -> Iterator[str]:
    """Yield the table, and what is wrong with the whole of it."""
    if problem := unhealthy(document, "liveness", None):
        yield f"not alive: {problem}"
    rows = [_COLUMNS, *(_row(task, document) for task in document.content["tasks"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()
    if refused := document.content["reloadError"]:
        yield "the last reload was refused, the tasks above go on:"
        yield from map(visible, refused.splitlines())


def _row(task: Mapping[str, Any], document: Document) -> tuple[str, ...]:
    def ago(name: str, sign: int = 1) -> str:
        return "-" if task[name] is None else short(sign * document.age(task[name]))

    # The hook says nothing about the output.
    hook_error = (task.get("hook") or {}).get("lastError")
    return (
        visible(task["output"]),
        task["state"] if task["required"] else f"{task['state']} (optional)",
        ago("lastSuccess"),
        ago("lastChange"),
        str(task["failures"]),
        ago("nextAttempt", -1),
        visible(task["lastError"] or (f"on-change: {hook_error}" if hook_error else "-")),
    )


def short(seconds: float) -> str:
    """Return 12s, 4m10s, 3h5m or 9d4h: the two largest units."""
    left = max(round(seconds), 0)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number}{unit}")
    return "".join(part for part in parts[:2] if not part.startswith("0")) or "0s"
