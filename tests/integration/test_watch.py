"""Watched tasks: changes reach the file at once, and cost no requests."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.harness.access import Namespace, rule
from tests.harness.configmap import ConfigMap
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

LINE = "@watch kubectl get configmap web -o json | jq -r '.data.n' > n"


@pytest.fixture
def web(namespace: Namespace) -> ConfigMap:
    configmap = ConfigMap(namespace)
    configmap.create(n="0")
    return configmap


def shows(run: Sidecar, text: str, output: str = "n", timeout: float = 5.0) -> None:
    """Wait until an output has this content."""

    def content() -> None:
        path = run.output(output)
        assert (path.read_text() if path.exists() else None) == text, run.log()

    wait_until(content, timeout, f"{output} does not show {text!r}", interval=0.002)


def is_gone(run: Sidecar, output: str = "n") -> None:
    wait_until(lambda: not run.output(output).exists(), what=f"{output} is still there")


def running(run: Sidecar, program: str, word: str) -> list[int]:
    found = {pid: argv.split(" ") for pid, argv in run.children().items()}
    return [pid for pid, argv in found.items() if Path(argv[0]).name == program and word in argv]


def watches(run: Sidecar) -> list[int]:
    """The kubectls that watch."""
    return running(run, "kubectl", "--watch")


def test_a_change_is_in_the_file_without_a_further_request(web: ConfigMap, sidecar: Launcher) -> None:
    account = web.watcher()
    run = sidecar(LINE, account=account)
    shows(run, "0\n")
    plane = web.namespace.control_plane
    mark = plane.audit_mark()
    for n in range(1, 21):
        web.put(n=str(n))
        shows(run, f"{n}\n")
    assert plane.requests_since(mark, account.user) == []
    assert run.stop() == 0


def test_a_watch_is_one_list_and_one_watch_of_the_named_object(web: ConfigMap, sidecar: Launcher) -> None:
    account, plane = web.watcher("list watch"), web.namespace.control_plane
    mark = plane.audit_mark()
    run = sidecar(LINE, account=account)
    shows(run, "0\n")

    def verbs() -> list[tuple[str, str]]:
        requests = plane.requests_since(mark, account.user)
        return [(request.verb, request.name) for request in requests if request.resource == "configmaps"]

    wait_until(lambda: len(verbs()) == 2, what="not two requests")
    assert verbs() == [("list", "web"), ("watch", "web")]
    assert run.stop() == 0


def test_ten_tasks_on_one_object_share_one_watch(web: ConfigMap, sidecar: Launcher) -> None:
    account, plane = web.watcher(), web.namespace.control_plane
    mark = plane.audit_mark()
    run = sidecar(*(f"{LINE}{number}" for number in range(10)), account=account)
    for number in range(10):
        shows(run, "0\n", f"n{number}")
    web.put(n="1")
    for number in range(10):
        shows(run, "1\n", f"n{number}")
    assert len(watches(run)) == 1
    requests = [one.verb for one in plane.requests_since(mark, account.user) if one.resource == "configmaps"]
    assert requests == ["list", "watch"]
    assert run.stop() == 0


def test_tasks_that_share_a_watch_fail_and_recover_on_their_own(web: ConfigMap, sidecar: Launcher) -> None:
    strict = "@watch kubectl get configmap web -o json | jq -e '.data.n | tonumber | select(. != 1)' > strict"
    run = sidecar(LINE, strict, account=web.watcher())
    shows(run, "0\n", "strict")
    web.put(n="1")
    shows(run, "1\n")
    run.wait_for_log("strict: failed: jq exited with 4")
    shows(run, "0\n", "strict")
    web.put(n="2")
    shows(run, "2\n", "strict")
    run.wait_for_log("strict: recovered")
    assert run.stop() == 0


def test_an_object_that_does_not_exist_yet_is_picked_up_when_it_is_made(
    namespace: Namespace, sidecar: Launcher
) -> None:
    web = ConfigMap(namespace)
    account = web.watcher()
    run = sidecar(LINE, account=account)
    run.wait_for_log("n: failed: the object does not exist")
    plane = namespace.control_plane
    mark = plane.audit_mark()
    web.create(n="1")
    shows(run, "1\n")
    assert plane.requests_since(mark, account.user) == []
    assert run.stop() == 0


def test_retries_while_the_object_is_missing_cost_no_requests(web: ConfigMap, sidecar: Launcher) -> None:
    account, plane = web.watcher(), web.namespace.control_plane
    run = sidecar(LINE, account=account)
    shows(run, "0\n")
    mark = plane.audit_mark()
    web.delete()
    run.wait_for_log(r"n: failed \(2 times")
    assert plane.requests_since(mark, account.user) == []
    shows(run, "0\n")
    web.create(n="1")
    shows(run, "1\n", timeout=1)
    assert run.stop() == 0


def test_on_missing_remove_takes_the_output_away_at_once(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE.replace("@watch", "@watch @on-missing remove"), account=web.watcher())
    shows(run, "0\n")
    for n in range(1, 4):
        web.delete()
        is_gone(run)
        web.create(n=str(n))
        shows(run, f"{n}\n")
    assert "failed" not in run.log()
    assert run.stop() == 0


def test_500_changes_in_two_seconds_end_with_the_newest(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE, account=web.watcher())
    shows(run, "0\n")
    began = time.monotonic()
    for n in range(1, 501):
        web.put(n=str(n))
    assert time.monotonic() - began < 10
    shows(run, "500\n", timeout=1)
    assert run.stop() == 0


def test_a_slow_stage_is_never_more_than_one_run_behind(web: ConfigMap, sidecar: Launcher) -> None:
    line = "@watch kubectl get configmap web -o json | jq -r .data.n | bash -c 'sleep 1; cat' > n"
    run = sidecar(line, account=web.watcher())
    shows(run, "0\n")
    for n in range(1, 101):
        web.put(n=str(n))
    shows(run, "100\n", timeout=2.9)
    assert run.stop() == 0


def test_a_document_larger_than_a_pipe_reaches_the_stages_whole(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE.replace(".data.n", ".data.n, (.data.big | length)"), account=web.watcher())
    web.put(n="1", big="x" * 900_000)
    shows(run, "1\n900000\n")
    web.put(n="2", big="y" * 800_000)
    shows(run, "2\n800000\n")
    assert run.stop() == 0


def test_a_stage_that_does_not_read_its_input_cannot_block_the_task(
    web: ConfigMap, sidecar: Launcher
) -> None:
    line = "@watch kubectl get configmap web -o json | jq -nr 'input_filename, 1' > n"
    run = sidecar(line, account=web.watcher())
    for n in range(3):
        web.put(n=str(n), big="x" * 900_000)
    shows(run, "null\n1\n")
    assert run.stop() == 0


def test_integers_beyond_2_53_stay_as_they_are(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar("@watch kubectl get configmap web -o json | jq -c .data > n", account=web.watcher())
    web.put(n="9007199254740993")
    shows(run, '{"n":"9007199254740993"}\n')
    assert run.stop() == 0


def test_a_kubectl_that_dies_is_replaced(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE, account=web.watcher())
    shows(run, "0\n")
    (kubectl,) = watches(run)
    os.kill(kubectl, signal.SIGKILL)
    wait_until(lambda: kubectl not in run.children(), what="its kubectl lives on")
    web.put(n="1")
    shows(run, "1\n", timeout=2)
    wait_until(lambda: len(watches(run)) == 1, what="not one watch")
    assert run.stop() == 0


def test_a_waiting_run_that_dies_is_replaced(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE, account=web.watcher())
    shows(run, "0\n")

    (waiting,) = wait_until(lambda: running(run, "jq", ".data.n"), what="nothing waits")
    os.kill(waiting, signal.SIGKILL)
    web.put(n="1")
    shows(run, "1\n")
    assert "failed" not in run.log()
    assert run.stop() == 0


def test_an_output_directory_that_was_replaced_is_followed(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE.replace("> n", "> below/n"), account=web.watcher())
    shows(run, "0\n", "below/n")
    run.output("below").rename(run.output("old"))
    web.put(n="1")
    shows(run, "1\n", "below/n")
    assert run.output("old/n").read_text() == "0\n"
    assert run.stop() == 0


def test_a_task_that_may_not_watch_is_polled_and_says_what_is_missing(
    web: ConfigMap, sidecar: Launcher
) -> None:
    run = sidecar(LINE.replace("@watch", "@watch @every 300ms"), account=web.watcher("get"))
    shows(run, "0\n")
    web.put(n="1")
    shows(run, "1\n")
    rule = '{apiGroups: [""], resources: ["configmaps"], resourceNames: ["web"], verbs: ["list"]}'
    line = run.wait_for_log("n: it cannot be watched, and is refreshed every 300ms instead: ")
    assert f"(missing rule: {rule} in a Role in namespace {web.namespace.name})" in line
    assert run.stop() == 0


def test_a_task_is_watched_as_soon_as_it_may_be(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE.replace("@watch", "@watch @every 300ms"), account=web.watcher("get"))
    run.wait_for_log("it cannot be watched")
    plane, namespace = web.namespace.control_plane, web.namespace.name
    role = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/sidecar"
    rules = [rule("get list watch", "configmaps", "web")]
    plane.request("PUT", role, {"metadata": {"name": "sidecar"}, "rules": rules})
    run.wait_for_log("n: watched again", timeout=40)
    # It is renewed three times a second.
    wait_until(lambda: len(watches(run)) == 1)
    assert run.stop() == 0


def test_a_watch_that_is_refused_while_the_list_is_allowed_is_tried_ever_more_rarely(
    web: ConfigMap, sidecar: Launcher
) -> None:
    account, plane = web.watcher("get list"), web.namespace.control_plane
    mark = plane.audit_mark()
    run = sidecar(LINE, account=account)
    rule = '{apiGroups: [""], resources: ["configmaps"], resourceNames: ["web"], verbs: ["watch"]}'
    line = run.wait_for_log("n: it cannot be watched, and is refreshed every 30s instead: ")
    assert f"(missing rule: {rule} in a Role in namespace {web.namespace.name})" in line
    shows(run, "0\n")

    def verbs() -> list[str]:
        return [one.verb for one in plane.requests_since(mark, account.user) if one.resource]

    wait_until(lambda: verbs().count("watch") >= 5, timeout=60, what="it is not tried again")
    # Each refused watch is one list and, since the task may have missed something, one poll.
    tried = verbs()
    assert tried.count("list") <= tried.count("watch") + 1
    assert tried.count("get") <= tried.count("watch") + 3
    web.put(n="1")
    shows(run, "1\n", timeout=40)
    assert len(run.log_lines("it cannot be watched")) == 1
    assert run.stop() == 0


def test_a_type_that_cannot_be_watched_at_all_is_polled(namespace: Namespace, sidecar: Launcher) -> None:
    account = namespace.service_account(cluster_rules=[rule("get list watch", "componentstatuses")])
    run = sidecar("@watch kubectl get componentstatuses -o name > names", account=account)
    assert b"componentstatus/" in run.wait_for_output("names")
    line = run.wait_for_log("names: it cannot be watched, and is refreshed every 30s instead: ")
    assert "(MethodNotAllowed)" in line
    assert run.stop() == 0


def test_a_list_is_run_again_at_each_change(namespace: Namespace, sidecar: Launcher) -> None:
    first, second = ConfigMap(namespace, "first"), ConfigMap(namespace, "second")
    first.create(n="1")
    account = namespace.service_account(rule("list watch", "configmaps"))
    program = "[.items[] | {name: .metadata.name, n: .data.n}]"
    run = sidecar(
        f"@watch kubectl get configmaps -l app=web -o json | jq -c '{program}' > n", account=account
    )
    shows(run, '[{"name":"first","n":"1"}]\n')
    second.create(n="2")
    shows(run, '[{"name":"first","n":"1"},{"name":"second","n":"2"}]\n')
    first.delete()
    shows(run, '[{"name":"second","n":"2"}]\n')
    second.delete()
    shows(run, "[]\n")
    assert run.stop() == 0


def test_changes_of_a_list_that_come_together_make_one_run(namespace: Namespace, sidecar: Launcher) -> None:
    web, bursts = ConfigMap(namespace), 8
    web.create(n="0")
    account = namespace.service_account(rule("list watch", "configmaps"))
    plane = namespace.control_plane
    run = sidecar("@watch kubectl get configmaps -o json | jq -r '.items[].data.n' > n", account=account)
    shows(run, "0\n")
    mark = plane.audit_mark()
    for burst in range(bursts):
        for n in range(4):
            web.put(n=f"{burst}.{n}")
        shows(run, f"{burst}.3\n")
        wait_until(lambda: running(run, "kubectl", "get") == watches(run), interval=0.1)
    # A machine that is busy may tear a burst or two apart.
    assert len(plane.requests_since(mark, account.user)) <= 1.5 * bursts
    assert run.stop() == 0


def test_changes_of_a_list_that_never_rest_show_all_the_same(namespace: Namespace, sidecar: Launcher) -> None:
    web = ConfigMap(namespace)
    web.create(n="0")
    account = namespace.service_account(rule("list watch", "configmaps"))
    run = sidecar("@watch kubectl get configmaps -o json | jq -r '.items[].data.n' > n", account=account)
    shows(run, "0\n")
    began, n = time.monotonic(), 0
    while run.output("n").read_text() == "0\n":
        assert time.monotonic() - began < 5
        web.put(n=str(n := n + 1))
    shows(run, f"{n}\n")
    assert run.stop() == 0


def test_a_watched_task_is_refreshed_as_a_whole_when_asked(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE, account=web.watcher())
    shows(run, "0\n")
    (kubectl,) = watches(run)
    run.output("n").write_text("not ours\n")
    run.send(signal.SIGUSR1)
    shows(run, "0\n")
    wait_until(lambda: watches(run) not in ([kubectl], []), what="the watch was not renewed")
    assert run.stop() == 0


def test_a_watch_is_renewed_every_period(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar(LINE.replace("@watch", "@watch @every 1s"), account=web.watcher())
    shows(run, "0\n")
    (kubectl,) = watches(run)
    wait_until(lambda: watches(run) not in ([kubectl], []), what="the watch was not renewed")
    web.put(n="1")
    shows(run, "1\n")
    assert run.stop() == 0


def test_a_shared_watch_outlives_the_task_that_began_it(web: ConfigMap, sidecar: Launcher) -> None:
    tasks = sidecar.directory / "tasks"
    other = ConfigMap(web.namespace, "other")
    other.create(n="7")
    account = web.namespace.service_account(rule("get list watch", "configmaps"))
    second = LINE.replace("> n", "> m")
    tasks.write_text(f"{LINE}\n{second}\n")
    run = sidecar("-f", tasks, account=account)
    shows(run, "0\n")
    shows(run, "0\n", "m")
    tasks.write_text(f"{LINE.replace('web', 'other')}\n{second}\n")
    run.send(signal.SIGHUP)
    shows(run, "7\n")
    for n in range(1, 4):
        run.send(signal.SIGUSR1)
        web.put(n=str(n))
        other.put(n=str(n))
        shows(run, f"{n}\n")
        shows(run, f"{n}\n", "m")
    assert run.stop() == 0


def test_a_watch_ends_with_its_last_task(web: ConfigMap, sidecar: Launcher) -> None:
    tasks = sidecar.directory / "tasks"
    tasks.write_text(f"{LINE}\n{LINE.replace('> n', '> m')}\n")
    run = sidecar("-f", tasks, account=web.watcher())
    shows(run, "0\n", "m")
    shows(run, "0\n")
    (kubectl,) = watches(run)
    tasks.write_text(LINE)
    run.send(signal.SIGHUP)
    run.wait_for_log("reloaded: 1 tasks")
    assert watches(run) == [kubectl]
    tasks.write_text("kubectl get configmap web -o json | jq .data > other")
    run.send(signal.SIGHUP)
    run.wait_for_output("other")
    wait_until(lambda: not watches(run), what="the watch goes on")
    assert run.stop() == 0


def test_once_does_not_watch(web: ConfigMap, sidecar: Launcher) -> None:
    run = sidecar("--once", LINE, account=web.watcher("get"))
    assert run.wait() == 0
    assert run.output("n").read_text() == "0\n"


def test_watched_tasks_end_in_milliseconds(web: ConfigMap, sidecar: Launcher) -> None:
    # Other periods, so that each has a watch of its own.
    lines = [LINE.replace("@watch", f"@watch @every {n + 1}h") + str(n) for n in range(5)]
    run = sidecar(*lines, account=web.watcher())
    for n in range(5):
        shows(run, "0\n", f"n{n}")
    began = time.monotonic()
    assert run.stop() == 0
    assert time.monotonic() - began < 1


def test_the_status_follows_what_a_watch_brings(web: ConfigMap, sidecar: Launcher) -> None:
    path = sidecar.directory / "status.json"
    run = sidecar("--status-file", path, LINE, account=web.watcher())
    shows(run, "0\n")
    web.put(n="1")

    def follows() -> None:
        (task,) = json.loads(path.read_text())["tasks"]
        assert (task["state"], task["bytes"], task["watch"]) == ("ok", 2, True)
        assert task["lastChange"] == task["lastSuccess"]

    wait_until(follows)
    assert run.stop() == 0
