"""The version command: a line for each program."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from kubectl_sidecar import __version__
from kubectl_sidecar.cli.main import main


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_each_program_says_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(
        tmp_path / "kubectl",
        r'[ "$*" = "version --client" ] && printf "Client Version: v1.37.1\nKustomize\n"',
    )
    program(tmp_path / "jq", '[ "$*" = --version ] && echo jq-1.8.2')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(["version"]) == 0
    assert capsys.readouterr().out == (
        f"kubectl-sidecar {__version__}\nkubectl 1.37.1\njq 1.8.2\npython {platform.python_version()}\n"
    )


def test_a_missing_program_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "jq", "echo jq-1.8.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["version"]) == 1
    assert capsys.readouterr().out.splitlines()[1:3] == ["kubectl not found on PATH", "jq 1.8.2"]
