"""A server that knows Pods and Namespaces, and answers for each object what it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_VERBS = ["get", "list", "watch"]
_DISCOVERY = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": _VERBS},
            {
                "name": "namespaces",
                "singularName": "namespace",
                "namespaced": False,
                "kind": "Namespace",
                "verbs": _VERBS,
            },
        ],
    },
}


def status(code: int, reason: str, message: str, **details: str) -> tuple[int, str, str]:
    """Build the answer of a real API server that says no."""
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    document |= {"reason": reason, "message": message, "details": details}
    return code, "application/json", json.dumps(document)


def not_found(kinds: str, name: str) -> tuple[int, str, str]:
    return status(404, "NotFound", f'{kinds} "{name}" not found', kind=kinds, name=name)


class Answers(ThreadingHTTPServer):
    """`answers[name]` is the code, type and text for the object of that name."""

    answers: dict[str, tuple[int, str, str]]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        code, kind, text = 200, "application/json", json.dumps(_DISCOVERY.get(path))
        if path not in _DISCOVERY:
            code, kind, text = self.server.answers[path.rpartition("/")[2]]
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Answers]:
    with Answers(("127.0.0.1", 0), _Handler) as server:
        server.answers = {}
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
