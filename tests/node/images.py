"""The images of the node's Pods, as files for containerd, under the names that example.yaml gives them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.harness.packages import need
from tests.image.builder import BASE, Builder
from tests.node.node import PAUSE

EXAMPLE = Path("example.yaml")
HERE = Path("tests/node")


def names() -> tuple[str, str]:
    """The image of the sidecar and that of the web server, as in example.yaml."""
    sidecar, web = re.findall(r"image: (\S+)", EXAMPLE.read_text())
    return sidecar, web


def image_files(builder: Builder, directory: Path) -> list[Path]:
    """Build them all; the files are read by containerd."""
    sidecar, web = (f"docker.io/library/{name}" for name in names())
    context = builder.context(directory / "context")
    builder.build(context, sidecar)
    shutil.copytree(HERE / "web", context / HERE / "web")
    builder.buildah(
        "build",
        "--layers",
        f"--build-arg=BASE={BASE}",
        f"--tag={web}",
        f"--file={context / HERE}/web/Dockerfile",
        str(context),
    )
    builder.buildah("build", f"--tag={PAUSE}", str(_pause(directory)))
    return [_save(builder, name, directory) for name in (sidecar, web, PAUSE)]


def _pause(directory: Path) -> Path:
    need({"gcc": "gcc"}, "building the pause image")
    context = shutil.copytree(HERE / "pause", directory / "pause")
    subprocess.run(["gcc", "-static", "-O2", "-o", context / "pause", context / "pause.c"], check=True)
    return context


def _save(builder: Builder, name: str, directory: Path) -> Path:
    file = directory / f"{re.sub('[^a-z]+', '-', name)}.tar"
    builder.buildah("push", name, f"docker-archive:{file}:{name}")
    return file
