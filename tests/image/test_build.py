"""The build: nothing gets in that is not what was pinned, and the same sources give the same image."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kubectl_sidecar
from tests.harness import tools
from tests.image.builder import BASE, PLATFORM, Builder, BuildFailed
from tests.image.content import Content, content, differences
from tests.image.served import served

KUBECTL = "kubectl", PLATFORM


@pytest.fixture
def copy(context: Path, tmp_path: Path) -> Path:
    """A context of the test's own."""
    return shutil.copytree(context, tmp_path / "context")


@pytest.fixture
def downloads(builder: Builder, tmp_path: Path) -> Path:
    """Downloaded files of the test's own; kubectl is left to be put there."""
    directory = tmp_path / "downloads"
    shutil.copytree(builder.downloads, directory, ignore=shutil.ignore_patterns("kubectl"))
    return directory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and its address on the loopback interface."""
    directory = tmp_path / "site"
    directory.mkdir()
    with served(directory) as address:
        yield directory, address


def edit(file: Path, change: Callable[[str], str]) -> None:
    before = file.read_text()
    after = change(before)
    assert after != before
    file.write_text(after)


def build_tools(builder: Builder, context: Path, downloads: Path, architecture: str = "amd64") -> str:
    """Build as far as the stage that fetches the tools, which was never built with this lock."""
    lock = context / "image/tools.lock"
    lock.write_text(f"{lock.read_text()}# {uuid.uuid4()}\n")
    options = [
        "--layers",
        "--target=tools",
        f"--build-arg=BASE={BASE}",
        f"--build-context=downloads={downloads}",
    ]
    options += [f"--build-arg=TARGETARCH={architecture}", f"--file={context}/image/Dockerfile"]
    return builder.buildah("build", *options, str(context))


def test_a_changed_byte_ends_the_build(builder: Builder, copy: Path, downloads: Path) -> None:
    content = bytearray((builder.downloads / PLATFORM / "kubectl").read_bytes())
    content[len(content) // 2] ^= 1
    (downloads / PLATFORM / "kubectl").write_bytes(content)
    pin = tools.pins()[KUBECTL]
    came = hashlib.sha256(content).hexdigest()
    problem = f"tools.lock: kubectl {pin.version} for linux/amd64 is not the locked file: "
    with pytest.raises(BuildFailed, match=f"{problem}expected SHA-256 {pin.sha256}, got {came}"):
        build_tools(builder, copy, downloads)


def test_a_changed_byte_in_a_download_ends_the_build(
    builder: Builder, copy: Path, downloads: Path, site: tuple[Path, str]
) -> None:
    directory, address = site
    (directory / "kubectl").write_bytes(b"not kubectl")
    edit(
        copy / "image/tools.lock", lambda text: text.replace(tools.pins()[KUBECTL].url, f"{address}/kubectl")
    )
    with pytest.raises(
        BuildFailed, match=f"kubectl {tools.pins()[KUBECTL].version} for linux/amd64 is not the locked file"
    ):
        build_tools(builder, copy, downloads)


def test_a_wrong_checksum_ends_the_build(builder: Builder, copy: Path) -> None:
    pinned = tools.pins()[KUBECTL].sha256
    edit(copy / "image/tools.lock", lambda text: text.replace(pinned, "0" * 64))
    with pytest.raises(BuildFailed, match=f"expected SHA-256 {'0' * 64}, got {pinned}"):
        build_tools(builder, copy, builder.downloads)


@pytest.mark.parametrize("instead", ["", "-", "sha256:", "65691ff7"])
def test_a_missing_checksum_ends_the_build(builder: Builder, copy: Path, instead: str) -> None:
    edit(copy / "image/tools.lock", lambda text: text.replace(tools.pins()[KUBECTL].sha256, instead))
    with pytest.raises(
        BuildFailed, match=r"tools.lock: expected NAME VERSION OS/ARCH SHA256 URL, got: kubectl v"
    ):
        build_tools(builder, copy, builder.downloads)


def test_an_architecture_gets_its_own_files_and_no_others(
    builder: Builder, copy: Path, downloads: Path
) -> None:
    (downloads / "linux/arm64").mkdir()
    shutil.copy(builder.downloads / PLATFORM / "kubectl", downloads / "linux/arm64")
    wanted = tools.pins()["kubectl", "linux/arm64"].sha256
    with pytest.raises(
        BuildFailed, match=f"for linux/arm64 is not the locked file: expected SHA-256 {wanted}"
    ):
        build_tools(builder, copy, downloads, "arm64")


def test_an_architecture_that_is_not_locked_ends_the_build(builder: Builder, copy: Path) -> None:
    with pytest.raises(BuildFailed, match=r"tools.lock: no jq for linux/riscv64"):
        build_tools(builder, copy, builder.downloads, "riscv64")


def test_a_missing_library_ends_the_build_and_is_named(builder: Builder, copy: Path) -> None:
    edit(copy / "image/Dockerfile", lambda text: text.replace(" libffi8", ""))
    with pytest.raises(BuildFailed, match=r"lib-dynload/_ctypes\S*: needs libffi.so.8"):
        builder.build(copy, "localhost/kubectl-sidecar:incomplete", "--target", "minimal")


def test_another_tool_is_one_line_in_the_lock(builder: Builder, copy: Path, site: tuple[Path, str]) -> None:
    directory, address = site
    greet = directory / "greet"
    greet.write_text("#!/bin/sh\necho hello\n")
    line = f"greet 1.0 {PLATFORM} {hashlib.sha256(greet.read_bytes()).hexdigest()} {address}/greet\n"
    edit(copy / "image/tools.lock", lambda text: text + line)
    built = builder.build(copy, "localhost/kubectl-sidecar:greet")
    assert "greet 1.0\n" in built.summary
    assert builder.run(built.image, "greet") == "hello\n"


@pytest.mark.parametrize("target", ["default"], indirect=True)
def test_the_summary_is_of_what_was_built_though_the_tag_has_moved_on(
    builder: Builder, context: Path, image: str, tmp_path: Path
) -> None:
    tag = "localhost/kubectl-sidecar:moved"
    wrapper = tmp_path / "buildah"
    wrapper.write_text(f"""#!/bin/sh
{shutil.which("buildah")} "$@" || exit
[ "$1 $2" = "build --help" ] || [ "$1" != build ] || {shutil.which("buildah")} tag {BASE} {tag}
""")
    wrapper.chmod(0o755)
    assert builder.build(context, tag, path=f"{tmp_path}:{os.environ['PATH']}").image == image


@pytest.mark.slow
@pytest.mark.parametrize("target", ["default"], indirect=True)
def test_two_builds_give_the_same_image(builder: Builder, context: Path, image: str, tmp_path: Path) -> None:
    here = {"image ID": image, **content(builder.save(image, tmp_path / "here.tar"))}
    there = build_elsewhere(builder, checked_out_again(context, tmp_path / "context"), tmp_path / "there")
    if packages(here) != packages(there):
        # Debian has released some since the layers were made that are kept here.
        here = build_elsewhere(builder, context, tmp_path / "here")
    found = differences(here, there)
    assert not found, "\n".join(found)


def checked_out_again(context: Path, directory: Path) -> Path:
    """Other inodes and time stamps, and another umask: nobody but the owner can read the files."""
    shutil.copytree(context, directory, copy_function=shutil.copyfile)
    for file in context.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        (directory / file.relative_to(context)).chmod(mode & 0o700)
    return directory


def build_elsewhere(builder: Builder, context: Path, directory: Path) -> Content:
    directory.mkdir()
    with builder.elsewhere(directory) as other:
        built = other.build(context, "localhost/kubectl-sidecar:again", "--no-cache")
        archive = content(other.save(built.image, directory / "image.tar"))
    return {"image ID": built.image, **archive}


def packages(image: Content) -> set[str]:
    return {stored for what, stored in image.items() if "/var/lib/dpkg/status.d/" in what}


def test_the_example_names_the_image_that_is_built() -> None:
    used = set(re.findall(r"image: (kubectl-sidecar:\S+)", "".join(file.read_text() for file in examples())))
    assert used == {f"kubectl-sidecar:{kubectl_sidecar.__version__}"}


def examples() -> list[Path]:
    folders = Path("examples"), Path("deploy")
    return [Path("example.yaml"), *(file for folder in folders for file in folder.rglob("*.yaml"))]
