"""A real node: kubelet and containerd, in namespaces that end with the tests and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.harness import gobuild, packages
from tests.harness.control_plane import ControlPlane
from tests.harness.network import Network
from tests.harness.processes import Process, children
from tests.harness.waiting import wait_until

NAME = "node1"
PAUSE = "localhost/pause:1"
SERVICE_ADDRESS = "10.0.0.1"
PROGRAMS = {"runc": "runc", "ip": "iproute2", "nsenter": "util-linux"}
BUILT = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
)
CNI_PLUGINS = Path("/usr/lib/cni")
READY_SECONDS = 120.0
# What would be left on the machine goes where nobody else sees it, and ends with the namespace.
PRIVATE = ("/run", "/var/lib/cni", "/var/log")

CNI = {
    "cniVersion": "1.0.0",
    "name": "test",
    "plugins": [
        {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
CONTAINERD = """\
version = 3
root = "{0}/containerd"
state = "{0}/containerd-state"
[grpc]
  address = "{0}/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{1}"
[plugins.'io.containerd.cri.v1.runtime']
  # Lowering an oom_score_adj needs a capability that a container on a test machine may lack.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{2}"]
    conf_dir = "{0}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    options = {{SystemdCgroup = false}}
"""


class ServiceNetwork(Network):
    """The API server listens where Pods look for it without a kube-proxy: at its service's address."""

    def __init__(self) -> None:
        super().__init__()
        if self.own:
            ip = packages.find("ip")
            subprocess.run([str(ip), "address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo"], check=True)

    def port(self, usual: int) -> int:
        return 443 if usual == 6443 else super().port(usual)


class Node:
    """Everything lives in `directory`, and in PID and mount namespaces that are gone when stop() returns."""

    def __init__(self, directory: Path, plane: ControlPlane, images: Sequence[Path]) -> None:
        self.directory = directory
        self._plane = plane
        self._programs = {name: gobuild.program(name) for name in BUILT}
        folders = {str(path.parent) for path in self._programs.values()}
        self._environment = {
            **os.environ,
            "PATH": ":".join([*sorted(folders), os.environ["PATH"], "/usr/sbin:/sbin"]),
        }
        self._running: list[Process] = []
        self._init = self._make_namespaces()
        self._start_controllers()
        self._start_containerd()
        for image in images:
            self.ctr("images", "import", str(image))
        self._start_kubelet()
        plane.kubectl("wait", "--for=create", f"node/{NAME}", "--timeout=60s")
        plane.kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=60s")

    def ctr(self, *arguments: str) -> str:
        """What containerd's own client prints."""
        command = [
            "ctr",
            "--address",
            f"{self.directory}/containerd.sock",
            "--namespace",
            "k8s.io",
            *arguments,
        ]
        done = subprocess.run(
            self._inside(command), env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def log_of(self, pod: str, container: str) -> Path:
        """The file with what a container says, which needs no API server to be read."""
        (log,) = self.directory.glob(f"pod-logs/*_{pod}_*/{container}/0.log")
        return log

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """What containerd reports while the block runs."""
        command = ["ctr", "--address", f"{self.directory}/containerd.sock", "--namespace", "k8s.io", "events"]
        process = Process(self._inside(command), self.directory / "events.log", env=self._environment)
        try:
            yield Events(process.log)
        finally:
            process.stop(signal.SIGKILL)

    def kill_time(self, container: str) -> float:
        """When the kubelet asked a container to end."""
        log = (self.directory / "kubelet.log").read_text()
        line = rf'^I(\d{{4}} \S+)(\.\d+) .*"Killing container with a grace period".*{container}'
        found = re.search(line, log, re.MULTILINE)
        assert found, f"the kubelet did not kill {container}"
        # Its log knows no year, and the machine's time zone.
        moment = time.strptime(f"{time.localtime().tm_year} {found[1]}", "%Y %m%d %H:%M:%S")
        return time.mktime(moment) + float(found[2])

    def stop(self) -> None:
        """End the first process of the PID namespace, and with it kubelet, containerd and every container."""
        for process in reversed(self._running):
            process.stop(signal.SIGKILL)
        wait_until(lambda: not _alive(self._init), 30, "the node's processes did not end")
        remove_cgroups()

    def _make_namespaces(self) -> int:
        """Return the PID of a process whose namespaces are the node's."""
        mounts = "".join(f"mkdir -p {path}; mount -t tmpfs tmpfs {path}; " for path in PRIVATE)
        options = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]
        script = f"{mounts}mkdir /run/netns /run/lock; exec sleep infinity"
        process = self._start("namespaces", ["unshare", *options, "--", "sh", "-ec", script])

        def asleep() -> int:
            process.assert_running()
            inside = list(children(process.pid))
            return inside[0] if inside and _command(inside[0]) == "sleep" else 0

        return wait_until(asleep, what="no namespaces for the node")

    def _start_controllers(self) -> None:
        for name in ("kube-controller-manager", "kube-scheduler"):
            config = self._plane.kubeconfig_for(name, f"/CN=system:{name}")
            options = [f"--kubeconfig={config}", "--leader-elect=false"]
            if name == "kube-controller-manager":
                options += [
                    f"--service-account-private-key-file={self._plane.signing_key}",
                    f"--root-ca-file={self._plane.authority.certificate}",
                    "--use-service-account-credentials",
                    "--controllers=*,-node-ipam-controller",
                ]
            self._start(name, [str(self._programs[name]), *options])

    def _start_containerd(self) -> None:
        (self.directory / "cni").mkdir()
        (self.directory / "cni/10.conflist").write_text(json.dumps(CNI))
        config = self.directory / "containerd.toml"
        config.write_text(CONTAINERD.format(self.directory, PAUSE, CNI_PLUGINS))
        process = self._start("containerd", self._inside(["containerd", "--config", str(config)]))

        def ready() -> None:
            process.assert_running()
            self.ctr("version")

        wait_until(ready, READY_SECONDS, "containerd is not ready", interval=0.1)

    def _start_kubelet(self) -> None:
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{self.directory}/containerd.sock",
            "enforceNodeAllocatable": [],
            # The machine's own disk may be as full as it likes.
            "evictionHard": {
                "memory.available": "1Mi",
                "nodefs.available": "0%",
                "imagefs.available": "0%",
                "nodefs.inodesFree": "0%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "oomScoreAdj": 0,
            "podLogsDir": str(self.directory / "pod-logs"),
            "resolvConf": "",
            "volumePluginDir": str(self.directory / "volume-plugins"),
        }
        path = self.directory / "kubelet.json"
        path.write_text(json.dumps(config))
        kubeconfig = self._plane.kubeconfig_for("kubelet", f"/O=system:nodes/CN=system:node:{NAME}")
        options = [f"--config={path}", f"--kubeconfig={kubeconfig}", f"--hostname-override={NAME}"]
        options += [f"--root-dir={self.directory}/kubelet", f"--cert-dir={self.directory}/kubelet-pki"]
        options += [f"--node-ip={self._plane.network.address}", "--v=2"]
        self._start("kubelet", self._inside(["kubelet", *options]))

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--pid", "--mount", "--", *command]

    def _start(self, name: str, command: Sequence[str]) -> Process:
        process = Process(command, self.directory / f"{name}.log", env=self._environment)
        self._running.append(process)
        return process


class Events:
    """The log of containerd's events."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def exit_time(self, container: str) -> float:
        """When the first process of a container ended."""

        line = re.compile(rf'/tasks/exit .*"id":"{container}".*"seconds":(\d+),"nanos":(\d+)')
        wait_until(lambda: line.search(self._log.read_text()), what=f"no end of {container} was reported")
        seconds, nanoseconds = line.findall(self._log.read_text())[0]
        return int(seconds) + int(nanoseconds) / 1e9


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def remove_cgroups() -> None:
    """Remove the empty control groups that a kubelet leaves."""
    for top in Path("/sys/fs/cgroup").glob("**/kubepods"):
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()


@contextlib.contextmanager
def node(directory: Path, plane: ControlPlane, images: Sequence[Path]) -> Iterator[Node]:
    """A node that is ended however the block ends."""
    running = Node(directory, plane, images)
    try:
        yield running
    finally:
        running.stop()
