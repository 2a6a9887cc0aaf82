"""What kubectl needs around it: kubeconfig, cache directory, environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

# One-shot kubectls are short and small: without the garbage collector, and on one core, they need a sixth
# less CPU. GOMEMLIMIT switches the collector on again for a large list: 2,000 ConfigMaps need no more CPU
# than by default, and less memory. KUBERC=off: since 1.34 a ~/.kube/kuberc may change what a command prints.
_TUNING = {"GOGC": "off", "GOMAXPROCS": "1", "GOMEMLIMIT": "64MiB", "KUBERC": "off"}
_WATCH_TUNING = {
    "GOGC": "50",
    "KUBERC": "off",
    "HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10",
    "HTTP2_PING_TIMEOUT_SECONDS": "5",
}
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
    namespace = environ.get("POD_NAMESPACE") or _read(f"{service_account}/namespace") or "default"
    cluster = {"server": f"https://{address}:{port}", "certificate-authority": f"{service_account}/ca.crt"}
    context = {"cluster": "in-cluster", "user": "in-cluster", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "in-cluster", "cluster": cluster}],
        "users": [{"name": "in-cluster", "user": {"tokenFile": f"{service_account}/token"}}],
        "contexts": [{"name": "in-cluster", "context": context}],
        "current-context": "in-cluster",
    }
    return json.dumps(config)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def memory_file(content: str) -> str:
    """Return the path of a file in memory that holds `content` for as long as this process lives.

    It needs no writable directory, and children of the same user can read it by this path.
    """
    fd = os.memfd_create("kubeconfig", os.MFD_CLOEXEC)
    os.write(fd, content.encode())
    return f"/proc/{os.getpid()}/fd/{fd}"


def environment(environ: Mapping[str, str], *, kubeconfig: str | None, cache: str | None) -> dict[str, str]:
    """Return the environment of every stage; what is set in `environ` already wins."""
    # Without one, kubectl would put a cache under $HOME, or into the working directory: into the app's
    # volume, perhaps.
    added = {**_TUNING, "KUBECACHEDIR": cache or "/dev/null"}
    if kubeconfig is not None:
        added["KUBECONFIG"] = kubeconfig
    return {**added, **{name: value for name, value in environ.items() if value or name not in added}}


def watch_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a kubectl that lives long: with garbage collection, and pings."""
    tuned = {name: value for name, value in environment.items() if _TUNING.get(name) != value}
    return {**_WATCH_TUNING, **tuned}
