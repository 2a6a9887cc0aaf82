"""A line of `kubectl get --watch --output-watch-events --output=json`, and the object that it tells of."""

from __future__ import annotations

import json
import re

from kubectl_sidecar.errors import RefreshFailed

_EVENT = re.compile(r'\{"type":"([A-Z]+)","object":(\{.*\})\}\n')


def read_event(line: bytes, *, with_managed_fields: bool) -> bytes | None:
    """Return the object as kubectl wrote it, each number as it came; None: it has been deleted.

    Without managed fields it is what `kubectl get --output=json` shows: in events kubectl leaves them.
    Raises RefreshFailed for an ERROR event, which is the server's end of the watch, and for other lines.
    """
    event = _EVENT.fullmatch(line.decode(errors="replace"))
    if not event:
        raise RefreshFailed("kubectl has written a line that is no event of a watch")
    kind, text = event.groups()
    if kind == "DELETED":
        return None
    try:
        if kind == "ERROR":
            raise RefreshFailed(f"the server has ended the watch: {json.loads(text).get('message')}")
        return f"{text if with_managed_fields else _without_managed_fields(text)}\n".encode()
    except (ValueError, RecursionError) as error:
        raise RefreshFailed("the object is nested too deeply, or a number in it is too long") from error


def _without_managed_fields(text: str) -> str:
    metadata = _member(text, 0, "metadata")
    fields = _member(text, metadata[1], "managedFields") if metadata else None
    if fields is None:
        return text
    begin, _, end = fields
    return text[: begin + 1] + text[end + 1 :]  # keys are sorted: `name` comes behind it


def _member(text: str, at: int, name: str) -> tuple[int, int, int] | None:
    """Find a member of the JSON object at an offset: where it, its value and what is behind them begin."""
    decode = json.JSONDecoder().raw_decode
    while text[at] != "}":
        key, colon = decode(text, at + 1)
        _, end = decode(text, colon + 1)
        if key == name:
            return at, colon + 1, end
        at = end
    return None
