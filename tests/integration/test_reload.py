"""Task files that change while the program runs: nothing is lost, nothing runs twice, nothing leaks."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.processes import children
from tests.harness.sidecar import Launcher, Sidecar
from tests.harness.waiting import wait_until

EDITS = 200
BROKEN = ["no output\n", "cat x >> y\n", "@evry 5s cat x > y\n", "jq '.[' > y\n", "cat 'x > y\n", ""]


class TaskFile:
    """Tasks that note each of their runs, each with the number of the edit that made it what it is."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tasks"
        self.runs = directory / "runs"
        self.runs.mkdir()

    def write(self, wanted: Mapping[str, int]) -> None:
        lines = (
            f"@every 1h sh -c 'echo >> {self.runs}/{name}-{edit}; echo {edit}' > {name}\n"
            for name, edit in wanted.items()
        )
        self.path.write_text("".join(lines))

    def count(self, name: str, edit: int) -> int:
        """How often a task was run."""
        path = self.runs / f"{name}-{edit}"
        return path.read_text().count("\n") if path.exists() else 0


def resources(sidecar: Sidecar) -> tuple[int, int, int]:
    """Its threads, open files and children."""
    process = Path(f"/proc/{sidecar.pid}")
    return (
        len(list((process / "task").iterdir())),
        len(list((process / "fd").iterdir())),
        len(children(sidecar.pid)),
    )


def settled(sidecar: Sidecar, file: TaskFile, wanted: Mapping[str, int]) -> None:
    """Wait until each task has run, and assert that none has twice."""

    def done() -> None:
        for name, edit in wanted.items():
            assert sidecar.output(name).exists(), name
            assert sidecar.output(name).read_text() == f"{edit}\n", name
            assert file.count(name, edit) == 1, name

    wait_until(done, 20)


def edited(wanted: Mapping[str, int], edit: int, dice: random.Random) -> dict[str, int]:
    """Some tasks go, some come, some are changed, some stay."""
    chosen = {name: wanted.get(name, edit) for name in "abcdef" if dice.random() < 0.7}
    return {name: edit if dice.random() < 0.3 else old for name, old in chosen.items()} or {"a": edit}


@pytest.fixture
def file(tmp_path: Path) -> TaskFile:
    return TaskFile(tmp_path)


def test_no_edit_of_many_loses_or_doubles_an_output_or_leaks(sidecar: Launcher, file: TaskFile) -> None:
    dice = random.Random(4)  # noqa: S311
    wanted = dict.fromkeys("abcdef", 0)
    file.write(wanted)
    running = sidecar("-f", file.path)
    settled(running, file, wanted)
    running.wait_for_log("first success", len(wanted))
    # The least: the status document may be being written just now.
    before = min(resources(running) for _ in range(100))
    for edit in range(1, EDITS + 1):
        if dice.random() < 0.25:
            file.path.write_text(dice.choice(BROKEN))
        else:
            wanted = edited(wanted, edit, dice)
            file.write(wanted)
        running.send(signal.SIGHUP)
        running.wait_for_log("reloaded: |reload refused", edit)
        if edit % 10 == 0:
            settled(running, file, wanted)
            # Those that were taken away have kept their outputs.
            assert all(running.output(name).read_text() for name in "abcdef")
    assert 20 < len(running.log_lines("reload refused")) < 80
    assert max(len(path.read_text()) for path in file.runs.iterdir()) == 1, "a task was run twice"
    wanted = dict.fromkeys("abcdef", EDITS + 1)
    file.write(wanted)
    running.send(signal.SIGHUP)
    settled(running, file, wanted)
    wait_until(lambda: resources(running) == before, what=f"{resources(running)} instead of {before}")
    assert running.stop() == 0


def test_a_removed_task_stops_and_keeps_its_output(sidecar: Launcher, tmp_path: Path) -> None:
    tasks, runs = tmp_path / "tasks", tmp_path / "runs"
    kept = "@every 1h jq -n 1 > kept\n"
    tasks.write_text(f"{kept}@every 100ms sh -c 'echo >> {runs}; echo 2' > removed\n")
    running = sidecar("-f", tasks)
    running.wait_for_output("removed")
    threads = min(resources(running) for _ in range(100))[0]
    tasks.write_text(kept)
    running.send(signal.SIGHUP)
    assert running.wait_for_log("reloaded").endswith(" info reloaded: 1 tasks, 1 of them as before")
    wait_until(lambda: resources(running)[0] == threads - 1, what="its worker has not ended")
    before = runs.read_text()
    running.send(signal.SIGUSR1)
    running.send(signal.SIGHUP)
    running.wait_for_log("reloaded", 2)
    assert runs.read_text() == before
    assert running.output("removed").read_text() == "2\n"


def test_a_bad_file_is_refused_with_all_its_problems(sidecar: Launcher, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.write_text("@every 200ms date +%N > now\n")
    running = sidecar("-f", tasks, f"--status-file={tmp_path}/status.json", env={"SECRET": "hunter2"})
    before = running.wait_for_output("now")
    tasks.write_text("cat a >> b\nno-such-program > c\ncat $SECRETS > d\n")
    running.send(signal.SIGHUP)
    running.wait_for_log(":3:5: ")
    lines = running.log_lines(" error ")
    assert lines[0].endswith(" error reload refused, the old tasks go on: 3 problems")
    assert [line.partition(" error ")[2].rpartition(f"{tasks}")[2][:6] for line in lines[1:]] == [
        ":1:7: ",
        ":2:1: ",
        ":3:5: ",
    ]
    assert len(lines) == 4

    def shown() -> None:
        assert (tmp_path / "status.json").exists()
        text = (tmp_path / "status.json").read_text()
        assert f'"reloadError": "{tasks}:1:7: ' in text
        assert f"\\n{tasks}:3:5: " in text

    wait_until(shown)
    wait_until(lambda: running.output("now").read_bytes() != before, what="the old task has stopped")


def test_a_changed_config_map_is_taken_over_by_itself(sidecar: Launcher, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for revision in "12":
        (mount / f"..{revision}").mkdir(parents=True)
        (mount / f"..{revision}" / "tasks").write_text(f"jq -n {revision} > a{revision}\n")
    (mount / "..data").symlink_to("..1")
    (mount / "tasks").symlink_to("..data/tasks")
    running = sidecar("--reload", "-f", mount / "tasks")
    running.wait_for_output("a1")
    (mount / "..data_tmp").symlink_to("..2")
    (mount / "..data_tmp").rename(mount / "..data")
    assert running.wait_for_output("a2", timeout=25) == b"2\n"
    assert running.output("a1").read_text() == "1\n"


def test_sigusr1_refreshes_everything_now(sidecar: Launcher, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("1")
    running = sidecar(*(f"@every 1h cat {tmp_path}/{name} > {name}" for name in "ab"))
    for name in "ab":
        running.wait_for_output(name)
        (tmp_path / name).write_text("2")
    os.kill(running.pid, signal.SIGUSR1)
    for name in "ab":
        wait_until(lambda name=name: running.output(name).read_text() == "2")  # type: ignore[misc]
    assert running.stop() == 0
