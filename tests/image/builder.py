"""Builds images as users of scripts/build-image do, on a machine that reaches package registries only."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness import cache, tools
from tests.harness.packages import need
from tests.harness.progress import Unavailable, run

PROGRAMS = {"buildah": "buildah", "podman": "podman", "runc": "runc", "debootstrap": "debootstrap"}
SUITE = "trixie"
BASE = f"localhost/debian:{SUITE}"
PLATFORM = "linux/amd64"
CONTEXT = ("image", "kubectl_sidecar", "requirements", "scripts")
# crun cannot do with hybrid cgroups, and nobody may raise limits in a container.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{1}/tmp"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{0}/graph"
runroot = "{1}"
"""
# Images of another storage, to be read only.
SHARED_CONF = """\
[storage.options]
additionalimagestores = ["{0}/graph"]
"""
RESTRICTED = (
    *("--network", "none", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "64m", "--pids-limit", "64"),
)


@dataclass(frozen=True)
class Built:
    """What scripts/build-image has built and said."""

    summary: str

    @property
    def image(self) -> str:
        """Its ID, which stays its own when another run of the tests takes its tag."""
        found = re.search(r"^image ID: ([0-9a-f]{64})$", self.summary, re.MULTILINE)
        assert found, self.summary
        return found[1]


class Builder:
    """Images live in a storage of the tests' own, which keeps unchanged layers from run to run."""

    def __init__(self, storage: Path, downloads: Path) -> None:
        self._storage = storage
        self._environment = {**os.environ, **_settings(storage)}
        self.downloads = downloads

    @contextlib.contextmanager
    def elsewhere(self, directory: Path) -> Iterator[Builder]:
        """Build as on another machine: there is the base image, and nothing that was ever built."""
        running = _running(directory)
        _configure(directory)
        with (directory / "storage.conf").open("a") as conf:
            conf.write(SHARED_CONF.format(self._storage))
        try:
            yield Builder(directory, self.downloads)
        finally:
            shutil.rmtree(running)
            shutil.rmtree(directory)

    def context(self, directory: Path) -> Path:
        """A copy of what the image is made of, with the checksum of the jq that could be had."""
        for name in CONTEXT:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(name, directory / name, ignore=ignored, dirs_exist_ok=True)
        lock = directory / "image/tools.lock"
        jq = hashlib.sha256((self.downloads / PLATFORM / "jq").read_bytes()).hexdigest()
        lock.write_text(lock.read_text().replace(tools.pins()["jq", PLATFORM].sha256, jq))
        return directory

    def build(self, context: Path, tag: str, *options: str, path: str = "") -> Built:
        """Run scripts/build-image in a context, with another PATH if it is given. Raises BuildFailed."""
        script = context / "scripts/build-image"
        common = ["--builder", "buildah", "--base", BASE, "--tag", tag, "--tools-dir", str(self.downloads)]
        environment = {"SOURCE_DATE_EPOCH": "1700000000", "PATH": path or self._environment["PATH"]}
        return Built(self._run(str(script), *common, *options, **environment))

    def save(self, image: str, file: Path, name: str = "") -> Path:
        """Write an image to a docker-archive, under a name if it is given."""
        self.buildah("push", "--quiet", image, f"docker-archive:{file}" + f":{name}" * bool(name))
        return file

    def buildah(self, *arguments: str) -> str:
        return self._run("buildah", *arguments)

    def podman(self, *arguments: str) -> str:
        return self._run("podman", *arguments)

    @property
    def environment(self) -> dict[str, str]:
        return dict(self._environment)

    def run(self, image: str, *argv: str, user: str = "65532", options: tuple[str, ...] = ()) -> str:
        """What a command prints in a container that may do as little as a Pod's may, or less."""
        return self.podman("run", "--rm", *RESTRICTED, "--user", user, *options, image, *argv)

    def _run(self, *argv: str, **environment: str) -> str:
        done = subprocess.run(
            argv,
            env={**self._environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BuildFailed(f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


class BuildFailed(Exception):
    """A command that builds or runs images failed; the text is all it printed."""


@functools.cache
def builder() -> Builder:
    """The one builder of this run; raises Unavailable where images cannot be built."""
    if os.geteuid() != 0 or sys.platform != "linux":
        raise Unavailable("building images needs root on Linux")
    if tools.ARCHITECTURES.get(os.uname().machine) != "amd64":
        raise Unavailable("the image's tests were written for amd64")
    need(PROGRAMS, "building images")
    storage = cache.directory(f"containers-{cache.key(SUITE, CONTAINERS_CONF, STORAGE_CONF)}", _make_storage)
    return Builder(storage, _downloads())


def _settings(storage: Path) -> dict[str, str]:
    return {
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_CONF": str(storage / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(storage / "storage.conf"),
    }


def _running(storage: Path) -> str:
    """Where a storage keeps what a reboot may take away; podman wants at most 50 characters."""
    return f"/run/kubectl-sidecar-{cache.key(str(storage))}"


def _configure(storage: Path) -> None:
    (storage / "containers.conf").write_text(CONTAINERS_CONF.format(storage, _running(storage)))
    (storage / "storage.conf").write_text(STORAGE_CONF.format(storage, _running(storage)))


def _make_storage(path: Path) -> None:
    """A storage that holds a base image from Debian's packages, since no image registry can be reached."""
    _configure(path)
    root, tar = path / "base", path / "base.tar"
    run(f"installing Debian {SUITE}", ["debootstrap", "--variant=minbase", SUITE, str(root), *_mirror()])
    run("packing it", ["tar", "--create", "--file", str(tar), "--directory", str(root), "."])
    run("importing it", ["podman", "import", str(tar), BASE], env=_settings(path))
    shutil.rmtree(root)
    tar.unlink()


def _mirror() -> list[str]:
    """The machine's own Debian mirror, or none to leave the choice to debootstrap."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return found[:1]


def _downloads() -> Path:
    """The tools and wheels for a build without the network, as --tools-dir wants them."""
    programs = tools.tools()
    requirements = Path("requirements/runtime.txt")

    def make(path: Path) -> None:
        (path / PLATFORM).mkdir(parents=True)
        for name in ("kubectl", "jq"):
            shutil.copy(programs / name, path / PLATFORM / name)
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--require-hashes",
            "--only-binary",
            ":all:",
        ]
        target = [
            "--python-version",
            "3.13",
            "--platform",
            "manylinux2014_x86_64",
            "--dest",
            str(path / "wheels"),
        ]
        run("getting the image's Python packages", [*pip, *target, "--requirement", str(requirements)])

    return cache.directory(
        f"image-downloads-{cache.key(requirements, programs / 'kubectl', programs / 'jq')}", make
    )
