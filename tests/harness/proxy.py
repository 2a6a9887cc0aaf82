"""A network that fails on demand: a proxy between kubectl and the API server."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.harness.access import ServiceAccount
from tests.harness.certificates import write_kubeconfig

RESET = struct.pack("ii", 1, 0)


class Connection:
    """One TCP connection through the proxy, with a thread that forwards both ways."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.is_swallowed = False
        self._proxy = proxy
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self.client, self.server, contextlib.suppress(OSError):
            while self._forward():
                pass

    def _forward(self) -> bool:
        for source in self._readable():
            target = self.server if source is self.client else self.client
            try:
                data = source.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                return False
            self._proxy.flows.wait()
            if source is self.server:
                time.sleep(self._proxy.delay)
            if self.is_swallowed:
                continue
            if source is self.server and self._proxy.cuts and len(data) > 1:
                # The middle of an event, and with TLS of a record.
                self._proxy.cuts = False
                target.sendall(data[: len(data) // 2])
                return False
            target.sendall(data)
        return True

    def _readable(self) -> Iterable[socket.socket]:
        if isinstance(self.server, ssl.SSLSocket) and self.server.pending():
            return [self.server]
        return select.select([self.client, self.server], [], [])[0]

    def close(self) -> None:
        """FIN to both sides."""
        self._end(socket.SHUT_RDWR)

    def reset(self) -> None:
        """RST to both sides."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        # It sends nothing, and wakes the thread, whose close then resets.
        self._end(socket.SHUT_RD)

    def _end(self, how: int) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(how)


class Proxy:
    """What kubectl takes for the API server.

    A `plain` one is spoken to in HTTP/1.1 without TLS, and is the administrator to the API server: it can put
    words into its mouth.
    """

    def __init__(self, account: ServiceAccount, *, plain: bool = False) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self.cuts = False
        """The next answer is cut in its middle."""
        self.delay = 0.0
        """Seconds that each part of an answer takes longer."""
        self._plain = plain
        self._account = account
        self._plane = account.control_plane
        self._connections: list[Connection] = []
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server((self._plane.network.address, port))
        self._thread = threading.Thread(target=self._accept, args=[listener], daemon=True)
        self._thread.start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    self._connections.append(Connection(self, client, self._server()))
                except OSError:
                    client.close()

    def _server(self) -> socket.socket:
        address = self._plane.network.address
        server = socket.create_connection((address, self._plane.port))
        if not self._plain:
            return server
        context = ssl.create_default_context(cafile=str(self._plane.authority.certificate))
        # kubectl sends no token without TLS.
        admin = self._plane.directory / "admin"
        context.load_cert_chain(admin.with_suffix(".crt"), admin.with_suffix(".key"))
        wrapped = context.wrap_socket(server, server_hostname=address)
        # What can be read may be of TLS itself, with no data behind it.
        wrapped.settimeout(0.05)
        return wrapped

    def kubeconfig(self) -> Path:
        """That of the account, with the proxy in place of the API server."""
        path = self._account.directory / f"kubeconfig-{self._port}"
        cluster = {"server": f"http://{self._plane.network.address}:{self._port}"}
        if not self._plain:
            cluster["server"] = cluster["server"].replace("http", "https")
            cluster["certificate-authority"] = str(self._plane.authority.certificate)
        user = {"tokenFile": str(self._account.token_file)}
        return write_kubeconfig(path, cluster, user, self._account.namespace)

    def _alive(self) -> list[Connection]:
        self._connections = [each for each in self._connections if each.thread.is_alive()]
        return self._connections

    def reset(self) -> None:
        """Reset every connection."""
        for connection in self._alive():
            connection.reset()

    def close_connections(self) -> None:
        """End every connection in order, as TCP goes."""
        for connection in self._alive():
            connection.close()

    def say(self, text: str) -> None:
        """Send a chunk of an answer, as the API server would; every connection must be in one: a watch."""
        self._send(b"%x\r\n%s\r\n" % (len(text), text.encode()))

    def end_answers(self) -> None:
        """End the answers in order, as the API server ends a watch of some age."""
        self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        for connection in self._alive():
            connection.client.sendall(data)

    def swallow(self) -> None:
        """From now on nothing arrives over the connections there are; new ones are fine."""
        for connection in self._alive():
            connection.is_swallowed = True

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Nothing arrives for a while, and nothing says so."""
        self.flows.clear()
        try:
            yield
        finally:
            self.flows.set()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens for a while, and the connections that were are reset."""
        self._stop_listening()
        self.reset()
        try:
            yield
        finally:
            self._listener = self._listen(self._port)

    def _stop_listening(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def close(self) -> None:
        """End it."""
        self.flows.set()
        self._stop_listening()
        self.reset()
        for connection in self._connections:
            connection.thread.join()
