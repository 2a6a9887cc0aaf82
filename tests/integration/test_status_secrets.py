"""A failing task tells why in log, status and health, and never what it read."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from pathlib import Path

from tests.harness.access import Namespace, ServiceAccount, rule
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

PASSWORD = "correct horse (battery) 'staple' does not match"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()
TOKEN = "env-hunter2"
TELLING = ["correct", "horse", "battery", "staple", ENCODED[:12], "env-hunter2", "hunter2"]
READ = "kubectl get secret db -o json | jq"
# Each makes jq or kubectl quote, in its own way, the value that it failed on.
LINES = [
    f"{READ} '.data + 1'",
    f"{READ} '.data | @csv'",
    f"{READ} 'error(.data)'",
    f"{READ} '.data.password | .[]'",
    f"{READ} '.data.password | .[.data]'",
    f"{READ} '.data.password | @base64d | tonumber'",
    f"{READ} '.data.password | @base64d | fromjson'",
    f"{READ} '.data.password | @base64d | fromdate'",
    f"{READ} '.data.password | @base64d | debug | tonumber'",
    f"{READ} '.data.password | @base64d | . as $it | test($it; $it)'",
    f'{READ} \'.data.password | @base64d | test("(?<" + . + ">")\'',
    f"{READ} '{{(.data): 1}}'",
    f"{READ} --arg token \"$TOKEN\" '$token + 1'",
    f"{READ} --arg token \"$TOKEN\" '[.data.password, $token] | implode'",
    "kubectl get secret db -o 'go-template={{.data.password.x}}'",
    "kubectl get secret db -o 'jsonpath={.data.password[0].x.y}{.nope}' | jq .",
]


def made(namespace: Namespace) -> ServiceAccount:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"password": ENCODED}}
    namespace.kubectl("create", "-f", "-", stdin=json.dumps(secret))
    return namespace.service_account(rule("get", "secrets"))


def asked(launcher: Launcher, directory: Path, *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(directory)}
    done = subprocess.run([launcher.program, *words], env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def telling(text: str, account: ServiceAccount) -> list[str]:
    """What it gives away."""
    return [word for word in [*TELLING, account.token_file.read_text()[-20:]] if word in text]


def all_have_failed(running: Sidecar, count: int) -> None:
    wait_until(
        lambda: len({line.split()[2] for line in running.log_lines(" warn ")}) == count,
        30,
        what=running.log(),
    )


def test_no_failure_tells_what_was_read(sidecar: Launcher, namespace: Namespace, tmp_path: Path) -> None:
    account = made(namespace)
    env = {"TMPDIR": str(tmp_path), "TOKEN": TOKEN}
    numbered = (f"{line} > {number:02}" for number, line in enumerate(LINES))
    running = sidecar("--concurrency=4", *numbered, account=account, env=env)
    all_have_failed(running, len(LINES))
    for text in (
        running.log(),
        asked(sidecar, tmp_path, "status"),
        asked(sidecar, tmp_path, "status", "-o=json"),
        asked(sidecar, tmp_path, "health", "--startup"),
    ):
        assert "exited with " in text
        assert telling(text, account) == []


def test_no_refused_task_tells_a_value_of_the_environment(sidecar: Launcher, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    good = "@every 1h jq -n 1 > one\n"
    tasks.write_text(good)
    env = {"TMPDIR": str(tmp_path), "TOKEN": TOKEN, "PROGRAM": f"/{TOKEN}/program"}
    running = sidecar("-f", tasks, env=env)
    running.wait_for_output("one")
    tasks.write_text(
        good + 'jq --arg a "$TOKEN" \'$b\' > a\n"$PROGRAM" > b\njq "$TOKEN(" > c\n$PROGRAM >> d\n'
    )
    running.send(signal.SIGHUP)
    running.wait_for_log("reload refused")
    wait_until(lambda: '"reloadError": "' in asked(sidecar, tmp_path, "status", "-o=json"))
    status = asked(sidecar, tmp_path, "status")
    assert "the last reload was refused, the tasks above go on:" in status
    for text in (running.log(), status):
        assert TOKEN not in text
