"""The run command, as a whole program with real stages."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_sidecar.cli.main import main
from tests.harness.waiting import wait_until
from tests.unit.cli.program import ENVIRON, ROOT, WORDS, started
from tests.unit.status import mounted


def run(*words: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [*WORDS, "run", *words]
    return subprocess.run(
        command, cwd=cwd, env={**ENVIRON, **environ}, capture_output=True, text=True, check=False
    )


def test_bad_surroundings_and_bad_tasks_are_told_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setenv("KUBECONFIG", f"{missing}/config")
    assert main(["run", f"--output-dir={missing}", "-f", f"{missing}/tasks", "cat x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"--output-dir: {missing} is not a directory; make it, or mount a volume there\n"
        "KUBECONFIG: KUBECONFIG names no file that exists, and kubectl goes on as if it were not set\n"
        f"{missing}/tasks: cannot be read: No such file or directory\n"
        "LINE 1:1:6: "
    )


def test_a_status_file_cannot_be_an_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["run", f"--output-dir={tmp_path}", f"--status-file={tmp_path}/x/../a", "cat x > a"]
    words += ["--once", "--deadline=1ms"]
    assert main(words) == 2
    assert "--status-file" in capsys.readouterr().err


def test_an_absolute_output_may_not_be_a_relative_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["run", "--once", "--deadline=1ms", "--output-dir=out", "cat > a", f"cat > {tmp_path}/out/a"]
    assert main(words) == 2
    assert "LINE 2:1:7: " in capsys.readouterr().err


def test_what_http_needs_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everything else is loaded already.
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    monkeypatch.delitem(sys.modules, "prometheus_client", raising=False)
    assert main(["run", f"--output-dir={tmp_path}", "--http=:0", "--once", "--deadline=1ms", "cat > a"]) == 2
    way_out = "pip install 'kubectl-sidecar[metrics]', or leave it out"
    assert capsys.readouterr().err == f"--http: prometheus_client is not installed; {way_out}\n"


@pytest.mark.slow
def test_nothing_of_http_is_loaded_unless_it_is_asked_for(tmp_path: Path) -> None:
    script = (
        "import sys; from kubectl_sidecar.cli.main import main\n"
        "main(sys.argv[1:]); print(*sorted({'prometheus_client', 'selectors', 'kubectl_sidecar.status.http', "
        "'kubectl_sidecar.status.metrics'} & sys.modules.keys()))"
    )

    def loaded(*words: str) -> str:
        words = ("run", "--once", f"--output-dir={tmp_path}", *words, "cat /proc/self/comm > a")
        command = [sys.executable, "-c", script, *words]
        return subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=True).stdout

    assert loaded() == "\n"
    http = "kubectl_sidecar.status.http kubectl_sidecar.status.metrics prometheus_client selectors\n"
    assert loaded("--http=127.0.0.1:0") == http


@pytest.mark.slow
def test_paths_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "tasks").write_text("cat /dev/null /proc/self/comm > name\n")
    words = ["--once", "--output-dir=out", "--status-file=status.json", "-f", "tasks", "--log-format=json"]
    done = run(*words, cwd=tmp_path)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, events[-1]["task"], events[-1]["message"]) == (
        0,
        "name",
        "first success: 4 bytes",
    )
    assert (tmp_path / "out" / "name").read_text() == "cat\n"
    assert json.loads((tmp_path / "status.json").read_text())["tasks"][0]["state"] == "ok"


def test_the_log_begins_with_what_runs_as_whom(tmp_path: Path) -> None:
    done = run("--once", "true | echo 1 > a", cwd=tmp_path)
    first = rf"\S+ info kubectl-sidecar \S+: 1 tasks, UID {os.geteuid()}, GID {os.getegid()}"
    assert re.fullmatch(first, done.stderr.splitlines()[0])
    assert done.returncode == 0


@pytest.mark.slow
def test_stages_have_a_private_cache_that_is_gone_at_the_end(tmp_path: Path) -> None:
    private, out = tmp_path / "private", tmp_path / "out"
    private.mkdir()
    out.mkdir()
    done = run("--once", "printenv KUBECACHEDIR > cache", cwd=out, TMPDIR=str(private))
    cache = Path((out / "cache").read_text().strip())
    assert (done.returncode, cache.name, cache.parent.parent) == (0, "kubectl", private)
    assert list(private.iterdir()) == []


@pytest.mark.slow
def test_a_cache_of_the_users_own_is_left_to_him(tmp_path: Path) -> None:
    done = run("--once", "printenv KUBECACHEDIR > cache", cwd=tmp_path, KUBECACHEDIR="/theirs")
    assert (done.returncode, (tmp_path / "cache").read_text()) == (0, "/theirs\n")


def test_no_file_takes_the_place_of_a_closed_stderr(tmp_path: Path) -> None:
    before = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with started("run", "cat /proc/self/comm > a", before=before, cwd=tmp_path) as process:
        wait_until((tmp_path / "a").exists)
        for number in range(3):
            assert Path(f"/proc/{process.pid}/fd/{number}").readlink() == Path(os.devnull)


def test_a_failing_task_is_a_failure_of_once(tmp_path: Path) -> None:
    done = run("--once", "--deadline=1ms", "false > a", "echo 1 > b", cwd=tmp_path)
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.slow
def test_once_is_over_when_the_hooks_have_succeeded_too(tmp_path: Path) -> None:
    script = f"echo >> {tmp_path}/runs; (( $(wc -l < {tmp_path}/runs) > 1 ))"
    hook = shlex.quote(f"bash -c '{script}'")
    done = run("--once", f"@on-change {hook} echo 1 > a", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(r" info a: on-change: recovered after 1 failures in \d+m?s$", done.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_failing_hook_is_a_failure_of_once(tmp_path: Path) -> None:
    done = run("--once", "--deadline=1ms", "@on-change false echo 1 > a", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(" warn a: on-change failed: false exited with 1; giving up\n")
    assert (tmp_path / "a").read_text() == "1\n"


@pytest.mark.slow
def test_a_hook_can_be_kubectl_sidecar(tmp_path: Path) -> None:
    word = f"{' '.join(WORDS)} check 'cat $KUBECTL_SIDECAR_OUTPUT > x'"
    done = run("--once", "@on-change " + shlex.quote(word) + " echo 1 > a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


LINE = "@every 20ms cat /proc/uptime > a"


def wait_for_changes(path: Path) -> None:
    """Wait until an output has changed twice."""
    wait_until(path.exists)
    for _ in range(2):
        before = path.stat().st_ino
        wait_until(lambda: path.stat().st_ino != before)  # noqa: B023 (called in this turn alone)


@pytest.mark.slow
def test_a_log_pipe_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, bytes(4096))
    except BlockingIOError:
        os.set_blocking(write, True)
    with started("run", LINE, cwd=tmp_path, stderr=write) as process:
        wait_for_changes(tmp_path / "a")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    os.close(read)
    os.close(write)


@pytest.mark.slow
def test_a_status_file_on_a_volume_that_hangs_stops_nothing(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    words = ("run", f"--status-file={volume}/status.json", LINE)
    with started(*words, before=mounted.hanging(volume), cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        wait_for_changes(tmp_path / "a")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
