"""The check command says what was understood, or every problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_sidecar.cli.main import main


def test_it_says_what_was_understood(capsys: pytest.CaptureFixture[str]) -> None:
    line = "@optional @watch @mode 0600 kubectl get pod secret-name -o json | jq .status > a//b"
    assert main(["check", "--timeout=1m30s", line]) == 0
    assert capsys.readouterr().out == (
        "LINE 1:1:29: a/b: kubectl | jq;"
        " watch (each object is fed to the rest of the line; needs the verbs get, list and watch for it),"
        " every 10m, timeout 1m30s, mode 0600, on-missing keep, optional\n"
    )


def test_it_says_what_a_watch_needs_that_runs_the_line_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "@watch kubectl get pods -o name > a"]) == 0
    assert capsys.readouterr().out == (
        "LINE 1:1:8: a: kubectl;"
        " watch (each change runs the line again; needs the verbs list and watch for what it lists or gets),"
        " every 10m, timeout 30s, mode 0644, on-missing keep\n"
    )


def test_one_line_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = tmp_path / "tasks"
    tasks.write_text("cat /a > a\n@every 5s @on-missing remove @allow-empty cat /b > ./b/\n")
    assert main(["check", "-f", str(tasks)]) == 0
    assert capsys.readouterr().out == (
        f"{tasks}:1:1: a: cat; every 30s, timeout 30s, mode 0644, on-missing keep\n"
        f"{tasks}:2:43: b/: cat; every 5s, timeout 30s, mode 0644, on-missing remove,"
        " directory, allow-empty\n"
    )


def test_a_hook_is_described_without_what_may_be_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    lines = ["@on-change http://u:hunter2@h/ cat /a > a", "@on-change 'echo $TOKEN | cat' cat /b > b"]
    assert main(["check", *lines]) == 0
    ends = [line.split(", on-missing keep, ")[1] for line in capsys.readouterr().out.splitlines()]
    assert ends == ["on-change: POST", "on-change: echo | cat"]


def test_what_goes_stale_under_watch_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "@watch kubectl get pods > a", "kubectl get pods > b"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    stale = "the ages in kubectl's table will be as old as the last change or resync (@every)"
    assert warnings == [f"warning: LINE 1:1:8: a: @watch: {stale}"]


def test_a_variable_that_is_not_set_may_be_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MYPOD", raising=False)
    line = 'kubectl get pod "$MYPOD" -o json > a'
    assert main(["check", line]) == 2
    assert "MYPOD" in capsys.readouterr().err
    assert main(["check", "--allow-unset", line]) == 0
    assert capsys.readouterr().out.startswith("LINE 1:1:1: a: kubectl; ")


def test_problems_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "cat x"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[1:]) == ("", ["    cat x", "         ^"])


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("rest", ["", " | head -c 10"])
def test_a_jq_that_writes_much_without_input_is_no_problem(
    rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No more of it is kept at load than it takes to hear a complaint."""
    status = main(["check", f"jq -n '[range(1000000)]'{rest} > a"])
    assert (status, capsys.readouterr().err) == (0, "")
