"""Answer probes and Prometheus over HTTP, in one thread that no client can hold up."""

from __future__ import annotations

import itertools
import logging
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from kubectl_sidecar.retry import backoff
from kubectl_sidecar.status.document import Document
from kubectl_sidecar.status.health import unhealthy, verdict
from kubectl_sidecar.units import format_address, format_duration

log = logging.getLogger("kubectl_sidecar")

# http.server of the standard library would cost 2.9 MB, and a thread for each client.
_PROBES = {"/livez": "liveness", "/startupz": "startup", "/readyz": "readiness"}
# At once; the oldest makes way for one more.
_MOST_CLIENTS = 64
# As many may wait until they are clients. Any other one comes again after a second, which is as long as the
# kubelet waits for a probe.
_BACKLOG = 1024
# Seconds that one may take, from its connection to its end.
_PATIENCE = 5.0
# Bytes of a request with its headers, and about as much is read of what comes behind it.
_LONGEST_REQUEST = 8192
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_REQUEST_LINE = re.compile(r"([A-Z]+) (/[!->@-~]*)(?:\?[!-~]*)? HTTP/1\.[01]\r?\n")


class Server:
    """Listens until the program ends; where it cannot, it says so and tries again."""

    def __init__(
        self,
        address: tuple[str, int],
        document: Callable[[], str],
        metrics: Callable[[], bytes],
        max_age: float | None,
    ) -> None:
        """Answer with the probes' verdicts on `document`, `max_age` as in `unhealthy`, and with `metrics`."""
        self._address = address
        self._document = document
        self._metrics = metrics
        self._max_age = max_age
        self._selector = selectors.DefaultSelector()
        # The oldest first: until when it may stay, and what is left of its exchange.
        self._clients: dict[socket.socket, tuple[float, Iterator[int]]] = {}
        threading.Thread(target=self._run, name="http", daemon=True).start()

    def _run(self) -> None:
        for failures in itertools.count(1):
            try:
                with _listen(*self._address) as listener:
                    self._serve(listener)
            except OSError as error:
                delay = backoff(failures)
                where, why = format_address(*self._address), os.strerror(error.errno or 0)
                text = "--http: cannot listen on %s: %s; next attempt in %s"
                log.error(text, where, why, format_duration(delay))
                time.sleep(delay)

    def _serve(self, listener: socket.socket) -> None:
        """Serve until no more clients can be had: raises OSError."""
        log.info("http: listening on %s", format_address(*listener.getsockname()[:2]))
        self._selector.register(listener, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in self._selector.select(self._time_left()):
                    if key.fileobj is listener:
                        self._accept(listener)
                    elif key.data in self._clients:  # it has not made way since
                        self._go_on(key.data)
                while self._time_left() == 0:
                    self._drop(next(iter(self._clients)))
        finally:
            self._selector.unregister(listener)

    def _time_left(self) -> float | None:
        """Return the seconds that the oldest client has; None: there is no client."""
        for until, _ in self._clients.values():
            return max(0.0, until - time.monotonic())
        return None

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.setblocking(False)
        if len(self._clients) == _MOST_CLIENTS:
            self._drop(next(iter(self._clients)))
        self._clients[client] = time.monotonic() + _PATIENCE, self._exchange(client)
        self._selector.register(client, selectors.EVENT_READ, client)
        self._go_on(client)

    def _go_on(self, client: socket.socket) -> None:
        try:
            self._selector.modify(client, next(self._clients[client][1]), client)
        except (StopIteration, OSError):
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()

    def _exchange(self, client: socket.socket) -> Iterator[int]:
        """Read a request, answer it, and wait for the client's end; yields the event that it waits for."""
        request = b""
        while not _END_OF_HEADERS.search(request) and len(request) < _LONGEST_REQUEST:
            yield selectors.EVENT_READ
            if not (received := client.recv(_LONGEST_REQUEST - len(request))):
                return
            request += received
        left = memoryview(self._answer(request))
        while left:
            yield selectors.EVENT_WRITE
            left = left[client.send(left) :]
        client.shutdown(socket.SHUT_WR)
        # While something is unread, close() resets the connection, and the client may lose the answer.
        for _ in range(_LONGEST_REQUEST // 1024):
            yield selectors.EVENT_READ
            if not client.recv(1024):
                return

    def _answer(self, request: bytes) -> bytes:
        """Return the response; HEAD gets its head alone."""
        match = _REQUEST_LINE.match(request.decode("latin-1"))
        if match is None or not _END_OF_HEADERS.search(request):
            text = f"this is no request of HTTP/1.x, or has {_LONGEST_REQUEST} bytes or more\n"
            return _response("400 Bad Request", text)
        method, path = match.groups()
        if method not in ("GET", "HEAD"):
            headers = "Allow: GET, HEAD\r\n"
            return _response("405 Method Not Allowed", f"{path} has GET and HEAD, no {method}\n", headers)
        response = self._page(path)
        return response if method == "GET" else response.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _page(self, path: str) -> bytes:
        if path == "/metrics":
            return _response("200 OK", self._metrics().decode(), kind="text/plain; version=0.0.4")
        if (probe := _PROBES.get(path)) is None:
            return _response("404 Not Found", f"there are {', '.join(_PROBES)} and /metrics\n")
        problem = unhealthy(Document("the status", self._document()), probe, self._max_age)
        status = "503 Service Unavailable" if problem else "200 OK"
        return _response(status, verdict(probe, problem) + "\n")


def _listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens, without an address or on :: on all of IPv4 and IPv6; raises OSError."""
    is_dual = address in ("", "::") and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual or ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual)
    listener.setblocking(False)
    return listener


def _response(status: str, text: str, headers: str = "", kind: str = "text/plain") -> bytes:
    body = text.encode(errors="replace")
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}Connection: close\r\n\r\n".encode() + body
