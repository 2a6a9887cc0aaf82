"""A real etcd and kube-apiserver, with RBAC, service account tokens and an audit log, ready in seconds."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import audit
from tests.harness.certificates import Authority, write_kubeconfig
from tests.harness.network import Network
from tests.harness.processes import Process
from tests.harness.waiting import wait_until

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Programs:
    """What it is made of."""

    etcd: Path
    api_server: Path
    kubectl: Path


class ControlPlane:
    """Everything lives in `directory`; stop() ends the processes, the directory is the caller's.

    More servers and nodes can join: `authority` issues their certificates, `kubeconfig_for` makes them a
    kubeconfig with one, `signing_key` is what tokens are signed with.
    """

    def __init__(self, directory: Path, network: Network, programs: Programs) -> None:
        self.directory = directory
        self.network = network
        self.port = network.port(6443)
        self.server = f"https://{network.address}:{self.port}"
        self.programs = programs
        self._etcd_url = f"http://127.0.0.1:{network.port(2379)}"
        self._numbers = itertools.count(1)
        self.authority = Authority(directory)
        self.signing_key = self.authority.signing_key("service-account")
        names = f"IP:127.0.0.1,IP:{network.address},IP:10.0.0.1,DNS:localhost,DNS:kubernetes.default.svc"
        self.cluster = {"server": self.server, "certificate-authority": str(self.authority.certificate)}
        self._serving = self.authority.issue("api-server", "/CN=kube-apiserver", names)
        self._admin = self.authority.issue("admin", "/O=system:masters/CN=admin")
        self.admin_kubeconfig = self._write_kubeconfig("admin", self._admin.user())
        (directory / "audit-policy.json").write_text(json.dumps(audit.POLICY))
        self._audit_log = directory / "audit.log"
        self._running: list[Process] = []

    @property
    def api_server(self) -> Process:
        return self._running[-1]

    def start(self) -> None:
        """Return when it answers requests."""
        self._running.append(self._start_etcd())
        self.start_api_server()

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints, as the administrator; raise with its stderr if it fails."""
        own = {"HOME": str(self.directory), "KUBECONFIG": str(self.admin_kubeconfig), "NO_PROXY": "*"}
        done = subprocess.run(
            [self.programs.kubectl, *arguments],
            input=stdin,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def request(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - it is JSON
        """One API request as the administrator, without the start-up time of kubectl."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(self._admin.certificate, self._admin.key)
        connection = http.client.HTTPSConnection(
            self.network.address, self.port, context=context, timeout=READY_SECONDS
        )
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text}"
        return json.loads(text) if text.startswith("{") else text

    def kubeconfig_for(self, name: str, subject: str) -> Path:
        """A kubeconfig with a new client certificate, for /O=group/CN=user."""
        return self._write_kubeconfig(name, self.authority.issue(name, subject).user())

    def create_node(self, name: str) -> None:
        """A Node object, with no machine behind it."""
        self.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})

    def audit_mark(self) -> int:
        """A point in time, for requests_since."""
        self._settle_audit_log()
        return self._audit_log.stat().st_size

    def requests_since(self, mark: int, user: str) -> list[audit.Request]:
        """The requests of a user that ended, or started to watch, after the mark."""
        self._settle_audit_log()
        return [request for request in audit.read_requests(self._audit_log, mark) if request.user == user]

    def restart_api_server(self) -> None:
        self.stop_api_server()
        self.start_api_server()

    def stop_api_server(self) -> None:
        """SIGTERM; the data stays in etcd."""
        self._running.pop().stop()

    def start_api_server(self) -> None:
        """At the same address each time."""
        process = self._launch_api_server()
        self._running.append(process)

        def ready() -> None:
            process.assert_running()
            try:
                self.request("GET", "/readyz")
            except OSError as error:
                raise AssertionError(str(error)) from error

        wait_until(
            ready, READY_SECONDS, f"the API server is not ready (its log: {process.log})", interval=0.1
        )

    def stop(self) -> None:
        # etcd last: without it the API server takes long to stop.
        while self._running:
            self._running.pop().stop()

    def _start_etcd(self) -> Process:
        peers = f"http://127.0.0.1:{self.network.port(2380)}"
        options = ["--data-dir", str(self.directory / "etcd"), "--unsafe-no-fsync"]
        options += ["--listen-client-urls", self._etcd_url, "--advertise-client-urls", self._etcd_url]
        options += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        options += ["--initial-cluster", f"default={peers}"]
        return Process([self.programs.etcd, *options], self.directory / "etcd.log")

    def _launch_api_server(self) -> Process:
        options = {
            "etcd-servers": self._etcd_url,
            "bind-address": "0.0.0.0" if self.network.own else self.network.address,  # noqa: S104
            "secure-port": self.port,
            "advertise-address": self.network.address,
            "endpoint-reconciler-type": "none",
            "tls-cert-file": self._serving.certificate,
            "tls-private-key-file": self._serving.key,
            "client-ca-file": self.authority.certificate,
            "service-account-key-file": self.signing_key,
            "service-account-signing-key-file": self.signing_key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "authorization-mode": "Node,RBAC",
            "service-cluster-ip-range": "10.0.0.0/24",
            "allow-privileged": "true",
            "kubelet-preferred-address-types": "InternalIP",
            "kubelet-client-certificate": self._admin.certificate,
            "kubelet-client-key": self._admin.key,
            "audit-policy-file": self.directory / "audit-policy.json",
            "audit-log-path": self._audit_log,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return Process([self.programs.api_server, *flags], self.directory / "api-server.log")

    def _write_kubeconfig(self, name: str, user: dict[str, str]) -> Path:
        path = self.directory / f"{name}.kubeconfig"
        return write_kubeconfig(path, self.cluster, user)

    def _settle_audit_log(self) -> None:
        """Wait until a request made now is logged: an event is written just after its answer was sent."""
        uri = f"/version?mark={next(self._numbers)}"
        start = self._audit_log.stat().st_size if self._audit_log.exists() else 0
        self.request("GET", uri)

        def logged() -> bool:
            return any(request.uri == uri for request in audit.read_requests(self._audit_log, start))

        wait_until(logged, what=f"{uri} is not in the audit log")


@contextlib.contextmanager
def control_plane(directory: Path, network: Network, programs: Programs) -> Iterator[ControlPlane]:
    """A control plane that is stopped however the block ends."""
    running = ControlPlane(directory, network, programs)
    try:
        running.start()
        yield running
    finally:
        running.stop()
