"""The API server's audit log: which requests were made, by whom."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # The API server's own requests to itself.
        {"level": "None", "users": ["system:apiserver"]},
        {"level": "Metadata"},
    ],
}


@dataclass(frozen=True)
class Request:
    """One request, whatever became of it."""

    user: str
    verb: str
    resource: str  # with its subresource: pods/status; empty for a path that is no resource
    name: str
    namespace: str
    uri: str
    status: int


def read_requests(log: Path, start: int) -> list[Request]:
    """The requests logged from byte `start` on, each once, in order."""
    with log.open("rb") as file:
        file.seek(start)
        # A last line without its newline is still being written.
        lines = [line for line in file if line.endswith(b"\n")]
    events: dict[str, dict[str, Any]] = {}
    for event in map(json.loads, lines):
        # A watch logs when it starts and again when it ends.
        events.setdefault(event["auditID"], event)
    return [_request(event) for event in events.values()]


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef", {})
    parts = [target[key] for key in ("resource", "subresource") if target.get(key)]
    return Request(
        user=event["user"]["username"],
        verb=event["verb"],
        resource="/".join(parts),
        name=target.get("name", ""),
        namespace=target.get("namespace", ""),
        uri=event["requestURI"],
        status=event.get("responseStatus", {}).get("code", 0),
    )
