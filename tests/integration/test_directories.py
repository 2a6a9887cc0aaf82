"""What readers and watchers see of a directory that is an output, and the lines that it is for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.access import Namespace, rule
from tests.harness.isolation import Isolation
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until
from tests.unit.publish.inotify import watching

DASHBOARDS = """\
@watch @allow-empty kubectl get cm -l grafana_dashboard=1 -o json |
    jq '[.items[].data // {} | to_entries[]] | from_entries' > dashboards/
"""
SECRET = "kubectl get secret tls -o json | jq '.data | map_values({base64: .})' > tls/"
# Generations of 8 files, each of which says which one it is.
PUBLISH = """
import json, os, sys
from kubectl_sidecar.publish.directory import OutputDirectory
output = OutputDirectory(sys.argv[1], "d/", 0o644)
for number in range(2000):
    content = os.memfd_create("content")
    os.write(content, json.dumps({name: f"{number} " * 1000 for name in "abcdefgh"}).encode())
    assert output.publish(content).changed
    os.close(content)
"""


def files(path: Path) -> dict[str, str]:
    """What is to be seen in a directory, and nothing else may be there but the layout's own."""
    names = sorted(each.name for each in path.iterdir())
    own = ["..data", str((path / "..data").readlink())]
    assert [name for name in names if name.startswith("..")] == own
    return {name: (path / name).read_text() for name in names if name not in own}


@pytest.mark.slow
def test_a_reader_that_opens_data_once_never_mixes_two_generations() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:  # an emptyDir in memory
        data, seen = Path(name, "d/..data"), set[str]()
        with subprocess.Popen([sys.executable, "-c", PUBLISH, name]) as publisher:
            wait_until(data.exists)
            while publisher.poll() is None:
                if (read := read_generation(data)) is not None:
                    assert len(set(read)) == 1
                    seen.add(read[0])
        assert publisher.returncode == 0
        assert len(seen) > 10
        assert read_generation(data) == ["1999 " * 1000] * 8


def read_generation(data: Path) -> list[str] | None:
    """Its 8 files; None if it went meanwhile, even before it was open, and there is a newer one."""
    with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
        directory = os.open(data, os.O_PATH | os.O_DIRECTORY)
        opened.callback(os.close, directory)
        found = []
        for name in "abcdefgh":
            with open(name, opener=lambda name, flags: os.open(name, flags, dir_fd=directory)) as file:
                found.append(file.read())
        return found
    return None


def apply(namespace: Namespace, kind: str, name: str, data: Mapping[str, str], label: str = "1") -> None:
    metadata = {"name": name, "labels": {"grafana_dashboard": label}}
    document = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data}
    namespace.kubectl("apply", "-f", "-", stdin=json.dumps(document))


def shows(run: Sidecar, output: str, expected: Mapping[str, str]) -> None:
    def shown() -> None:
        try:
            assert files(run.output(output)) == expected, run.log()
        except FileNotFoundError as error:  # it is being changed just now, or not there yet
            raise AssertionError(run.log()) from error

    wait_until(shown, what=f"{output} does not show {sorted(expected)}")


def test_a_directory_follows_the_config_maps_that_have_a_label(
    namespace: Namespace, sidecar: Launcher
) -> None:
    apply(namespace, "ConfigMap", "one", {"node.json": '{"title": "Nodes"}\n', "pod.json": "{}"})
    apply(namespace, "ConfigMap", "other", {"not.json": "{}"}, label="0")
    run = sidecar(DASHBOARDS, account=namespace.service_account(rule("list watch", "configmaps")))
    shows(run, "dashboards", {"node.json": '{"title": "Nodes"}\n', "pod.json": "{}"})
    apply(namespace, "ConfigMap", "two", {"two.json": "é"})
    shows(run, "dashboards", {"node.json": '{"title": "Nodes"}\n', "pod.json": "{}", "two.json": "é"})
    apply(namespace, "ConfigMap", "one", {"node.json": "[]"})
    shows(run, "dashboards", {"node.json": "[]", "two.json": "é"})
    with watching(run.output("dashboards")) as watcher:
        apply(namespace, "ConfigMap", "other", {"not.json": "[]"}, label="0")
        run.send(signal.SIGUSR1)
        namespace.kubectl("delete", "configmap", "two")
        shows(run, "dashboards", {"node.json": "[]"})
        assert [event for event in watcher.events() if "..data" in event] == ["MOVED_TO ..data"]
    namespace.kubectl("label", "configmap", "one", "grafana_dashboard-")
    shows(run, "dashboards", {})
    assert run.stop() == 0


def test_a_secret_is_files_that_belong_together_until_it_is_gone(
    namespace: Namespace, sidecar: Launcher
) -> None:
    apply(namespace, "Secret", "tls", {"tls.crt": "Y2VydA==", "tls.key": "a2V5"})
    account = namespace.service_account(rule("get", "secrets", "tls"))
    run = sidecar("--every", "100ms", "--on-missing", "remove", "--mode", "0600", SECRET, account=account)
    shows(run, "tls", {"tls.crt": "cert", "tls.key": "key"})
    assert run.output("tls/tls.key").stat().st_mode & 0o777 == 0o600
    namespace.kubectl("delete", "secret", "tls")
    wait_until(lambda: list(run.output("tls").iterdir()) == [], what=run.log())
    run.wait_for_log("tls/: changed: removed: the object does not exist$")
    assert run.stop() == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("""echo '["hunter2"]' > d/""", "expected one JSON object, name to content, but an array came"),
        ("""echo '{"hunter2": {}}' > d/""",
         'entry 1 of the object: expected a string or {"base64": "…"}, but an object came'),
        ("bash -c 'jq -n \"{a: (\\\"x\\\" * 1000)}\"' > d/", "wrote more than 1000 bytes (--max-output)"),
        ("echo '{}' > d/",
         "the object is empty, and a directory without files is published with @allow-empty only"),
        ("bash -c 'echo {}; exit 3' > d/", "bash exited with 3"),
    ],
)  # fmt: skip
def test_a_refresh_that_did_not_fully_succeed_changes_nothing(
    sidecar: Launcher, line: str, reason: str
) -> None:
    first = sidecar("--once", """echo '{"a": "good"}' > d/""")
    assert first.wait() == 0
    path = first.output("d")
    before = {each: each.lstat().st_ctime_ns for each in (path, *path.rglob("*"))}
    limits = "--once", "--deadline", "50ms", "--max-output", "1000"
    run = sidecar(*limits, line, output_directory=first.output_directory)
    assert run.wait() == 1
    assert run.log_lines("d/: failed")[0].partition("failed: ")[2] == f"{reason}; giving up"
    assert "hunter2" not in run.log()
    assert {each: each.lstat().st_ctime_ns for each in (path, *path.rglob("*"))} == before


def test_a_full_volume_keeps_the_last_good_files_until_there_is_space(
    sidecar: Launcher, tmp_path: Path
) -> None:
    volume, content = tmp_path / "volume", tmp_path / "content"
    volume.mkdir()
    content.write_text('{"a": "good", "b": "good"}')
    isolation = Isolation(tmpfs=(volume, 64 << 10))
    run = sidecar("--every", "50ms", f"cat {content} > d/", output_directory=volume, isolation=isolation)
    run.wait_for_log("d/: first success: 8 bytes$")
    inside = Path(f"/proc/{run.pid}/root{volume}/d")
    before = {each: each.lstat().st_ino for each in inside.rglob("*")}
    content.write_text(json.dumps({"a": "better", "c": "x" * (100 << 10)}))
    run.wait_for_log("d/: failed: cannot write d/: no space left in the volume: .*; next attempt in ")
    assert files(inside) == {"a": "good", "b": "good"}
    assert {each: each.lstat().st_ino for each in inside.rglob("*")} == before
    content.write_text('{"a": "better", "c": ""}')
    run.send(signal.SIGUSR1)
    run.wait_for_log("d/: recovered after .*: 6 bytes$")
    assert files(inside) == {"a": "better", "c": ""}
    assert run.stop() == 0
