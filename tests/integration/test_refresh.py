"""What fails a refresh, and that nothing of it is published."""

from __future__ import annotations

import pytest

from tests.harness.files import identity
from tests.harness.sidecar import Launcher
from tests.harness.waiting import wait_until


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("bash -c 'echo half; exit 3' | cat > output", "bash exited with 3"),
        ("echo data | bash -c 'cat; echo no >&2; exit 4' | cat > output", "bash exited with 4: no"),
        ("echo data | bash -c 'cat; exit 5' > output", "bash exited with 5"),
        ("bash -c 'echo half; kill -KILL $$' > output",
         "bash killed by SIGKILL (out of memory? see the container's memory limit)"),
        ("echo '{\"a\": ' | jq . > output",
         "jq exited with 5: jq: parse error: Unfinished JSON term at EOF at line 2, column 0"),
        ("bash -c 'echo why >&2' > output",
         "nothing was written, and an empty output is published with @allow-empty only: why"),
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
    run.wait_for_output("other/clock")
    before = identity(run.output("output")), identity(run.output_directory)
    run.wait_for_log("clock: changed", count=5)
    assert (identity(run.output("output")), identity(run.output_directory)) == before
    assert len(run.log_lines(" output: ")) == 1
    assert run.stop() == 0


def test_an_empty_output_is_published_where_that_is_allowed(sidecar: Launcher) -> None:
    first = sidecar("--once", "echo old > output")
    assert first.wait() == 0
    line = "@allow-empty echo '[]' | jq '.[]' > output"
    run = sidecar("--once", line, output_directory=first.output_directory)
    assert run.wait() == 0
    assert run.output("output").read_bytes() == b""
    assert run.log_lines("output: first success: 0 bytes$")


def test_polled_tasks_with_one_endless_source_end_as_in_sh(sidecar: Launcher) -> None:
    run = sidecar("--once", "yes | head -n 1 > one", "yes | head -n 2 > two")
    assert run.wait() == 0
    assert run.output("one").read_bytes() + run.output("two").read_bytes() == b"y\n" * 3


def test_what_a_stage_left_running_does_not_write_into_what_was_published(sidecar: Launcher) -> None:
    here = sidecar.directory
    wait = f"until test -e {here}/{{}}; do sleep 0.01; done"
    later = f"echo > {here}/left; {wait.format('go')}; echo late; echo > {here}/late"
    stage = f'setsid bash -c "{later}" & {wait.format("left")}; echo complete'
    run = sidecar("--every", "1h", f"bash -c '{stage}' > output")
    assert run.wait_for_output("output") == b"complete\n"
    (sidecar.directory / "go").touch()
    wait_until((sidecar.directory / "late").exists)
    assert run.output("output").read_bytes() == b"complete\n"
    assert run.stop() == 0


def test_the_stderr_of_a_stage_can_be_thrown_away(sidecar: Launcher) -> None:
    line = "bash -c 'echo noise >&2; exit 3' 2>/dev/null | cat > output"
    run = sidecar("--once", "--deadline", "50ms", line)
    assert run.wait() == 1
    assert run.log_lines("output: failed: bash exited with 3; giving up$")
    assert "noise" not in run.log().partition("info")[2]
