"""What kubectl needs around it: kubeconfig, environment, discovery cache."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

# One-shot kubectls are short and small: without the garbage collector, and on one core, they need a sixth
# less CPU. GOMEMLIMIT switches the collector on again for a large list: 2,000 ConfigMaps need no more CPU
# than by default, and less memory.
_SHORT_LIVED = {"GOGC": "off", "GOMAXPROCS": "1", "GOMEMLIMIT": "64MiB"}
_LONG_LIVED = {"GOGC": "50", "HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10", "HTTP2_PING_TIMEOUT_SECONDS": "5"}
# Seconds that what kubectl knows of the server's types may be old.
_LONGEST_CACHED = 600.0
NO_CACHE = (
    "no writable directory for kubectl's discovery cache (tried %s): each refresh costs three API requests"
    " instead of one; mount an emptyDir at /tmp"
)


def in_cluster_kubeconfig(environ: Mapping[str, str], service_account: str = SERVICE_ACCOUNT) -> str | None:
    """Return a kubeconfig that says what kubectl's own in-cluster configuration would; None: it has another.

    kubectl's own is dropped without a word as soon as a flag like --request-timeout or --as is given
    (kubernetes#49343). The token is given by its path, so that rotation is followed. The namespace is found
    as client-go's tools/clientcmd/client_config.go does: $POD_NAMESPACE, else the service account's.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    own = environ.get("KUBECONFIG") or os.path.exists(f"{environ.get('HOME', '')}/.kube/config")
    if own or not (host and port and os.path.exists(f"{service_account}/token")):
        return None
    address = f"[{host}]" if ":" in host else host
    namespace = environ.get("POD_NAMESPACE")
    with contextlib.suppress(OSError), open(f"{service_account}/namespace", encoding="utf-8") as file:
        namespace = namespace or file.read().strip()
    cluster = {"server": f"https://{address}:{port}", "certificate-authority": f"{service_account}/ca.crt"}
    context = {"cluster": "in-cluster", "user": "in-cluster", "namespace": namespace or "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "in-cluster", "cluster": cluster}],
        "users": [{"name": "in-cluster", "user": {"tokenFile": f"{service_account}/token"}}],
        "contexts": [{"name": "in-cluster", "context": context}],
        "current-context": "in-cluster",
    }
    return json.dumps(config)


def problem(environ: Mapping[str, str]) -> str | None:
    """Return what is wrong with KUBECONFIG; None: nothing, or it is not set.

    kubectl passes over files of the list that do not exist. When that is all of them, it goes on with the
    Pod's service account or, outside a cluster, with localhost:8080.
    """
    paths = environ.get("KUBECONFIG", "")
    if not paths or any(path and os.path.exists(path) for path in paths.split(os.pathsep)):
        return None
    return "KUBECONFIG names no file that exists, and kubectl goes on as if it were not set"


def stage_environment(
    environ: Mapping[str, str],
    memory_file: Callable[[str], int],
    cache: str | None,
    service_account: str = SERVICE_ACCOUNT,
) -> dict[str, str]:
    """Return the environment of every stage, in a cluster with a kubeconfig of ours; raises RefreshFailed.

    What is set in `environ` already wins. `memory_file` returns a new file of that name.
    """
    # KUBERC: since 1.34 a ~/.kube/kuberc may change what a command prints. KUBECACHEDIR: without one, kubectl
    # would put a cache under $HOME, or into the working directory: into the app's volume, perhaps.
    added = {**_SHORT_LIVED, "KUBERC": "off", "KUBECACHEDIR": cache or "/dev/null"}
    if config := in_cluster_kubeconfig(environ, service_account):
        # Children of the same user can read it by this path for as long as this process lives.
        fd = memory_file("kubeconfig")
        os.write(fd, config.encode())
        added["KUBECONFIG"] = f"/proc/{os.getpid()}/fd/{fd}"
    return {**added, **{name: value for name, value in environ.items() if value or name not in added}}


def watch_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a kubectl that lives long: with garbage collection, and pings."""
    kept = {name: value for name, value in environment.items() if _SHORT_LIVED.get(name) != value}
    return {**_LONG_LIVED, **kept}


class DiscoveryCache:
    """Forget in time what kubectl remembers of the types that the server knows: it would for six hours."""

    def __init__(self, directory: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Take over the KUBECACHEDIR that is ours alone; None: there is none, and nothing is ever dropped."""
        self._directory = directory
        self._clock = clock
        self._begun = clock()

    def expire(self) -> None:
        """Drop what may be too old. To be called before each refresh; it costs nothing when there is none."""
        if self._clock() - self._begun >= _LONGEST_CACHED:
            self.drop()

    def drop(self) -> None:
        """Let the next kubectl ask for the server's types; the cache of HTTP answers beside makes that cheap.

        Any number of kubectls may be using it: by its name they find it whole, or not at all.
        """
        self._begun = self._clock()
        if self._directory is not None:
            old = f"{self._directory}/discovery.old"
            shutil.rmtree(old, ignore_errors=True)  # of the last time, if a kubectl was writing into it
            with contextlib.suppress(OSError):
                os.rename(f"{self._directory}/discovery", old)
            shutil.rmtree(old, ignore_errors=True)
