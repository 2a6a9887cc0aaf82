"""Watched tasks on a bad day: whatever becomes of a watch, the file moves forward and ends up right."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness.access import Namespace, ServiceAccount
from tests.harness.configmap import ConfigMap
from tests.harness.control_plane import ControlPlane
from tests.harness.proxy import Proxy
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

LINE = "@watch kubectl get configmap web -o json | jq -r .data.n > n"
CHANGES, RESTARTS = 1000, (400, 800)
CONVERGED = 2.0


@pytest.fixture
def web(namespace: Namespace) -> ConfigMap:
    configmap = ConfigMap(namespace)
    configmap.create(n="0")
    return configmap


@pytest.fixture
def account(web: ConfigMap) -> ServiceAccount:
    return web.watcher()


@contextlib.contextmanager
def proxied(account: ServiceAccount, *, plain: bool = False) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """A proxy, and the environment that makes kubectl use it."""
    proxy = Proxy(account, plain=plain)
    try:
        yield proxy, {"KUBECONFIG": str(proxy.kubeconfig())}
    finally:
        proxy.close()


def restart(plane: ControlPlane) -> None:
    """As if it had crashed: in order, it takes a while to take leave of its watches."""
    plane.api_server.stop(signal.SIGKILL)
    plane.start_api_server()


def shows(run: Sidecar, text: str, timeout: float = CONVERGED) -> None:
    def content() -> None:
        path = run.output("n")
        assert (path.read_text() if path.exists() else None) == text, run.log()[-3000:]

    wait_until(content, timeout, f"n does not show {text!r}")


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "reset": Proxy.reset,
    "closed": Proxy.close_connections,
    "ended in order": Proxy.end_answers,
    "told that its version is too old": lambda proxy: proxy.say(
        '{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        '"message":"too old resource version: 1 (2)","reason":"Expired","code":410}}\n'
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_watch_was(fault: str, web: ConfigMap, account: ServiceAccount, sidecar: Launcher) -> None:
    """... the file shows at once what came meanwhile."""
    with proxied(account, plain=True) as (proxy, environment):
        run = sidecar(LINE, env=environment)
        shows(run, "0\n", timeout=5)
        web.put(n="1")
        shows(run, "1\n")  # the list was over before: it is in the watch
        before = set(run.children())
        FAULTS[fault](proxy)
        wait_until(lambda: len(before & set(run.children())) <= 1, what="the watch goes on as if nothing was")
        for n in range(2, 4):
            web.put(n=str(n))
            shows(run, f"{n}\n")
        assert run.stop() == 0


def test_an_event_that_is_cut_in_its_middle_is_not_lost(
    web: ConfigMap, account: ServiceAccount, sidecar: Launcher
) -> None:
    with proxied(account) as (proxy, environment):
        run = sidecar(LINE, env=environment)
        shows(run, "0\n", timeout=5)
        proxy.cuts = True
        web.put(n="1", filler="x" * 3000)
        shows(run, "1\n")
        assert run.stop() == 0


def test_a_slow_server_that_refuses_a_watch_is_asked_ever_more_rarely(
    web: ConfigMap, sidecar: Launcher
) -> None:
    account, plane = web.watcher("get list"), web.namespace.control_plane
    mark = plane.audit_mark()

    def verbs() -> list[str]:
        return [one.verb for one in plane.requests_since(mark, account.user) if one.resource]

    with proxied(account) as (proxy, environment):
        # A list takes longer than a watch is silent before it is asked what that means.
        proxy.delay = 0.4
        run = sidecar(LINE, env=environment)
        run.wait_for_log("n: it cannot be watched, and is refreshed every 30s instead: ")
        shows(run, "0\n", timeout=10)
        wait_until(lambda: verbs().count("watch") >= 5, timeout=60, what="it is not tried again")
        tried = verbs()
        # To each try belongs its list; what else there is are the first look, the poll, and what may run now.
        assert tried.count("list") <= tried.count("watch") + 1
        assert tried.count("get") <= 5
        assert run.stop() == 0


def test_a_connection_that_goes_silent_is_given_up(
    web: ConfigMap, account: ServiceAccount, sidecar: Launcher
) -> None:
    fast = {"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "1", "HTTP2_PING_TIMEOUT_SECONDS": "1"}
    with proxied(account) as (proxy, environment):
        run = sidecar(LINE, env={**environment, **fast})
        shows(run, "0\n", timeout=5)
        proxy.swallow()
        web.put(n="1")
        # The old connection is dead, and nobody says so: only a new one shows the change.
        shows(run, "1\n", timeout=10)
        assert run.stop() == 0


def test_a_watch_outlives_its_api_server(web: ConfigMap, account: ServiceAccount, sidecar: Launcher) -> None:
    run = sidecar(LINE, account=account)
    shows(run, "0\n", timeout=5)
    restart(web.namespace.control_plane)
    web.put(n="1")
    shows(run, "1\n", timeout=10)
    assert run.stop() == 0


def test_an_expired_token_is_replaced_by_the_next_one(
    web: ConfigMap, account: ServiceAccount, sidecar: Launcher
) -> None:
    with proxied(account) as (proxy, environment):
        run = sidecar(LINE, env=environment)
        shows(run, "0\n", timeout=5)
        account.token_file.write_text("expired")
        # A watch is authenticated when it begins: it does not mind.
        web.put(n="1")
        shows(run, "1\n")
        proxy.reset()
        run.wait_for_log("n: failed: .*You must be logged in|n: failed: .*provide credentials")
        web.put(n="2")
        account.rotate_token()
        shows(run, "2\n", timeout=5)
        assert run.stop() == 0


class Reader(threading.Thread):
    """Reads an output all the time, as an app would."""

    def __init__(self, run: Sidecar) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.broken: list[str] = []
        self._path = run.output("n")
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.001):
            text = self._path.read_text()
            if not text.removesuffix("\n").isdecimal():
                self.broken.append(text)
            elif not self.seen or self.seen[-1] != int(text):
                self.seen.append(int(text))

    def finish(self) -> None:
        self._done.set()
        self.join()


def make_trouble(proxy: Proxy, done: threading.Event) -> None:
    """One fault after the other, at random times."""
    dice = random.Random(1)  # noqa: S311 (the same each time)
    while not done.wait(dice.uniform(0.2, 1.5)):
        match dice.choice(["reset", "close", "cut", "stall", "refuse"]):
            case "reset":
                proxy.reset()
            case "close":
                proxy.close_connections()
            case "cut":
                proxy.cuts = True
            case "stall":
                with proxy.stalled():
                    done.wait(dice.uniform(0.1, 1))
            case "refuse":
                with proxy.refusing():
                    done.wait(dice.uniform(0.1, 0.5))
    proxy.cuts = False


def test_no_fault_makes_an_output_go_back_to_an_older_version(
    web: ConfigMap, account: ServiceAccount, sidecar: Launcher
) -> None:
    with proxied(account) as (proxy, environment):
        run = sidecar(LINE, env=environment)
        shows(run, "0\n", timeout=5)
        dice = random.Random(2)  # noqa: S311 (the same each time)
        reader, done = Reader(run), threading.Event()
        trouble = threading.Thread(target=make_trouble, args=[proxy, done], daemon=True)
        reader.start()
        trouble.start()
        for n in range(1, CHANGES + 1):
            web.put(n=str(n), filler="x" * dice.choice([0, 5000, 100_000]))
            if n in RESTARTS:
                restart(web.namespace.control_plane)
            if n % 25 == 0:
                run.send(signal.SIGUSR1)  # a watch that keeps ending early is tried ever more rarely
            time.sleep(dice.expovariate(100))
        done.set()
        trouble.join()
        run.send(signal.SIGUSR1)
        shows(run, f"{CHANGES}\n", timeout=5)
        reader.finish()
        assert run.stop() == 0
    assert not reader.broken
    assert reader.seen == sorted(set(reader.seen))
    # It was not all faults: most of what was written was seen on its way.
    assert len(reader.seen) > CHANGES / 10
