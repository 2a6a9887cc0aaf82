"""The health command prints one line, exits accordingly, and loads little."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_sidecar.cli.main import main
from tests.unit.cli import documents


@pytest.fixture
def status_file(tmp_path: Path) -> Path:
    """One task succeeded 12 seconds ago, those that did not are optional."""
    path = tmp_path / "status.json"
    path.write_text(documents.text())
    return path


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "alive"),
        ("--startup", "started"),
        ("--ready", "ready"),
        ("--ready --max-age=40s", "ready"),
        ("--max-age 1h --ready", "ready"),
        ("--ready --max-age=10s", r"not ready: web\.json: the last success was \d+s ago, the limit is 10s"),
    ],
)
def test_it_prints_one_line_and_exits_accordingly(
    words: str, line: str, status_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["health", *words.split(), f"--status-file={status_file}"])
    assert re.fullmatch(f"{line}\n", capsys.readouterr().out)
    assert status == int(line.startswith("not"))


def test_no_document_is_unhealthy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--startup", f"--status-file={tmp_path}/no"]) == 1
    assert capsys.readouterr().out.startswith("not started: there is no status document: looked for ")


def test_the_private_document_is_found_by_itself(
    tmp_path: Path, status_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setenv("KUBECTL_SIDECAR_STATUS_FILE", str(status_file))
    assert main(["health"]) == 0
    assert capsys.readouterr().out == "alive\n"


def test_the_limit_may_come_from_the_environment(
    status_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["health", "--ready", f"--status-file={status_file}"]
    monkeypatch.setenv("KUBECTL_SIDECAR_MAX_AGE", "10s")
    assert main(words) == 1
    assert main([*words, "--max-age=1m"]) == 0
    monkeypatch.setenv("KUBECTL_SIDECAR_MAX_AGE", "")
    assert main(words) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "variable", "error"),
    [
        ("--max-age=5", "1m", "--max-age: `5` has no unit; write 5s"),
        ("--ready", "0s", "KUBECTL_SIDECAR_MAX_AGE: `0s` is no time at all; write a duration such as 30s"),
        ("--startup --ready", "", "argument --ready: not allowed with argument --startup"),
        ("now", "", "unrecognized arguments: now"),
        ("--start", "", "unrecognized arguments: --start"),
    ],
)
def test_bad_words_are_refused(
    words: str,
    variable: str,
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECTL_SIDECAR_MAX_AGE", variable)
    assert main(["health", *words.split()]) == 2
    assert capsys.readouterr().err.endswith(f"kubectl-sidecar health: error: {error}\n")


def test_a_probe_loads_nothing_that_it_does_not_need(status_file: Path) -> None:
    script = (
        "import sys; from kubectl_sidecar.cli.main import main\n"
        "main(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr)"
    )
    words = ["health", "--ready", "--max-age=5m", f"--status-file={status_file}"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert done.stdout == "ready\n"
    ours = {name.removeprefix("kubectl_sidecar.") for name in loaded if name.startswith("kubectl_sidecar.")}
    assert ours == {"cli", "cli.main", "cli.health", "status", "status.document", "status.health", "units"}
    heavy = {"dataclasses", "logging", "sh", "shutil", "signal", "tenacity", "threading", "typing", "yaml"}
    assert not loaded & heavy
