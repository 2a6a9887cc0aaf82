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
    shutil.copytree(HERE / "web", context / HERE / "web")
    web_file = f"--file={context / HERE}/web/Dockerfile"
    images = {
        sidecar: builder.build(context, sidecar).image,
        web: _build(builder, "--layers", f"--build-arg=BASE={BASE}", f"--tag={web}", web_file, str(context)),
        PAUSE: _build(builder, f"--tag={PAUSE}", str(_pause(directory))),
    }
    return [
        builder.save(image, directory / f"{re.sub('[^a-z]+', '-', name)}.tar", name)
        for name, image in images.items()
    ]


def _build(builder: Builder, *arguments: str) -> str:
    """The ID of the image that buildah builds: the last line that it prints."""
    return builder.buildah("build", *arguments).splitlines()[-1]


def _pause(directory: Path) -> Path:
    need({"gcc": "gcc"}, "building the pause image")
    context = shutil.copytree(HERE / "pause", directory / "pause")
    subprocess.run(["gcc", "-static", "-O2", "-o", context / "pause", context / "pause.c"], check=True)
    return context
