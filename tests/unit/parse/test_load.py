"""Task files that change while the program runs are taken over when they are whole, and refused once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.parse.load import Loader
from kubectl_sidecar.task import Settings, Task


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tasks"
    path.write_text("cat /a > a\n")
    return path


def loader(*files: Path, lines: tuple[str, ...] = ()) -> Loader:
    settings = Settings(files=tuple(map(str, files)), lines=lines)
    return Loader(settings, os.environ, lambda _: (0, ""))


@pytest.fixture
def inputs(file: Path) -> Loader:
    """Loaded."""
    made = loader(file)
    made.load()
    return made


def outputs(tasks: tuple[Task, ...] | None) -> list[str]:
    assert tasks is not None
    return [task.output for task in tasks]


def refusal(inputs: Loader, *, asked: bool) -> str:
    with pytest.raises(InvalidInput) as error:
        inputs.load() if asked else inputs.look()
    return str(error.value)


def test_nothing_is_reloaded_when_nothing_changed(inputs: Loader, file: Path) -> None:
    assert inputs.look() is None
    os.utime(file)
    file.write_text(file.read_text())
    assert inputs.look() is None
    assert inputs.look() is None


def test_being_asked_reloads_at_once(inputs: Loader, file: Path) -> None:
    file.write_text("cat /b > b")
    assert outputs(inputs.load()) == ["b"]
    assert inputs.look() is None


def test_a_change_is_taken_over_when_it_looks_the_same_twice(inputs: Loader, file: Path) -> None:
    file.write_text("cat /b > b")
    assert inputs.look() is None
    file.write_text("cat /b > b\ncat /c > c")
    assert inputs.look() is None
    assert outputs(inputs.look()) == ["b", "c"]
    assert inputs.look() is None


def test_a_bad_file_is_refused_once_and_whenever_asked(inputs: Loader, file: Path) -> None:
    file.write_text("cat /a >> a")
    assert inputs.look() is None
    text = refusal(inputs, asked=False)
    assert text.startswith(f"{file}:1:8: ")
    for _ in range(3):
        assert inputs.look() is None
    assert refusal(inputs, asked=True) == text
    assert inputs.look() is None


def test_a_file_that_is_good_again_is_loaded_again(inputs: Loader, file: Path) -> None:
    before = file.read_text()
    file.write_text("no")
    assert inputs.look() is None
    refusal(inputs, asked=False)
    file.write_text(before)
    assert inputs.look() is None
    assert outputs(inputs.look()) == ["a"]


def test_a_file_that_is_gone_is_refused_once_and_taken_when_it_is_back(inputs: Loader, file: Path) -> None:
    before = file.read_text()
    file.unlink()
    assert inputs.look() is None
    assert refusal(inputs, asked=False) == f"{file}: cannot be read: No such file or directory"
    assert inputs.look() is None
    file.write_text(before)
    assert inputs.look() is None
    assert outputs(inputs.look()) == ["a"]


def test_a_file_that_is_gone_for_one_look_changes_nothing(inputs: Loader, file: Path) -> None:
    before = file.read_text()
    file.unlink()
    assert inputs.look() is None
    file.write_text(before)
    assert inputs.look() is None
    assert inputs.look() is None


def test_a_config_map_mount_is_followed_through_its_swap(tmp_path: Path) -> None:
    for revision in "12":
        (tmp_path / f"..{revision}").mkdir()
        (tmp_path / f"..{revision}" / "tasks.yaml").write_text(f"tasks: [cat /a > a{revision}]")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "tasks.yaml").symlink_to("..data/tasks.yaml")
    inputs = loader(tmp_path / "tasks.yaml")
    assert outputs(inputs.load()) == ["a1"]
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert inputs.look() is None
    assert outputs(inputs.look()) == ["a2"]


def test_lines_stay_beside_files_that_change(file: Path) -> None:
    inputs = loader(file, lines=("cat /l > l",))
    assert outputs(inputs.load()) == ["a", "l"]
    file.write_text("cat /b > b\n")
    assert outputs(inputs.load()) == ["b", "l"]
    file.write_text("cat /b > l\n")
    assert refusal(inputs, asked=True).startswith("LINE 1:1:10: this is the output of ")
