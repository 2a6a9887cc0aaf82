"""A certificate authority of the control plane's own, by openssl, and kubeconfig files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
DAYS = "30"


class Authority:
    """Issues certificates; files are NAME.crt and NAME.key in its directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.certificate = directory / "ca.crt"
        usage = ("-subj", "/CN=test-ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", DAYS, *usage)

    def issue(self, name: str, subject: str, alternative_names: str = "") -> Pair:
        """A certificate; the subject is like /O=group/CN=user, names are like IP:10.0.0.1,DNS:localhost."""
        pair = Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative_names}\n" if alternative_names else "")
        self._openssl("req", *KEY, "-keyout", pair.key, "-out", request, "-subj", subject)
        signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS)
        self._openssl(
            "x509", "-req", "-in", request, "-out", pair.certificate, "-extfile", extensions, *signer
        )
        return pair

    def signing_key(self, name: str) -> Path:
        """A key that signs service account tokens."""
        path = self.directory / f"{name}.key"
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        return path

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    def user(self) -> dict[str, str]:
        """As the user of a kubeconfig."""
        return {"client-certificate": str(self.certificate), "client-key": str(self.key)}


def write_kubeconfig(
    path: Path, cluster: Mapping[str, str], user: Mapping[str, str], namespace: str = "default"
) -> Path:
    """A kubeconfig with one context; the cluster is as in any other kubeconfig. JSON is YAML."""
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": dict(cluster)}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    path.write_text(json.dumps(config, indent=1))
    return path
