"""What a release is called and consists of, and that Renovate finds what is pinned."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kubectl_sidecar
from tests.harness import tools

ROOT = Path(__file__).parents[2]
VERSION = kubectl_sidecar.__version__
NAME = (ROOT / "image/name").read_text().strip()
RENOVATE: dict[str, Any] = json.loads((ROOT / "renovate.json").read_text())
DIGEST = f"sha256:{'5' * 64}"
# They write down what they are called with; a build tells the digest of what it pushed as buildx does.
DOCKER = f"""#!/bin/sh
echo "docker $*" >> "$CALLS"
while [ $# -gt 0 ]; do
    [ "$1" != --metadata-file ] || cat > "$2" << END
{{
  "buildx.build.provenance/linux/amd64": {{"materials": [{{"digest": {{"sha256": "{"1" * 64}"}}}}]}},
  "containerimage.descriptor": {{
    "digest": "sha256:{"2" * 64}"
  }},
  "containerimage.digest": "{DIGEST}",
  "image.name": "registry.example.com/x"
}}
END
    shift
done
"""
COSIGN = '#!/bin/sh\necho "cosign $*" >> "$CALLS"\n'


def test_everything_calls_the_image_by_its_one_name() -> None:
    expected = f"{NAME}:{VERSION}"
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.rglob("*.yaml")]
    found = []
    for file in files:
        for shown in re.findall(r"[\w./-]*\bkubectl-sidecar:\d[\w.-]+", file.read_text()):
            own = re.sub(r"^(docker\.io/library|registry\.example\.com/me|ghcr\.io/OWNER)/", "", shown)
            found.append(own)
            assert own == expected, f"sed -i 's#{shown}#{expected}#' {file}"
    assert len(found) > 10


def test_the_documentation_names_the_minor_of_the_pinned_kubectl_and_the_servers_it_is_for() -> None:
    minor = minor_of_kubectl()
    major, _, number = minor.partition(".")
    image, permissions = ((ROOT / f"docs/{name}.md").read_text() for name in ("image", "permissions"))
    assert set(re.findall(r"kubectl(\d\.\d+)", image)) == {minor}
    servers = [f"{major}.{int(number) + skew}" for skew in (-1, 0, 1)]
    assert f"**{servers[0]}, {servers[1]} and {servers[2]}**" in " ".join(image.split())
    assert re.findall(r"built-in ones of Kubernetes (\d\.\d+)", " ".join(permissions.split())) == [minor]


def minor_of_kubectl() -> str:
    found = re.match(r"v(\d+\.\d+)\.", tools.pins()["kubectl", "linux/amd64"].version)
    assert found
    return found[1]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where docker and cosign, which stand in for the real ones, write down how they are called."""
    for name, script in (("docker", DOCKER), ("cosign", COSIGN)):
        program = tmp_path / name
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("GITHUB_REF_NAME", f"v{VERSION}")
    return tmp_path / "calls"


def publish() -> subprocess.CompletedProcess[str]:
    command = ["scripts/publish-image", "registry.example.com/me/kubectl-sidecar"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_release_is_pushed_signed_and_tagged_by_version_and_by_the_minor_of_kubectl(calls: Path) -> None:
    done = publish()
    assert done.returncode == 0, done.stderr
    name = "registry.example.com/me/kubectl-sidecar"
    expected = []
    for target, suffix in (("default", ""), ("minimal", "-minimal")):
        kubectl = f"kubectl{minor_of_kubectl()}{suffix}"
        tags = [f"{VERSION}-{kubectl}", VERSION.rpartition(".")[0] + suffix, kubectl]
        options = " ".join(f"--tag {name}:{tag}" for tag in tags)
        build = rf"docker buildx build .*--target {target} .*--tag {name}:{VERSION}{suffix} .*"
        expected += [
            build + r"--provenance mode=max --sbom true .*type=registry.*",
            rf"cosign sign --yes --recursive {name}@{DIGEST}",
            rf"docker buildx imagetools create {options} {name}@{DIGEST}",
        ]
    lines = [line for line in calls.read_text().splitlines() if "build" in line or "cosign" in line]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (pattern, line)


def test_a_tag_of_another_version_is_not_published(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_REF_NAME", "v9.9.9")
    done = publish()
    assert done.returncode == 1
    assert done.stderr == f"error: the tag is v9.9.9, and kubectl_sidecar/__init__.py says {VERSION}\n"
    assert not calls.exists()


def test_the_actions_are_pinned_by_digest() -> None:
    used = re.findall(r"uses: (\S+)(.*)", (ROOT / ".github/workflows/image.yaml").read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def found_by_renovate(file: Path) -> Iterator[re.Match[str]]:
    for manager in RENOVATE["customManagers"]:
        if matches_file(manager["managerFilePatterns"], file):
            for pattern in manager["matchStrings"]:
                # JavaScript's way to name a group.
                yield from re.finditer(pattern.replace("(?<", "(?P<"), file.read_text())


def matches_file(patterns: list[str], file: Path) -> bool:
    path = str(file.relative_to(ROOT))
    return any(re.search(pattern.removeprefix("/").removesuffix("/"), path) for pattern in patterns)


def test_renovate_finds_each_tool_and_its_version_wherever_it_stands() -> None:
    lock = ROOT / "image/tools.lock"
    pins = [pin for pin in tools.pins().values() if pin.name in ("kubectl", "jq")]
    found = [*found_by_renovate(lock)]
    assert {match["depName"] for match in found} == {"kubectl", "jq"}
    assert sorted(match[0].split()[2] for match in found) == sorted(pin.platform for pin in pins)
    for match in found:
        # As it replaces a value: everywhere in what was matched.
        name, version, _, sha256, url = match[0].replace(match["currentValue"], "9.8.7").split()
        assert (name, version, len(sha256)) == (match["depName"], "9.8.7", 64)
        assert "9.8.7" in url
        assert match["currentValue"] not in url


def test_renovate_finds_the_digest_of_the_base() -> None:
    (found,) = found_by_renovate(ROOT / "image/Dockerfile")
    assert (found["depName"], found["currentValue"]) == ("debian", "trixie-slim")
    assert f"@{found['currentDigest']}\n" in found[0]


@pytest.mark.parametrize("name", ["runtime", "dev", "go"])
def test_renovate_finds_the_python_locks(name: str) -> None:
    file = ROOT / f"requirements/{name}.txt"
    compiled = matches_file(RENOVATE["pip-compile"]["managerFilePatterns"], file)
    assert compiled != matches_file(RENOVATE["pip_requirements"]["managerFilePatterns"], file)
    header = re.match(r"(?:#.*\n)+#    uv pip compile (.*)\n", file.read_text())
    assert header
    options = [word.partition("=") for word in header[1].split() if word.startswith("-")]
    assert ("--output-file", "=", f"requirements/{name}.txt") in options
    assert all(separator for option, separator, _ in options if option in ("--python-version", "--group"))
    assert not compiled or "pyproject.toml" in header[1].split()
