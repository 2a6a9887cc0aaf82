"""A web server of the tests that answers as it is told, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What it answers, and what came."""

    url: str
    # The statuses of the answers: one after the other, then the last one for ever.
    statuses: list[int]
    # Of each request, as it came: `POST /path?query`, and its headers.
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    # While it is clear, no answer is given.
    open: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def web(*statuses: int, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve on a free port for the duration of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.requests.append(f"{self.command} {self.path}")
            served.headers.append({name.lower(): value for name, value in self.headers.items()})
            served.open.wait()
            status = served.statuses[0] if len(served.statuses) == 1 else served.statuses.pop(0)
            self.send_response(status)
            self.send_header("Location", f"{served.url}/elsewhere")
            self.end_headers()
            with contextlib.suppress(OSError):  # nobody reads it
                self.wfile.write(b"x" * (1 << 20))

        do_GET = do_POST  # noqa: N815 (the library's name)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((address, 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # who asked has gone
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    served = Web(f"{'https' if tls else 'http'}://{address}:{server.server_port}", list(statuses))
    served.open.set()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        served.open.set()
        server.shutdown()
        thread.join()
        server.server_close()
