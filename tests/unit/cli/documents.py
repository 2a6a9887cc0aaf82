"""A status document, as this process would have written it just now."""

from __future__ import annotations

import json
import os

from kubectl_sidecar.status.document import moment, pid_namespace, process_start, rfc3339


def text(*, clock: float = 0.0, **fields: object) -> str:
    """`clock` is by how many seconds the clock was ahead then."""
    now, since_boot = moment()
    now += clock
    web = {
        "output": "web.json",
        "state": "ok",
        "required": True,
        "every": 30.0,
        "lastSuccess": rfc3339(now - 12),
        "lastChange": rfc3339(now - 3 * 86400 - 7200),
        "nextAttempt": rfc3339(now + 18),
        "failures": 0,
        "lastError": None,
    }
    node = {
        "output": "node-status.json",
        "state": "failing",
        "required": False,
        "every": 600.0,
        "lastSuccess": rfc3339(now - 3700),
        "lastChange": None,
        "nextAttempt": None,
        "failures": 4,
        "lastError": "kubectl exited with 1: no route to host",
    }
    never: dict[str, object] = dict.fromkeys(("lastSuccess", "lastChange", "nextAttempt"))
    new = {**web, "output": "new", "state": "starting", "required": False, **never}
    usual = {
        "version": 1,
        "time": rfc3339(now),
        "sinceBoot": since_boot,
        "pid": os.getpid(),
        "pidNamespace": pid_namespace(),
        "processStart": process_start(os.getpid()),
        "heartbeat": rfc3339(now),
        "reloadError": None,
        "tasks": [web, node, new],
    }
    return json.dumps({**usual, **fields}, indent=1) + "\n"
