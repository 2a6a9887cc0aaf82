"""@on-change: what is told of a change, of which, how often, and what that leaves alone."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.access import Namespace
from tests.harness.configmap import ConfigMap
from tests.harness.isolation import Isolation
from tests.harness.processes import Process
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until
from tests.harness.web import web

# Longer than any of these tests waits for an end: a hook that needs the grace makes its test fail.
PATIENT = "--grace=60s"
SOURCE = "kubectl get configmap web -o json | jq -r .data.n > n"
# Reads its file at the start and when it is told to, as many programs do.
APP = """
read_file() { cat outputs-1/n >> seen; }
trap read_file HUP
echo $$ > app.pid.new
mv app.pid.new app.pid
while true; do sleep 1000 & wait; done
"""


@pytest.fixture
def configmap(namespace: Namespace) -> ConfigMap:
    made = ConfigMap(namespace)
    made.create(n="0")
    return made


def hooked(hook: str, line: str = SOURCE) -> str:
    return f"@on-change {shlex.quote(hook)} {line}"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def asked(launcher: Launcher, directory: Path, *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(directory)}
    done = subprocess.run([launcher.program, *words], env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def begins(tmp_path: Path) -> Callable[[], int]:
    """How often SLOW has begun."""
    return lambda: len(lines(tmp_path / "begins"))


def slow(directory: Path) -> str:
    """A hook that notes each of its runs, and ends when something is written to a FIFO."""
    fifo = directory / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    return f"bash -c 'cat $KUBECTL_SIDECAR_OUTPUT >> {directory}/begins; cat {fifo}'"


@pytest.mark.smoke
def test_an_app_that_reloads_on_sighup_follows_its_file(
    configmap: ConfigMap, sidecar: Launcher, tmp_path: Path
) -> None:
    app = Process(["bash", "-c", APP], tmp_path / "app.log", env=dict(os.environ), cwd=tmp_path)
    try:
        wait_until((tmp_path / "app.pid").exists)
        line = f"""@watch @on-change 'bash -c "kill -HUP $(cat {tmp_path}/app.pid)"' {SOURCE}"""
        run = sidecar(line, account=configmap.watcher())
        for number in range(3):
            configmap.put(n=str(number))
            wait_until(lambda: lines(tmp_path / "seen")[-1:] == [str(number)], what=run.log())  # noqa: B023
        assert run.stop() == 0
    finally:
        app.stop(signal.SIGKILL)


def test_a_server_that_fails_is_asked_until_it_does_not(configmap: ConfigMap, sidecar: Launcher) -> None:
    with web(503, 503, 204) as server:
        url = f"{server.url}/-/reload"
        run = sidecar("@watch " + hooked(url), account=configmap.watcher())
        run.wait_for_log("on-change: recovered after 2 failures in ", timeout=30)
        assert len(server.requests) == 3
        failed = run.log_lines("on-change failed")
        assert f" warn n: on-change failed: POST {url}: answered with 503; next attempt in " in failed[0]
        assert " warn n: on-change failed (2 times in " in failed[1]
        configmap.put(n="1")
        wait_until(lambda: len(server.requests) == 4)
        assert run.stop() == 0


def test_only_the_newest_content_is_told_of(
    configmap: ConfigMap, sidecar: Launcher, tmp_path: Path, begins: Callable[[], int]
) -> None:
    run = sidecar("@watch " + hooked(slow(tmp_path)), account=configmap.watcher())
    wait_until(lambda: begins() == 1)
    for number in range(1, 21):
        configmap.put(n=str(number))
    wait_until(lambda: run.output("n").read_text() == "20\n", what=run.log())
    assert begins() == 1
    (tmp_path / "fifo").write_text("go on\n")
    wait_until(lambda: begins() == 2)
    assert lines(tmp_path / "begins") == ["0", "20"]
    assert run.stop() == 0
    assert begins() == 2


def test_without_a_change_nothing_is_told_after_the_first_time(sidecar: Launcher, tmp_path: Path) -> None:
    line = f"@every 20ms bash -c 'echo >> {tmp_path}/runs; echo same' > n"
    run = sidecar(PATIENT, hooked(f"bash -c 'echo >> {tmp_path}/told'", line))
    wait_until(lambda: len(lines(tmp_path / "runs")) > 10)
    assert run.stop() == 0
    assert len(lines(tmp_path / "told")) == 1
    again = sidecar(hooked(f"bash -c 'echo >> {tmp_path}/told'", line), output_directory=run.output_directory)
    wait_until(lambda: len(lines(tmp_path / "told")) == 2, what=again.log())
    assert again.stop() == 0


def test_what_a_killed_program_did_not_tell_is_told_by_the_next(
    sidecar: Launcher, tmp_path: Path, begins: Callable[[], int]
) -> None:
    line = hooked(slow(tmp_path), "@every 1h echo 1 > n")
    killed = sidecar(line)
    wait_until(lambda: begins() == 1)
    killed.destroy()
    run = sidecar(line, output_directory=killed.output_directory)
    wait_until(lambda: begins() == 2, what=run.log())
    (tmp_path / "fifo").write_text("go on\n")
    run.wait_for_log("on-change: first success")
    assert run.stop() == 0


def test_an_output_that_is_taken_away_is_a_change(
    configmap: ConfigMap, sidecar: Launcher, tmp_path: Path
) -> None:
    hook = f"bash -c 'test -e $KUBECTL_SIDECAR_OUTPUT; echo $? >> {tmp_path}/told'"
    run = sidecar("@watch @on-missing remove " + hooked(hook), account=configmap.watcher())
    wait_until(lambda: lines(tmp_path / "told") == ["0"], what=run.log())
    configmap.delete()
    wait_until(lambda: lines(tmp_path / "told") == ["0", "1"], what=run.log())
    configmap.create(n="1")
    wait_until(lambda: lines(tmp_path / "told") == ["0", "1", "0"], what=run.log())
    assert run.stop() == 0


def test_a_hook_that_hangs_or_fails_is_nobody_elses_problem(sidecar: Launcher, tmp_path: Path) -> None:
    with web(500) as server:
        words = ["--concurrency=1", "--max-failures=1", "--every=20ms"]
        run = sidecar(
            *words,
            hooked("sleep 1000", "date +%N > hanging"),
            hooked(server.url, "date +%N > failing"),
            env={"TMPDIR": str(tmp_path)},
        )
        for output in ("hanging", "failing"):
            run.wait_for_log(f" {output}: changed", count=20)
        run.wait_for_log(r"on-change failed \(4 times", timeout=30)
        assert asked(sidecar, tmp_path, "health", "--startup") == "started\n"
        assert asked(sidecar, tmp_path, "health", "--ready", "--max-age=10s") == "ready\n"
        row = next(line for line in asked(sidecar, tmp_path, "status").splitlines() if "failing" in line)
        assert row.split()[1] == "ok"
        assert row.endswith(f"on-change: POST {server.url}: answered with 500")
        assert run.stop() == 0


def test_once_waits_for_the_hooks(configmap: ConfigMap, sidecar: Launcher) -> None:
    account = configmap.watcher()
    seen = sidecar("--once", hooked("kubectl get configmap web -o json | jq -e '.data.n'"), account=account)
    assert seen.wait() == 0, seen.log()
    with web(503, 200) as server:
        assert sidecar("--once", hooked(server.url), account=account).wait() == 0
        assert len(server.requests) == 2
    late = sidecar("--once", "--deadline=300ms", hooked("false"), account=account)
    assert late.wait() == 1
    assert late.log_lines(r" warn n: on-change failed.*: false exited with 1; giving up$")
    assert late.output("n").read_text() == "0\n"


@pytest.mark.parametrize("once", [True, False])
def test_sigterm_ends_a_post_at_once(sidecar: Launcher, once: bool) -> None:
    with web(200) as server:
        server.open.clear()
        run = sidecar(*["--once"] * once, PATIENT, "--timeout=1h", hooked(server.url, "echo 1 > n"))
        wait_until(lambda: server.requests)
        assert run.stop() == 0


@dataclass(frozen=True)
class OwnNameServer(Isolation):
    """The name server has another address."""

    resolv_conf: str = ""

    def _mounts(self) -> str:
        return f"mount --bind {shlex.quote(self.resolv_conf)} /etc/resolv.conf\n"


def test_sigterm_ends_a_post_that_waits_for_a_name_server(sidecar: Launcher, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.9.9.9\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.settimeout(20)
        try:
            silent.bind(("127.9.9.9", 53))
        except OSError as error:
            pytest.skip(f"no name server can be had: {error}")
        isolation = OwnNameServer(resolv_conf=str(tmp_path / "resolv.conf"))
        run = sidecar(PATIENT, hooked("http://app.invalid/", "echo 1 > n"), isolation=isolation)
        silent.recv(4096)
        assert run.stop() == 0


@pytest.mark.parametrize("once", [True, False])
def test_sigterm_ends_a_pipeline_in_order(sidecar: Launcher, tmp_path: Path, once: bool) -> None:
    script = f'trap "echo orderly > {tmp_path}/end" TERM; echo > {tmp_path}/begun; sleep 1000 & wait'
    run = sidecar(*["--once"] * once, PATIENT, hooked(f"bash -c {shlex.quote(script)}", "echo 1 > n"))
    wait_until((tmp_path / "begun").exists)
    assert run.stop() == 0
    assert lines(tmp_path / "end") == ["orderly"]


def test_a_pipeline_that_does_not_listen_gets_the_grace_and_no_more(
    sidecar: Launcher, tmp_path: Path
) -> None:
    script = f'trap "" TERM; echo > {tmp_path}/begun; while :; do sleep 1000; done'
    run = sidecar("--grace=200ms", hooked(f"bash -c {shlex.quote(script)}", "echo 1 > n"))
    wait_until((tmp_path / "begun").exists)
    assert run.stop() == 0


def test_a_reload_leaves_the_hooks_of_unchanged_tasks_alone(
    sidecar: Launcher, tmp_path: Path, begins: Callable[[], int]
) -> None:
    tasks = tmp_path / "tasks"
    kept = hooked(slow(tmp_path), "@every 1h echo kept > kept")
    tasks.write_text(
        f"{kept}\n{hooked('sleep 1001', 'echo 1 > changed')}\n{hooked('sleep 1002', 'echo 1 > gone')}\n"
    )
    run = sidecar("-f", tasks)
    wait_until(lambda: begins() == 1 and {"1001", "1002"} <= words_of(run), what=run.log())
    tasks.write_text(f"# moved\n{kept}\n{hooked('sleep 1003', 'echo 1 > changed')}\n")
    run.send(signal.SIGHUP)
    wait_until(lambda: "1003" in words_of(run), what=run.log())
    wait_until(lambda: not {"1001", "1002"} & words_of(run), what=run.log())
    (tmp_path / "fifo").write_text("go on\n")
    run.wait_for_log("kept: on-change: first success")
    assert begins() == 1
    assert run.stop() == 0


def test_a_bug_in_it_is_no_silence(sidecar: Launcher, tmp_path: Path) -> None:
    (tmp_path / "usercustomize.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(
        "import kubectl_sidecar.supervise.hook as it\nit.check = lambda *_: 1 / 0\n"
    )
    run = sidecar(hooked("true", "echo 1 > n"), "sleep 1000 > hanging", env={"PYTHONPATH": str(tmp_path)})
    assert run.wait() == 3
    assert run.log_lines()[-1] == "ZeroDivisionError: division by zero"
    assert run.children() == {}


def words_of(run: Sidecar) -> set[str]:
    """Of all the programs that it runs."""
    return {word for argv in run.children().values() for word in argv.split()}


def test_no_secret_is_in_the_log_or_the_status(sidecar: Launcher, tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path), "TOKEN": "hunter2", "NAME": "hunter3.invalid"}
    with web(403) as server:
        address = server.url.removeprefix("http://")
        run = sidecar(
            hooked(f"http://me:hunter4@{address}/a?t=hunter5", "echo hunter6 > a"),
            f'@on-change "http://{address}/$TOKEN" echo 1 > b',
            '@on-change "http://$NAME/" echo 1 > c',
            hooked('bash -c "exit 1" "$TOKEN"', "echo 1 > d"),
            hooked("cat $KUBECTL_SIDECAR_OUTPUT | jq .", "echo '\"hunter7' > e"),
            env=env,
        )
        for output in "abcde":
            run.wait_for_log(f" {output}: on-change failed")
        assert "POST /hunter2" in server.requests

        def status(*words: str) -> str:
            return asked(sidecar, tmp_path, "status", *words)

        wait_until(lambda: status().count("on-change: ") == 5)
        for text in (run.log(), status(), status("-o=json")):
            assert f"POST http://{address}/a: answered with 403" in text
            assert "POST: answered with 403" in text
            assert "hunter" not in text
        assert run.stop() == 0
