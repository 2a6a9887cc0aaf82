"""Probes and Prometheus get their answers over HTTP, whoever else connects."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from kubectl_sidecar.cli.main import main
from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status import http
from kubectl_sidecar.status.document import moment
from kubectl_sidecar.status.log import log
from kubectl_sidecar.status.recorder import Recorder
from tests.harness.waiting import wait_until
from tests.unit.status.tasks import task

A = task("a")
PUBLISHED = Published(True, 2, "aa")
Address = tuple[str, int]
Start = Callable[..., Address]


@pytest.fixture
def logs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, log.name)
    return caplog


def listens_on(logs: pytest.LogCaptureFixture) -> Address:
    """Where the server says that it listens."""
    said = wait_until(lambda: re.findall(r"http: listening on (.*):(\d+)", logs.text))[0]
    return said[0].strip("[]"), int(said[1])


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder([])
    recorder.take_over([A])
    return recorder


@pytest.fixture
def start(recorder: Recorder, logs: pytest.LogCaptureFixture) -> Start:
    """Starts a server, which ends with the process, and returns the address that it says it has."""

    def start(host: str = "127.0.0.1", max_age: float | None = None) -> Address:
        logs.clear()
        http.Server((host, 0), recorder.document, lambda: b"some_metric 1\n", max_age)
        return listens_on(logs)

    return start


def exchange(address: Address, request: bytes) -> tuple[str, dict[str, str], str]:
    """The status line, the headers and the body of the answer."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(request)
        response = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = response.decode().partition("\r\n\r\n")
    status, *headers = head.split("\r\n")
    return status, dict(line.split(": ", 1) for line in headers), body


def get(address: Address, path: str) -> tuple[int, str]:
    status, _, body = exchange(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return int(status.split()[1]), body


def test_probes_are_answered_as_health_answers_them(
    start: Start,
    recorder: Recorder,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = start()
    path = tmp_path_factory.mktemp("status") / "status.json"

    def is_as_health_says(probes: dict[str, str]) -> None:
        path.write_text(recorder.document())
        for probe, words in {"livez": [], "startupz": ["--startup"], "readyz": ["--ready"]}.items():
            status = main(["health", f"--status-file={path}", *words])
            assert get(address, f"/{probe}") == (503 if status else 200, capsys.readouterr().out)
            assert get(address, f"/{probe}")[1] == probes[probe] + "\n"

    nothing = "a: no success yet, the first refresh has not ended"
    is_as_health_says(
        {"livez": "alive", "startupz": f"not started: {nothing}", "readyz": f"not ready: {nothing}"}
    )
    recorder.failed(A, "kubectl exited with 1: no route to host", 0.5)
    why = "a: no success yet: kubectl exited with 1: no route to host"
    is_as_health_says({"livez": "alive", "startupz": f"not started: {why}", "readyz": f"not ready: {why}"})
    recorder.succeeded(A, PUBLISHED, 30.0)
    is_as_health_says({"livez": "alive", "startupz": "started", "readyz": "ready"})


def test_readiness_heeds_the_age_of_the_last_success(start: Start, recorder: Recorder) -> None:
    strict, lenient = start(max_age=1e-6), start(max_age=3600.0)
    recorder.succeeded(A, PUBLISHED, 30.0)
    # Times in the document are rounded to milliseconds.
    wait_until(lambda: get(strict, "/readyz")[0] == 503)
    assert get(strict, "/readyz")[1].startswith("not ready: a: the last success was ")
    assert get(lenient, "/readyz") == (200, "ready\n")


def test_a_supervisor_that_makes_no_progress_is_not_alive(
    logs: pytest.LogCaptureFixture,
) -> None:
    def a_minute_ago() -> tuple[float, float]:
        wall, since_boot = moment()
        return wall - 60, since_boot - 60

    stopped = Recorder([], a_minute_ago)
    http.Server(("127.0.0.1", 0), stopped.document, bytes, None)
    assert get(listens_on(logs), "/livez") == (
        503,
        "not alive: no heartbeat for 1m; there is one every 10s\n",
    )


ALIVE = "HTTP/1.1 200 OK", "alive\n"
BAD = "HTTP/1.1 400 Bad Request", "this is no request of HTTP/1.x, or has 8192 bytes or more\n"
MISSING = "HTTP/1.1 404 Not Found", "there are /livez, /startupz, /readyz and /metrics\n"
LONG = b"X: " + b"x" * 100_000


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", ALIVE),
        (b"GET /livez HTTP/1.0\r\n\r\n", ALIVE),
        (b"GET /livez HTTP/1.1\n\n", ALIVE),
        (b"GET /livez?verbose HTTP/1.1\r\n\r\n", ALIVE),
        (b"GET /metrics HTTP/1.1\r\n\r\n", ("HTTP/1.1 200 OK", "some_metric 1\n")),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", ("HTTP/1.1 200 OK", "")),
        (b"GET / HTTP/1.1\r\n\r\n", MISSING),
        (b"GET /livez/ HTTP/1.1\r\n\r\n", MISSING),
        (b"GET /../livez HTTP/1.1\r\n\r\n", MISSING),
        (
            b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            ("HTTP/1.1 405 Method Not Allowed", "/livez has GET and HEAD, no POST\n"),
        ),
        (b"get /livez HTTP/1.1\r\n\r\n", BAD),
        (b"GET /livez\r\n\r\n", BAD),
        (b"GET /li vez HTTP/1.1\r\n\r\n", BAD),
        (b"GET /l\xc3\xa4vez HTTP/1.1\r\n\r\n", BAD),
        (b"GET http://x/livez HTTP/1.1\r\n\r\n", BAD),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", BAD),
        (b"\r\n\r\n", BAD),
        (b"GET /livez HTTP/1.1\r\n" + LONG[:9000], BAD),
        (LONG[:9000] + b"\r\n\r\n", BAD),
    ],
)
def test_whatever_comes_is_answered(start: Start, request_: bytes, answer: tuple[str, str]) -> None:
    status, headers, body = exchange(start(), request_)
    assert (status, body) == answer
    assert headers["Connection"] == "close"
    assert headers.get("Allow") == ("GET, HEAD" if " 405 " in status else None)
    length = len(ALIVE[1]) if request_.startswith(b"HEAD") else len(body)
    assert headers["Content-Length"] == str(length)


def test_what_comes_after_the_answer_does_not_reset_the_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 3600.0)
    address = start()
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(b"POST /livez HTTP/1.1\r\nContent-Length: 2000\r\n\r\n")
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 405 ")
        for _ in range(2):  # the second time raises if the first was answered with a reset
            client.sendall(b"x" * 1000)
            assert get(address, "/livez") == (200, "alive\n")


def test_each_page_says_what_it_is(start: Start) -> None:
    address = start()
    for path, kind in {
        "livez": "text/plain; charset=utf-8",
        "metrics": "text/plain; version=0.0.4; charset=utf-8",
    }.items():
        _, headers, _ = exchange(address, f"GET /{path} HTTP/1.1\r\n\r\n".encode())
        assert headers["Content-Type"] == kind


@pytest.fixture
def crowd() -> Iterator[list[socket.socket]]:
    """Sockets that are closed in the end."""
    sockets: list[socket.socket] = []
    yield sockets
    for one in sockets:
        one.close()


def is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nX: " + b"x" * 8000], ids=["silent", "half"])
def test_a_thousand_idle_clients_keep_nobody_from_an_answer(
    start: Start, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http, "_PATIENCE", 3600.0)
    address = start()
    for _ in range(1000):
        crowd.append(socket.create_connection(address, timeout=30))
        crowd[-1].sendall(sent)
    assert get(address, "/livez") == (200, "alive\n")
    # The newest are still there: 64, with the one that was answered.
    wait_until(lambda: sum(map(is_open, crowd)) <= 64)
    assert get(address, "/metrics") == (200, "some_metric 1\n")


def test_a_client_has_five_seconds_for_everything(
    start: Start, crowd: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http._PATIENCE == 5.0  # noqa: SLF001
    monkeypatch.setattr(http, "_PATIENCE", 0.1)
    address = start()
    for sent in (b"", b"GET /livez HTT", b"GET /livez HTTP/1.1\r\n\r\n"):
        crowd.append(socket.create_connection(address, timeout=30))
        crowd[-1].sendall(sent)
    # The last one has its answer, and does not close its end.
    wait_until(lambda: not any(map(is_open, crowd[:2])))
    assert crowd[2].recv(1000).endswith(b"\r\n\r\nalive\n")
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        wait_until(lambda: crowd[2].send(b"x") == 0)


@pytest.mark.slow
def test_a_port_in_use_is_said_and_tried_again(recorder: Recorder, logs: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()
        http.Server(address, recorder.document, bytes, None)
        line = wait_until(lambda: logs.records)[0]
    expected = (
        rf"--http: cannot listen on 127\.0\.0\.1:{address[1]}: Address already in use; next attempt in \d+ms"
    )
    assert re.fullmatch(expected, line.getMessage())
    assert line.levelno == logging.ERROR
    assert listens_on(logs) == address
    assert get(address, "/livez") == (200, "alive\n")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6")
@pytest.mark.parametrize(("host", "said"), [("::1", "::1"), ("", "::"), ("::", "::")])
def test_it_listens_on_ipv6_and_without_an_address_on_everything(start: Start, host: str, said: str) -> None:
    address = start(host)
    assert address[0] == said
    assert get(("::1", address[1]), "/livez") == (200, "alive\n")
    if host != "::1":
        assert get(("127.0.0.1", address[1]), "/livez") == (200, "alive\n")
