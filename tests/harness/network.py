"""A network namespace of this process's own: nothing is reachable from outside, and no two runs collide."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.harness.packages import find

ADDRESS = "10.77.0.1"
CLONE_NEWNET = 0x4000_0000


class Network:
    """Where the control plane listens.

    The calling thread moves into a new namespace that has only a loopback interface, and every process and
    thread that it starts from then on is there too. Where that is not permitted (`own` is false) it is
    127.0.0.1 and free ports. What needs the outer network, as a download or an image build, runs inside
    `with network.outside():`.
    """

    def __init__(self) -> None:
        self._outer = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.own = _call("unshare", CLONE_NEWNET)
        self.address = ADDRESS if self.own else "127.0.0.1"
        if self.own:
            _ip("link", "set", "lo", "up")
            # Not a loopback address: a kubelet refuses those for its node.
            _ip("address", "add", f"{ADDRESS}/32", "dev", "lo")

    def port(self, usual: int) -> int:
        """The usual port where it is ours for certain, else a free one."""
        if self.own:
            return usual
        with socket.socket() as probe:
            probe.bind((self.address, 0))
            port: int = probe.getsockname()[1]
            return port

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Be in the outer network for a while."""
        inner = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._enter(self._outer)
            yield
        finally:
            self._enter(inner)
            os.close(inner)

    def leave(self) -> None:
        """Go back for good; the namespace ends with its last process."""
        self._enter(self._outer)
        os.close(self._outer)

    def _enter(self, namespace: int) -> None:
        if self.own and not _call("setns", namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot change the network namespace")


def _call(function: str, *arguments: int) -> bool:
    # os.unshare and os.setns came with Python 3.12.
    return bool(ctypes.CDLL(None, use_errno=True)[function](*arguments) == 0)


def _ip(*arguments: str) -> None:
    program = find("ip")
    assert program, "the program ip is missing: install the package iproute2"
    subprocess.run([Path(program), *arguments], check=True)
