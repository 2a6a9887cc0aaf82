"""What fails a refresh, and that nothing of it is published."""

from __future__ import annotations

import pytest

from tests.harness.sidecar import Launcher
from tests.unit.test_publish import identity


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bash -c 'echo half; exit 3' | cat > output", "bash exited with 3"),
        ("echo data | bash -c 'cat; echo no >&2; exit 4' | cat > output", "bash exited with 4: no"),
        ("echo data | bash -c 'cat; exit 5' > output", "bash exited with 5"),
        ("bash -c 'echo half; kill -KILL $$' > output", "bash killed by SIGKILL"),
        ("echo '{\"a\": ' | jq . > output",
         "jq exited with 5: jq: parse error: Unfinished JSON term at EOF at line 2, column 0"),
        ("true > output", "nothing was written, and an empty output is never published"),
        ("yes > output", "wrote more than 1000 bytes (--max-output)"),
        ("@timeout 300ms bash -c 'echo half; sleep 1000' > output",
         "timed out after 300ms (@timeout, --timeout)"),
        ("@timeout 300ms bash -c 'while :; do echo x; done 2> /dev/null' > output",
         "wrote more than 1000 bytes (--max-output)"),
    ],
)  # fmt: skip
def test_a_refresh_that_did_not_fully_succeed_changes_nothing(
    sidecar: Launcher, line: str, reason: str
) -> None:
    first = sidecar("--once", "echo good > output")
    assert first.wait() == 0
    before = identity(first.output("output"))
    run = sidecar(
        "--once", "--deadline", "50ms", "--max-output", "1000", line, output_directory=first.output_directory
    )
    assert run.wait() == 1
    assert run.log_lines("output: failed")[0].partition("failed: ")[2] == f"{reason}; giving up"
    assert (run.output("output").read_text(), identity(run.output("output"))) == ("good\n", before)
    assert [path.name for path in run.output_directory.iterdir()] == ["output"]


def test_a_later_stage_may_leave_before_the_end(sidecar: Launcher) -> None:
    run = sidecar("--once", "yes | head -n 1 > output")
    assert run.wait() == 0
    assert run.output("output").read_bytes() == b"y\n"


def test_unchanged_content_touches_nothing(sidecar: Launcher) -> None:
    run = sidecar("--every", "20ms", "echo same > output", "date +%N > other/clock")
    run.wait_for_output("output")
    before = identity(run.output("output")), identity(run.output_directory)
    run.wait_for_log("clock: changed", count=5)
    assert (identity(run.output("output")), identity(run.output_directory)) == before
    assert len(run.log_lines(" output: ")) == 1
    assert run.stop() == 0
