"""Hooks: run for the newest content only, one at a time, until they succeed."""

from __future__ import annotations

import json
import os
import shlex
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubectl_sidecar import retry
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.kubectl.kubeconfig import DiscoveryCache
from kubectl_sidecar.process.pipeline import Stop
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.supervise.hook import HookRunner
from kubectl_sidecar.supervise.refresh import Context
from kubectl_sidecar.task import Settings
from tests.harness.certificates import Authority
from tests.harness.waiting import wait_until
from tests.harness.web import web
from tests.unit.parse.loading import load
from tests.unit.process.running import launcher, until_stopped


class Bed:
    """The hook of a task, as its worker has it."""

    def __init__(
        self, word: str, directory: Path, timeout: str = "20s", grace: float = 5.0, **environ: str
    ) -> None:
        directives = f"@on-change {'$HOOK' if environ else shlex.quote(word)} @timeout {timeout}"
        (self.task,) = load(f"{directives} p > sub/x", environ=environ)
        self.recorder = Recorder([])
        self.recorder.take_over([self.task])
        self.context = Context(
            settings=Settings(output_dir=str(directory)),
            launcher=launcher(grace),
            environment=os.environ,
            watch_environment=os.environ,
            cache=DiscoveryCache(None),
            recorder=self.recorder,
            slots=threading.Semaphore(1),
        )
        self.stop = Stop()
        assert self.task.on_change
        self.hook = HookRunner(self.task, self.task.on_change, self.context, self.stop)

    def error(self) -> str:
        """Why it fails when it is run once."""
        with pytest.raises(RefreshFailed) as caught:
            self.hook.tell(deadline=0)
        assert self.state()["lastError"] == str(caught.value)
        return str(caught.value)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.recorder.document())["tasks"][0]["hook"]
        return state

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run in a thread, as the worker does; it has ended after the block."""
        with until_stopped(self.hook.run, self.stop):
            yield


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_pipeline_is_told_the_output_and_all_of_its_stages_must_succeed(tmp_path: Path) -> None:
    bed = Bed(f"bash -c 'echo $KUBECTL_SIDECAR_OUTPUT' | tee {tmp_path}/told", tmp_path)
    bed.hook.tell()
    assert (tmp_path / "told").read_text() == f"{tmp_path}/sub/x\n"
    assert bed.state()["state"] == "ok"
    assert Bed("bash -c 'echo no >&2; exit 7' | cat", tmp_path).error() == "bash exited with 7: no"
    assert Bed("bash -c 'echo no >&2; exit 7' 2>/dev/null", tmp_path).error() == "bash exited with 7"


def test_what_it_writes_to_stdout_goes_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Bed("seq 100000", tmp_path).hook.tell()
    assert capfd.readouterr() == ("", "")


def test_nothing_is_run_before_it_is_told(tmp_path: Path) -> None:
    bed = Bed(f"bash -c 'echo >> {tmp_path}/runs'", tmp_path)
    with bed.running():
        assert bed.state()["state"] == "starting"
        bed.hook.send()
        wait_until(lambda: bed.state()["state"] == "ok")
    assert len(lines(tmp_path / "runs")) == 1


def test_changes_while_it_runs_make_one_more_run_and_no_two_run_at_once(tmp_path: Path) -> None:
    fifo, runs = tmp_path / "fifo", tmp_path / "runs"
    os.mkfifo(fifo)
    bed = Bed(f"bash -c 'echo begin >> {runs}; cat {fifo}; echo end >> {runs}'", tmp_path)
    with bed.running():
        bed.hook.send()
        for turn in (1, 2):
            wait_until(lambda: len(lines(runs)) == 2 * turn - 1)  # noqa: B023 (called in this turn alone)
            for _ in range(5 * (turn == 1)):
                bed.hook.send()
            fifo.write_text("go on\n")
        wait_until(lambda: len(lines(runs)) == 4)
    assert lines(runs) == ["begin", "end"] * 2


@pytest.mark.slow
def test_a_failure_is_tried_again_until_it_succeeds(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    bed = Bed(f"bash -c 'echo >> {runs}; (( $(wc -l < {runs}) > 1 ))'", tmp_path)
    with bed.running():
        bed.hook.send()
        wait_until(lambda: bed.state()["state"] == "ok")
    assert (len(lines(runs)), bed.state()["failures"]) == (2, 0)


def test_newer_content_does_not_wait_for_the_backoff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "SHORTEST_BACKOFF", 1000.0)
    good = tmp_path / "good"
    bed = Bed(f"test -e {good}", tmp_path)
    with bed.running():
        bed.hook.send()
        wait_until(lambda: bed.state()["failures"] == 1)
        bed.hook.send()
        wait_until(lambda: bed.state()["failures"] == 2)
        good.touch()
        bed.hook.send()
        wait_until(lambda: bed.state()["state"] == "ok")


def test_the_timeout_of_the_task_is_that_of_its_hook(tmp_path: Path) -> None:
    expected = "timed out after 50ms (@timeout, --timeout)"
    assert Bed("sleep 1000", tmp_path, timeout="50ms").error() == expected
    with web(204) as server:
        server.open.clear()
        expected = f"POST {server.url}/x: timed out after 50ms (@timeout, --timeout)"
        assert Bed(f"{server.url}/x", tmp_path, timeout="50ms").error() == expected


def test_a_stop_ends_a_pipeline_at_once(tmp_path: Path) -> None:
    bed = Bed(f"bash -c 'echo > {tmp_path}/begun; sleep 1000'", tmp_path, grace=1000)
    with bed.running():
        bed.hook.send()
        wait_until((tmp_path / "begun").exists)
    assert bed.state()["failures"] == 0


def test_a_stop_ends_a_post_at_once(tmp_path: Path) -> None:
    with web(204) as server:
        server.open.clear()
        bed = Bed(server.url, tmp_path, timeout="1h")
        with bed.running():
            bed.hook.send()
            wait_until(lambda: server.requests)
        assert bed.state()["failures"] == 0


def test_a_stop_in_the_backoff_makes_no_further_attempt(tmp_path: Path) -> None:
    bed = Bed(f"bash -c 'echo >> {tmp_path}/runs; exit 1'", tmp_path)
    with bed.running():
        bed.hook.send()
        wait_until(lambda: bed.state()["failures"] >= 1)
    assert len(lines(tmp_path / "runs")) == bed.state()["failures"]


def test_a_post_is_empty_and_an_answer_of_2xx_is_success(tmp_path: Path) -> None:
    for status in (200, 202, 204, 299):
        with web(status) as server:
            bed = Bed(f"{server.url}/-/reload?a=%20b#fragment", tmp_path)
            bed.hook.tell()
        assert server.requests == ["POST /-/reload?a=%20b"]
        assert server.headers[0]["content-length"] == "0"
        assert server.headers[0]["user-agent"].startswith("kubectl-sidecar/")
        assert "authorization" not in server.headers[0]


def test_any_other_answer_is_a_failure_and_nothing_is_followed(tmp_path: Path) -> None:
    for status in (199, 302, 307, 404, 503):
        with web(status) as server:
            expected = f"POST {server.url}: answered with {status}"
            assert Bed(server.url, tmp_path).error() == expected
        assert server.requests == ["POST /"]


def test_no_secret_of_a_url_is_told(tmp_path: Path) -> None:
    with web(401) as server:
        word = f"{server.url.replace('//', '//me:hunter%202@')}/hook?token=hunter2"
        assert Bed(word, tmp_path).error() == f"POST {server.url}/hook: answered with 401"
        assert Bed("", tmp_path, HOOK=word).error() == "POST: answered with 401"
    assert server.requests == ["POST /hook?token=hunter2"] * 2
    assert server.headers[0]["authorization"] == "Basic bWU6aHVudGVyIDI="  # me:hunter 2


def test_proxies_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with web(200) as server:
        Bed(server.url, tmp_path).hook.tell()


def test_a_server_can_have_an_ipv6_address(tmp_path: Path) -> None:
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with server:
        port = server.getsockname()[1]
        bed = Bed(f"http://[::1]:{port}/a", tmp_path)
        with bed.running():
            bed.hook.send()
            connection, _ = server.accept()
            with connection:
                assert f"Host: [::1]:{port}\r\n" in connection.recv(4096).decode()
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                wait_until(lambda: bed.state()["state"] == "ok")


def test_what_goes_wrong_on_the_way_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        answers = {b"SSH-2.0-secret\r\n": "the answer is not HTTP"}
        answers[b""] = "Remote end closed connection without response"
        for answer, expected in answers.items():
            thread = threading.Thread(target=answer_once, args=(server, answer))
            thread.start()
            assert Bed(url, tmp_path).error() == f"POST {url}: {expected}"
            thread.join()
    assert Bed(url, tmp_path).error() == f"POST {url}: Connection refused"
    url = f"http://{'a' * 64}.invalid"
    assert Bed(url, tmp_path).error() == f"POST {url}: there can be no host of that name"


def answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


def test_a_stopped_post_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        bed = Bed(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path, timeout="1h")
        with bed.running():
            bed.hook.send()
            connection, _ = server.accept()
            connection.recv(4096)
        wait_until(lambda: threading.active_count() == before)
        connection.close()


def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", "/CN=server", "DNS:localhost")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    with web(200, tls=tls) as server:
        right = server.url.replace("127.0.0.1", "localhost")
        assert "unable to get local issuer certificate" in Bed(right, tmp_path).error()
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        Bed(right, tmp_path).hook.tell()
        message = "IP address mismatch, certificate is not valid for '…'."
        assert Bed(server.url, tmp_path).error() == f"POST {server.url}: {message}"
