"""Task files that change while the program runs are taken over when they are whole, and refused once."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from kubectl_sidecar.children import Children
from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.inputs import Inputs
from kubectl_sidecar.tasks import Defaults, Task


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tasks"
    path.write_text("cat /a > a\n")
    return path


@pytest.fixture
def inputs(file: Path) -> Inputs:
    """Loaded, and looking again each time it is asked to."""
    hours = itertools.count(step=3600)
    made = Inputs([str(file)], [], Defaults(), os.environ, Children(), follow=True, clock=lambda: next(hours))
    made.load()
    return made


def outputs(tasks: tuple[Task, ...] | None) -> list[str]:
    assert tasks is not None
    return [task.output for task in tasks]


def refusal(inputs: Inputs, *, asked: bool) -> str:
    with pytest.raises(InvalidInput) as error:
        inputs.reload(asked)
    return str(error.value)


def test_nothing_is_reloaded_when_nothing_changed(inputs: Inputs, file: Path) -> None:
    assert inputs.reload(asked=False) is None
    os.utime(file)
    file.write_text(file.read_text())
    assert inputs.reload(asked=False) is None
    assert inputs.reload(asked=False) is None


def test_being_asked_reloads_at_once(inputs: Inputs, file: Path) -> None:
    file.write_text("cat /b > b")
    assert outputs(inputs.reload(asked=True)) == ["b"]
    assert inputs.reload(asked=False) is None


def test_a_change_is_taken_over_when_it_looks_the_same_twice(inputs: Inputs, file: Path) -> None:
    file.write_text("cat /b > b")
    assert inputs.reload(asked=False) is None
    file.write_text("cat /b > b\ncat /c > c")
    assert inputs.reload(asked=False) is None
    assert outputs(inputs.reload(asked=False)) == ["b", "c"]
    assert inputs.reload(asked=False) is None


def test_without_reload_nobody_looks(inputs: Inputs, file: Path) -> None:
    inputs.follow = False
    file.write_text("cat /b > b")
    assert inputs.reload(asked=False) is None
    assert inputs.reload(asked=False) is None


def test_looks_are_a_heartbeat_apart(inputs: Inputs, file: Path) -> None:
    now = [100.0]
    inputs.clock = lambda: now[0]
    assert inputs.reload(asked=False) is None
    file.write_text("cat /b > b")
    for _ in range(5):
        assert inputs.reload(asked=False) is None
    now[0] += 10
    assert inputs.reload(asked=False) is None
    now[0] += 10
    assert outputs(inputs.reload(asked=False)) == ["b"]


def test_a_bad_file_is_refused_once_and_whenever_asked(inputs: Inputs, file: Path) -> None:
    file.write_text("cat /a >> a")
    assert inputs.reload(asked=False) is None
    text = refusal(inputs, asked=False)
    assert text.startswith(f"{file}:1:8: ")
    for _ in range(3):
        assert inputs.reload(asked=False) is None
    assert refusal(inputs, asked=True) == text
    assert inputs.reload(asked=False) is None


def test_a_file_that_is_good_again_is_loaded_again(inputs: Inputs, file: Path) -> None:
    before = file.read_text()
    file.write_text("no")
    assert inputs.reload(asked=False) is None
    refusal(inputs, asked=False)
    file.write_text(before)
    assert inputs.reload(asked=False) is None
    assert outputs(inputs.reload(asked=False)) == ["a"]


def test_a_file_that_is_gone_is_refused_once_and_taken_when_it_is_back(inputs: Inputs, file: Path) -> None:
    before = file.read_text()
    file.unlink()
    assert inputs.reload(asked=False) is None
    assert refusal(inputs, asked=False) == f"{file}: cannot be read: No such file or directory"
    assert inputs.reload(asked=False) is None
    file.write_text(before)
    assert inputs.reload(asked=False) is None
    assert outputs(inputs.reload(asked=False)) == ["a"]


def test_a_file_that_is_gone_for_one_look_changes_nothing(inputs: Inputs, file: Path) -> None:
    before = file.read_text()
    file.unlink()
    assert inputs.reload(asked=False) is None
    file.write_text(before)
    assert inputs.reload(asked=False) is None
    assert inputs.reload(asked=False) is None


def test_a_config_map_mount_is_followed_through_its_swap(tmp_path: Path) -> None:
    for revision in "12":
        (tmp_path / f"..{revision}").mkdir()
        (tmp_path / f"..{revision}" / "tasks.yaml").write_text(f"tasks: [cat /a > a{revision}]")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tasks.yaml").symlink_to("..data/tasks.yaml")
    hours = itertools.count(step=3600)
    path = str(tmp_path / "tasks.yaml")
    inputs = Inputs([path], [], Defaults(), os.environ, Children(), follow=True, clock=lambda: next(hours))
    assert outputs(inputs.load()) == ["a1"]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert inputs.reload(asked=False) is None
    assert outputs(inputs.reload(asked=False)) == ["a2"]


def test_lines_stay_beside_files_that_change(file: Path) -> None:
    inputs = Inputs([str(file)], ["cat /l > l"], Defaults(), os.environ, Children())
    assert outputs(inputs.load()) == ["a", "l"]
    file.write_text("cat /b > b\n")
    assert outputs(inputs.reload(asked=True)) == ["b", "l"]
    file.write_text("cat /b > l\n")
    assert refusal(inputs, asked=True).startswith("LINE 1:1:10: this is the output of ")
