"""The image: what is in it, and that it runs in the strictest container that Kubernetes makes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import tools
from tests.harness.processes import Process
from tests.harness.waiting import wait_until
from tests.image.builder import PLATFORM, RESTRICTED, Builder, BuildFailed

LIMITS = {"default": 122.0, "minimal": 100.0}
ANY_USER = "1000690000:0"
DATA = ("--tmpfs", "/data:rw,mode=0777,size=1m")
PYTHON = ("python3", "-I", "-c")


@pytest.fixture(params=["65532", ANY_USER])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def configuration(builder: Builder, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(builder.podman("image", "inspect", image))[0]["Config"]
    return found


def test_version_names_the_pinned_tools(builder: Builder, image: str, user: str) -> None:
    said = builder.run(image, "kubectl-sidecar", "version", user=user).splitlines()
    pins = tools.pins()
    assert f"kubectl {pins['kubectl', PLATFORM].version.removeprefix('v')}" in said
    assert f"jq {pins['jq', PLATFORM].version}" in said
    assert any(line.startswith("python 3.13.") for line in said)


def test_check_validates_without_a_network(builder: Builder, image: str, user: str) -> None:
    line = "@watch kubectl get pod web -o json | jq .status > status.json"
    assert "status.json" in builder.run(image, "kubectl-sidecar", "check", line, user=user)
    with pytest.raises(BuildFailed, match=r"(?s): 2\n.*status\.json"):
        builder.run(image, "kubectl-sidecar", "check", line.replace(".status >", "'.status |' >"), user=user)


def test_a_task_is_run_on_a_read_only_root(builder: Builder, image: str, user: str) -> None:
    line = 'jq -n "{a: 1}" > a.json'
    run = """
import os, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(open("/data/a.json").read(), oct(os.stat("/data/a.json").st_mode), os.listdir("/data"))
"""
    argv = ("kubectl-sidecar", "run", "--once", "--output-dir", "/data", line)
    said = builder.run(image, *PYTHON, run, *argv, user=user, options=DATA)
    assert said == "{\n  \"a\": 1\n}\n 0o100644 ['a.json']\n"


def test_a_hook_can_post(builder: Builder, image: str, target: str) -> None:
    argv = ("kubectl-sidecar", "run", "--once", "--deadline=1ms", "--output-dir=/data")
    line = "@on-change {}://localhost:1/ jq -n 1 > a.json"
    with pytest.raises(BuildFailed, match="POST http://localhost:1/: Connection refused; giving up"):
        builder.run(image, *argv, line.format("http"), options=DATA)
    message = "POST https://localhost:1/: Connection refused; giving up"
    if target == "minimal":
        message = "https needs Python's ssl module, which the minimal image has not; use the other one"
    with pytest.raises(BuildFailed, match=message):
        builder.run(image, *argv, line.format("https"), options=DATA)


@pytest.mark.parametrize("target", ["default"], indirect=True)
def test_a_hook_trusts_who_kubectl_trusts(builder: Builder, image: str) -> None:
    count = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    assert int(builder.run(image, *PYTHON, count)) > 100


def test_probes_and_prometheus_are_answered(builder: Builder, image: str) -> None:
    ask = """
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", 8080)
connection.request("GET", sys.argv[1])
print(connection.getresponse().read().decode())
"""
    line = f"python3 -I -c '{ask}' /%s > %s"
    argv = ("kubectl-sidecar", "run", "--once", "--http=127.0.0.1:8080", "--output-dir=/data")
    lines = (line % ("livez", "alive"), line % ("metrics", "metrics"))
    show = (
        "import subprocess, sys; subprocess.run(sys.argv[1:], check=True); print(open('/data/alive').read())"
    )
    said = builder.run(
        image, *PYTHON, f"{show}; print(open('/data/metrics').read())", *argv, *lines, options=DATA
    )
    assert said.startswith("alive\n")
    assert f'jq="{tools.pins()["jq", PLATFORM].version}"' in said
    assert 'kubectl_sidecar_task_required{task="metrics"} 1.0' in said


def test_nothing_is_compiled_when_it_starts(builder: Builder, image: str) -> None:
    script = """
import importlib.util, os
for top in ("/usr/lib/python3.13", "/usr/lib/python3"):
    for folder, _, files in os.walk(top):
        for source in [os.path.join(folder, name) for name in files if name.endswith(".py")]:
            if not os.path.exists(importlib.util.cache_from_source(source)):
                print(source)
"""
    assert builder.run(image, *PYTHON, script) == ""


def test_everything_in_it_has_its_licence(builder: Builder, image: str) -> None:
    script = """
import glob, os
for name in ["kubectl", "jq", *os.listdir("/var/lib/dpkg/status.d")]:
    if not os.path.getsize(f"/usr/share/doc/{name}/copyright"):
        print(name)
for info in glob.glob("/usr/lib/python3/dist-packages/*.dist-info"):
    if not glob.glob(f"{info}/**/*LICENSE*", recursive=True):
        print(info)
"""
    assert builder.run(image, *PYTHON, script) == ""


def test_nothing_is_writable_or_privileged(builder: Builder, image: str) -> None:
    script = """
import os, stat
mounted = ("/proc", "/sys", "/dev", "/run", "/etc")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in mounted]
    for name in folders + files:
        found = os.lstat(os.path.join(folder, name))
        mode = 0 if stat.S_ISLNK(found.st_mode) else found.st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH) or found.st_uid or found.st_gid:
            print(os.path.join(folder, name), oct(mode))
"""
    said = builder.run(image, *PYTHON, script)
    assert sorted(said.splitlines()) == ["/tmp 0o41777", "/var/lock 0o41777", "/var/tmp 0o41777"]


def test_the_installed_packages_are_listed_for_scanners(builder: Builder, image: str, target: str) -> None:
    script = """
import glob
for file in sorted(glob.glob("/var/lib/dpkg/status.d/*")):
    fields = dict(line.split(": ", 1) for line in open(file).read().splitlines() if not line.startswith(" "))
    print(fields["Package"], fields["Status"], bool(fields["Version"]))
"""
    packages = builder.run(image, *PYTHON, script).splitlines()
    assert "python3.13-minimal install ok installed True" in packages
    assert ("bash install ok installed True" in packages) == (target == "default")


def test_its_configuration_lets_a_manifest_say_everything(builder: Builder, image: str) -> None:
    found = configuration(builder, image)
    assert found.get("Entrypoint") is None
    assert found["Cmd"] == ["kubectl-sidecar", "run"]
    assert found["User"] == "65532:65532"
    assert found["Labels"]["org.opencontainers.image.title"] == "kubectl-sidecar"
    assert found["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert found["Labels"]["org.opencontainers.image.version"]


def test_without_arguments_it_runs_the_mounted_tasks(builder: Builder, image: str) -> None:
    with pytest.raises(BuildFailed, match=r"(?s): 2\n.*/etc/kubectl-sidecar/tasks"):
        builder.run(image)


def test_it_ends_at_once_and_orderly_as_the_first_process(
    builder: Builder, image: str, tmp_path: Path
) -> None:
    argv = ("kubectl-sidecar", "run", "--output-dir", "/data", 'jq -n "1" > one.json')
    command = ["podman", "run", "--rm", *RESTRICTED, *DATA, image, *argv]
    process = Process(command, tmp_path / "log", env=builder.environment)
    try:
        wait_until(lambda: "one.json" in process.tail(), 20, "no first refresh")
        started = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - started < 2
    finally:
        process.stop()


def test_it_is_no_larger_than_it_was(builder: Builder, image: str, target: str) -> None:
    size = int(builder.podman("image", "inspect", "--format", "{{.Size}}", image))
    assert size / 1e6 <= LIMITS[target]


ONE_LINERS = {
    'for i in 1 2; do echo "$i"; done | tail -n 1': "2\n",
    "[[ abc =~ b ]] && a=(1 2) && echo ${#a[@]}": "2\n",
    "printf 'b\\na\\n' | sort | sed s/a/c/ | tr -d '\\n'": "cb",
    "echo 1 2 | awk '{print $1 + $2}'": "3\n",
    "echo abc | grep -o 'b.' | cut -c 2": "c\n",
    "find /usr/bin -name kubectl-sid* -o -name bash | xargs basename": "bash\n",
    "cmp -s /bin/sh /bin/bash; echo $?": "1\n",
    "diff <(echo a) <(echo b) | wc -l": "4\n",
    "printf x | sha256sum | head -c 8": "2d711642",
    "date -u -d @0 +%F; timeout 1 sleep 0.01; env | grep HOME": "1970-01-01\nHOME=/tmp\n",
    "jq -n -c '[1, 2]' | tee >(cat > /dev/null)": "[1,2]\n",
}


@pytest.mark.parametrize("target", ["default"], indirect=True)
@pytest.mark.parametrize("line", ONE_LINERS)
def test_shell_users_find_what_they_expect(builder: Builder, image: str, user: str, line: str) -> None:
    assert builder.run(image, "bash", "-c", line, user=user) == ONE_LINERS[line]


@pytest.mark.parametrize("target", ["minimal"], indirect=True)
@pytest.mark.parametrize("program", ["sh", "bash", "ls", "cat", "awk"])
def test_the_minimal_image_has_no_shell(builder: Builder, image: str, program: str) -> None:
    with pytest.raises(BuildFailed, match="not found"):
        builder.run(image, program, "--version")
