"""scripts/update-tools: from a version to a reviewed lock, and no lock without a good signature."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import tools
from tests.image.served import served

SCRIPT = "scripts/update-tools"
KUBECTL, JQ = "v1.37.9", "1.8.9"


@dataclass(frozen=True)
class Sites:
    """Download sites that have newer tools."""

    directory: Path
    address: str
    lock: Path

    def file(self, path: str) -> str:
        return hashlib.sha256((self.directory / path).read_bytes()).hexdigest()

    def update(self, *arguments: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
        sites = {
            "UPDATE_TOOLS_KUBERNETES": self.address,
            "UPDATE_TOOLS_JQ": f"{self.address}/jq",
            "UPDATE_TOOLS_JQ_SIGNATURES": f"{self.address}/sig",
        }
        command = [SCRIPT, "--lock", str(self.lock), *arguments]
        return subprocess.run(
            command, env={**os.environ, **sites, "PATH": path}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Sites]:
    files = {f"release/{KUBECTL}/bin/linux/{one}/kubectl": f"kubectl {one}" for one in ("amd64", "arm64")}
    for suffix in ("sig", "cert"):
        files |= {f"{name}.{suffix}": suffix for name in list(files) if name.endswith("kubectl")}
    files |= {
        f"jq/download/jq-{JQ}/{name}": name
        for name in ("jq-linux-amd64", "jq-linux-arm64", f"jq-{JQ}.tar.gz")
    }
    files["release/stable-1.37.txt"] = KUBECTL
    for name, content in files.items():
        path = tmp_path / "sites" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    lock = Path(shutil.copy(tools.LOCK, tmp_path / "tools.lock"))
    with served(tmp_path / "sites") as address:
        yield Sites(tmp_path / "sites", address, lock)


def test_the_lock_holds_what_was_downloaded(sites: Sites) -> None:
    sites.lock.write_text(sites.lock.read_text() + "mine 1 linux/amd64 00 https://example.com/mine\n")
    done = sites.update("--jq", JQ)
    assert done.returncode == 0, done.stderr
    lines = sites.lock.read_text().splitlines()
    assert lines[0] == tools.LOCK.read_text().splitlines()[0]
    kubectl = f"release/{KUBECTL}/bin/linux/arm64/kubectl"
    assert f"kubectl {KUBECTL} linux/arm64 {sites.file(kubectl)} {sites.address}/{kubectl}" in lines
    source = f"jq/download/jq-{JQ}/jq-{JQ}.tar.gz"
    assert f"jq {JQ} source {sites.file(source)} {sites.address}/{source}" in lines
    assert lines[-1].startswith("mine 1 ")
    assert len(lines) == len(tools.LOCK.read_text().splitlines()) + 1
    assert f"+kubectl {KUBECTL} linux/amd64 " in done.stdout


def test_nothing_changes_when_nothing_is_new(sites: Sites) -> None:
    sites.update("--jq", JQ)
    done = sites.update("--jq", JQ)
    assert done.stdout == f"{sites.lock} is up to date\n"


def test_locked_versions_stay_and_get_the_checksums_of_their_files(sites: Sites) -> None:
    """As after a change of the versions alone, by Renovate."""
    sites.update("--kubectl", KUBECTL, "--jq", JQ)
    good = sites.lock.read_text()
    sites.lock.write_text(re.sub(r"\b[0-9a-f]{64}\b", "0" * 64, good))
    (sites.directory / "release/stable-1.37.txt").write_text("v1.37.10")
    done = sites.update("--locked")
    assert done.returncode == 0, done.stderr
    assert sites.lock.read_text() == good


def test_a_signature_that_cannot_be_verified_is_said(sites: Sites) -> None:
    done = sites.update("--kubectl", KUBECTL, "--jq", JQ)
    assert done.stderr.count("signature not verified, cosign is not installed") == 2
    assert done.stderr.count("signature not verified, gpg or the release key 9307") == 3


def test_a_bad_signature_leaves_the_lock_alone(sites: Sites, tmp_path: Path) -> None:
    before = sites.lock.read_text()
    cosign = tmp_path / "bin/cosign"
    cosign.parent.mkdir()
    cosign.write_text("#!/bin/sh\necho 'no matching signatures' >&2\nexit 1\n")
    cosign.chmod(0o755)
    done = sites.update("--jq", JQ, path=f"{cosign.parent}:/usr/bin:/bin")
    assert done.returncode != 0
    assert "no matching signatures" in done.stderr
    assert sites.lock.read_text() == before


def test_a_version_that_does_not_exist_leaves_the_lock_alone(sites: Sites) -> None:
    before = sites.lock.read_text()
    done = sites.update("--kubectl", "1.99.0", "--jq", JQ)
    assert done.returncode != 0
    assert "404" in done.stderr
    assert sites.lock.read_text() == before
