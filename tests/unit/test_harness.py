"""The parts of the test bed that can fail quietly: pinned downloads, the cache, waiting, ending processes."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import cache, gobuild, packages, processes, signals, tools
from tests.harness.processes import Process
from tests.harness.progress import Unavailable
from tests.harness.waiting import wait_until

CONTENT = b"the program"


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[tools.Pin]:
    """A pinned file, on a server of our own."""
    (tmp_path / "program").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/program"
        yield tools.Pin("program", "1.0", "linux/amd64", hashlib.sha256(CONTENT).hexdigest(), url)
        server.shutdown()
        thread.join()


def test_the_lock_pins_every_platform_of_both_tools() -> None:
    assert {("kubectl", "linux/amd64"), ("kubectl", "linux/arm64")} <= tools.pins().keys()
    assert {("jq", "linux/amd64"), ("jq", "linux/arm64"), ("jq", "source")} <= tools.pins().keys()


def test_a_download_with_the_pinned_checksum_is_returned(pin: tools.Pin) -> None:
    assert tools.download(pin) == CONTENT


def test_a_download_with_another_checksum_is_refused(pin: tools.Pin) -> None:
    wrong = dataclasses.replace(pin, sha256="0" * 64)
    with pytest.raises(tools.WrongChecksum) as raised:
        tools.download(wrong)
    came = hashlib.sha256(CONTENT).hexdigest()
    assert str(raised.value) == f"program 1.0 linux/amd64: expected SHA-256 {'0' * 64}, came {came}"


def test_a_host_that_cannot_be_reached_leaves_it_to_the_registries(pin: tools.Pin) -> None:
    assert tools.download(dataclasses.replace(pin, url=pin.url + "-which-is-not-there")) is None
    assert tools.download(dataclasses.replace(pin, url="http://127.0.0.1:1/")) is None


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDECAR_TEST_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("own_cache")
def test_a_cached_directory_is_made_once() -> None:
    made = []
    first = cache.directory("thing", lambda path: made.append(path))
    assert cache.directory("thing", lambda path: made.append(path)) == first
    assert made == [first]


@pytest.mark.usefixtures("own_cache")
def test_a_half_made_directory_is_made_again() -> None:
    def fail(path: Path) -> None:
        (path / "half").touch()
        raise Unavailable("no network")

    with pytest.raises(Unavailable):
        cache.directory("thing", fail)
    whole = cache.directory("thing", lambda path: (path / "whole").touch())
    assert {path.name for path in whole.iterdir()} == {"whole", ".complete"}


@pytest.mark.usefixtures("own_cache")
def test_a_second_run_waits_for_the_first() -> None:
    entered, go_on = threading.Event(), threading.Event()
    answers = []

    def slow(path: Path) -> None:
        entered.set()
        go_on.wait(10)
        (path / "whole").touch()

    def not_made(_: Path) -> None:
        pytest.fail("made twice")

    first = threading.Thread(target=cache.directory, args=("thing", slow))
    first.start()
    entered.wait(10)
    second = threading.Thread(target=lambda: answers.append(cache.directory("thing", not_made)))
    second.start()
    assert not answers
    go_on.set()
    first.join()
    second.join()
    assert (answers[0] / "whole").exists()


def test_the_key_of_a_directory_changes_with_each_part() -> None:
    assert len({cache.key("a", "b"), cache.key("ab"), cache.key("a", "c"), cache.key("b", "a")}) == 4


def test_a_missing_program_without_root_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Unavailable) as raised:
        packages.need({"no-such-program": "some-package"}, "this test")
    assert str(raised.value) == "this test needs no-such-program: install the packages some-package"


def test_waiting_ends_with_the_first_success() -> None:
    answers = iter([False, True])
    assert wait_until(lambda: next(answers), interval=0)


def test_waiting_in_vain_reports_the_last_failure() -> None:
    def check() -> None:
        raise AssertionError("a is not b")

    with pytest.raises(AssertionError, match=r"^the change after 0 s: a is not b"):
        wait_until(check, timeout=0, what="the change")


def test_a_stopped_process_is_gone(tmp_path: Path) -> None:
    process = Process(["sleep", "600"], tmp_path / "log")
    assert process.stop() == -signal.SIGTERM
    assert not Path(f"/proc/{process.pid}").exists()


INHERITED = """
import os, pathlib, signal, sys
from tests.harness import signals
signals.set_defaults()
signals.hang_up_children()
from tests.harness.processes import Process
status = Process(["cat", "/proc/self/status"], pathlib.Path(sys.argv[1]))
assert status.wait() == 0
print(status.tail(100))
os.kill(os.getpid(), signal.SIGHUP)
"""


def test_what_the_caller_ignored_and_blocked_is_not_passed_on(tmp_path: Path) -> None:
    command = signals.deaf(sys.executable, "-c", INHERITED, str(tmp_path / "log"))
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    masks = dict(line.split(":\t") for line in printed.splitlines() if line.startswith("Sig"))
    for mask in ("SigIgn", "SigBlk"):
        # The C library keeps two signals for itself, which nobody else can set.
        assert not [one for one in signal.valid_signals() if int(masks[mask], 16) >> (one - 1) & 1], mask


@pytest.mark.slow
def test_tests_that_were_started_with_signals_ignored_and_blocked_pass() -> None:
    some = [f"{__file__}::{test.__name__}" for test in (test_a_stopped_process_is_gone,)]
    command = signals.deaf("scripts/test", "-p", "no:cacheprovider", *some)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_process_dies_with_the_tests_that_started_it(tmp_path: Path) -> None:
    mark = f"MARK={tmp_path}"
    script = f"""
import os, pathlib, signal
from tests.harness.processes import Process
Process(["sleep", "600"], pathlib.Path({str(tmp_path / "log")!r}))
print("started", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "MARK": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=env, check=False, stdout=subprocess.DEVNULL)

    def none_left() -> None:
        assert not processes.marked(mark)

    wait_until(none_left)


def test_children_lists_a_zombie_as_such() -> None:
    with subprocess.Popen(["true"]) as child:

        def ended() -> bool:
            return processes.children(os.getpid()).get(child.pid) == "Z"

        wait_until(ended)


LANES = """
import sys
from pathlib import Path
from tests.harness.run_tests import run_at_once

def run(file):
    return Path(sys.executable), ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", file]

print(run_at_once([run(sys.argv[1])], [run(sys.argv[2]), run(sys.argv[1])]))
"""


@pytest.mark.slow
def test_lanes_of_tests_are_summed_up(tmp_path: Path) -> None:
    passing, failing = tmp_path / "test_passing.py", tmp_path / "test_failing.py"
    passing.write_text("def test_one(): pass\ndef test_two(): pass\n")
    failing.write_text("def test_one(): pass\ndef test_other(): assert False\n")
    command = [sys.executable, "-c", LANES, str(passing), str(failing)]
    *_, summary, status = subprocess.check_output(command, text=True).splitlines()
    assert re.fullmatch(r"===== 5 passed, 1 failed in \d+\.\d\ds =====", summary)
    assert status == "1"


def test_programs_that_are_given_are_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    (tmp_path / "etcd").touch()
    assert gobuild.program("etcd") == tmp_path / "etcd"
