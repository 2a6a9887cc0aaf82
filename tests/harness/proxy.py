"""A network that fails on demand: a proxy between kubectl and the API server."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.harness.access import ServiceAccount
from tests.harness.certificates import write_kubeconfig
from tests.harness.control_plane import ControlPlane


class Connection:
    """One TCP connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def forward(self, proxy: Proxy, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(1 << 16):
                proxy.flows.wait()
                if source is self.server and proxy.cuts and len(data) > 1:
                    # The middle of an event, and with TLS of a record.
                    proxy.cuts = False
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        self.close()

    def close(self) -> None:
        """FIN to both sides."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """RST to both sides."""
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
        for end in (self.client, self.server):
            end.close()


class Proxy:
    """Forwards to the API server. `terminating` TLS, it speaks HTTP/1.1 and can put words into the server's mouth."""

    def __init__(self, plane: ControlPlane, *, terminating: bool = False) -> None:
        self.flows = threading.Event()
        self.flows.set()
        self.cuts = False
        """The next answer is cut in its middle."""
        self._plane = plane
        self._contexts = self._tls() if terminating else None
        self._connections: list[Connection] = []
        self._listener = socket.create_server((plane.network.address, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def _tls(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        authority = self._plane.authority
        own = authority.issue(
            f"proxy-{os.urandom(4).hex()}", "/CN=proxy", f"IP:{self._plane.network.address}"
        )
        inbound = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        inbound.load_cert_chain(own.certificate, own.key)
        inbound.set_alpn_protocols(["http/1.1"])
        return inbound, ssl.create_default_context(cafile=str(authority.certificate))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._connect, args=[client], daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        address = self._plane.network.address
        try:
            server = socket.create_connection((address, self._plane.port))
            if self._contexts:
                client = self._contexts[0].wrap_socket(client, server_side=True)
                server = self._contexts[1].wrap_socket(server, server_hostname=address)
        except OSError:
            client.close()
            return
        connection = Connection(client, server)
        self._connections.append(connection)
        threading.Thread(target=connection.forward, args=[self, client, server], daemon=True).start()
        connection.forward(self, server, client)
        self._connections.remove(connection)

    def kubeconfig(self, account: ServiceAccount) -> Path:
        """That of an account, with the proxy in place of the API server."""
        path = account.directory / f"kubeconfig-{self.port}"
        user = {"tokenFile": str(account.token_file)}
        server = f"https://{self._plane.network.address}:{self.port}"
        return write_kubeconfig(path, server, self._plane.authority.certificate, user, account.namespace)

    def reset(self) -> None:
        """Reset every connection."""
        for connection in list(self._connections):
            connection.reset()

    def close_connections(self) -> None:
        """End every connection in order, as TCP goes."""
        for connection in list(self._connections):
            connection.close()

    def say(self, text: str) -> None:
        """Send a chunk of an answer, as the server would, on every connection: those of a watch are in one."""
        chunk = text.encode()
        for connection in list(self._connections):
            connection.client.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Nothing arrives, and nothing says so."""
        self.flows.clear()
        try:
            yield
        finally:
            self.flows.set()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens, and the connections that were are reset."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        try:
            yield
        finally:
            self._listener = socket.create_server((self._plane.network.address, self.port))
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        """End it."""
        self.flows.set()
        self._listener.close()
        self.reset()
