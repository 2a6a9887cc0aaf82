"""Pipelines of real processes: statuses, stderr, limits, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from kubectl_sidecar.children import Children
from kubectl_sidecar.commands import CUT, STDERR_LIMIT, Ended, Running, status_text
from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.shutdown import Wakeup
from tests.harness.processes import children
from tests.harness.waiting import wait_until


def shell(script: str) -> tuple[str, ...]:
    return ("bash", "-c", script)


def run(
    *argvs: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    stop_when: Path | None = None,
    timeout: float = 20.0,
    grace: float = 5.0,
    limit: int | None = None,
    within: contextlib.AbstractContextManager[None] | None = None,
) -> tuple[Ended, bytes]:
    """Run a pipeline; stop it as soon as a file is there. Returns how it ended, and what it wrote."""
    stop = Wakeup()
    try:
        with (
            tempfile.TemporaryFile() as out,
            within or contextlib.nullcontext(),
            Running(
                Children(), argvs, environment, stdin=None, stdout=out.fileno(), max_output=limit, grace=grace
            ) as stages,
        ):
            if stop_when:
                wait_until(stop_when.exists)
                stop.set()
            ended = stages.finish(stop, timeout)
            out.seek(0)
            return ended, out.read()
    finally:
        stop.close()


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def group(leader: int) -> list[str]:
    """The processes of a group that live."""
    living = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group, *_ = stat.read_text().rpartition(")")[2].split()
            living += [stat.parent.name] if int(of_group) == leader and state != "Z" else []
    return living


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Descriptors, processes, threads and the garbage collector are as before, whatever happened."""
    before = descriptors(), threading.active_count()
    yield
    assert gc.isenabled()
    wait_until(
        lambda: (descriptors(), threading.active_count()) == before, what="a descriptor or thread is left"
    )
    assert children(os.getpid()) == {}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_status_of_every_stage_counts(position: int) -> None:
    stages: list[Sequence[str]] = [("cat",), ("cat",), ("cat",)]
    stages[position] = shell("cat; exit 3")
    ended, _ = run(*stages)
    assert ended.why == "exited"
    assert ended.statuses == tuple(3 if i == position else 0 for i in range(3))


def test_a_signal_is_a_negative_status() -> None:
    ended, _ = run(shell("kill -KILL $$"))
    assert ended.statuses == (-signal.SIGKILL,)
    assert status_text(ended.statuses[0]) == "killed by SIGKILL"


def test_the_highest_real_time_signal_has_a_status_too() -> None:
    ended, _ = run(shell(f"kill -{signal.SIGRTMAX} $$"))
    assert status_text(ended.statuses[0]) == "killed by SIGRTMAX"


def test_a_stage_whose_reader_has_gone_dies_of_sigpipe() -> None:
    ended, output = run(("yes",), ("head", "-n", "1"))
    assert (ended.statuses, output) == ((-signal.SIGPIPE, 0), b"y\n")


def test_a_shell_whose_program_dies_of_sigpipe_says_so_with_its_status() -> None:
    ended, output = run(shell("yes; exit $?"), ("head", "-n", "1"))
    assert (ended.statuses, output) == ((128 + signal.SIGPIPE, 0), b"y\n")


def test_when_the_last_stage_has_failed_the_others_are_ended() -> None:
    ended, _ = run(("sleep", "1000"), shell("exit 4"))
    assert (ended.why, ended.statuses) == ("exited", (-signal.SIGTERM, 4))


def test_a_stage_that_ends_early_does_not_end_the_others() -> None:
    ended, output = run(shell("exec > /dev/null; exit 0"), shell("cat; echo last"))
    assert (ended.statuses, output) == ((0, 0), b"last\n")


def test_the_timeout_ends_every_stage() -> None:
    # The last one reads nothing: it would end by itself when the first one has.
    ended, _ = run(("sleep", "1000"), ("sleep", "1000"), timeout=0.05)
    assert ended == Ended("timeout", (-signal.SIGTERM, -signal.SIGTERM), ("", ""))


def test_a_stage_that_writes_to_stderr_without_end_does_not_outrun_the_timeout() -> None:
    ended, _ = run(("sh", "-c", "yes >&2"), timeout=0.1)
    assert ended.why == "timeout"


def test_a_stage_that_ignores_sigterm_is_killed_after_the_grace_with_all_it_started(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ended, _ = run(
        shell(f"trap '' TERM; sleep 1000 & (sleep 1000 & sleep 1000) & echo $$ > {ready}.new;"
              f" mv {ready}.new {ready}; while :; do sleep 1000; done"),
        stop_when=ready,
        grace=0.05,
    )  # fmt: skip
    assert (ended.why, ended.statuses) == ("stopped", (-signal.SIGKILL,))
    wait_until(lambda: not group(int(ready.read_text())), what="something of the group lives")


def test_a_stage_that_cooperates_gets_the_grace_to_end_in(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ended, output = run(
        shell(f"trap 'echo orderly; exit 9' TERM; touch {ready}; while :; do sleep 0.01; done"),
        stop_when=ready,
    )
    assert (ended.statuses, output) == ((9,), b"orderly\n")


def test_what_a_stage_left_running_neither_delays_the_end_nor_survives_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    ended, output = run(shell(f"echo $$ > {pid}; (while :; do echo more; sleep 0.01; done) & echo first"))
    assert (ended.why, ended.statuses) == ("exited", (0,))
    assert b"first\n" in output
    wait_until(lambda: not group(int(pid.read_text())), what="something of the group lives")


def test_the_end_of_a_long_stderr_is_kept_in_whole_lines() -> None:
    ended, _ = run(shell("yes 0123456789abcde | head -c 10000000 >&2; echo the end >&2; exit 3"))
    said = ended.stderrs[0]
    assert said.startswith(CUT + "0123456789abcde\n")
    assert said.endswith("0123456789abcde\nthe end\n")
    assert STDERR_LIMIT - 16 <= len(said.removeprefix(CUT)) <= STDERR_LIMIT


def test_half_a_line_of_stderr_is_not_shown() -> None:
    ended, _ = run(shell("printf '%0100000d' 0 >&2"))
    assert ended.stderrs == (CUT,)


def test_stderr_up_to_the_limit_is_kept_whole() -> None:
    ended, _ = run(shell(f"printf '%0{STDERR_LIMIT}d' 0 >&2"))
    assert ended.stderrs == ("0" * STDERR_LIMIT,)


def test_the_stages_have_a_stderr_each_and_none_of_it_is_output() -> None:
    ended, output = run(shell("echo one >&2; echo data"), shell("echo two >&2; cat"))
    assert (ended.stderrs, output) == (("one\n", "two\n"), b"data\n")


def test_stderr_need_not_be_utf_8() -> None:
    ended, _ = run(shell(r"printf 'a\377b\n' >&2"))
    assert ended.stderrs == ("a\ufffdb\n",)


def test_output_stops_just_beyond_the_limit_while_it_is_being_written() -> None:
    ended, output = run(("yes",), limit=1000)
    assert len(output) == 1001
    assert ended.statuses != (0,)


def test_output_of_just_the_limit_is_whole() -> None:
    ended, output = run(("head", "-c", "1000", "/dev/zero"), limit=1000)
    assert (ended.statuses, len(output)) == ((0,), 1000)


def test_a_stage_reads_nothing_from_stdin() -> None:
    ours, (read, write) = os.dup(0), os.pipe()
    os.dup2(read, 0)
    try:
        assert run(("readlink", "/proc/self/fd/0"))[1] == b"/dev/null\n"
    finally:
        os.dup2(ours, 0)
        for fd in (ours, read, write):
            os.close(fd)


def test_a_stage_has_the_environment_that_it_is_given_and_no_other() -> None:
    environment = {"PATH": os.environ["PATH"], "WITH_BYTES": "caf\xe9 \udcff"}
    _, output = run(("env", "-0"), environment=environment)
    assert sorted(output.split(b"\0")[:-1]) == sorted(os.fsencode(f"{n}={v}") for n, v in environment.items())


def test_a_stage_has_no_descriptors_but_its_three(tmp_path: Path) -> None:
    with os.scandir("/proc/self/fd") as listed:
        inherited = {fd.name for fd in listed if os.get_inheritable(int(fd.name))}
    with (tmp_path / "open").open("w"):
        _, output = run(("find", "/proc/self/fd/", "-type", "l", "-printf", "%f\\n"))
    # 3 and more: the directories that find reads.
    assert set(output.decode().split()) - inherited <= {"0", "1", "2", "3", "4", "5"}


def signals(status: str, which: str) -> set[int]:
    """A set of signals in a /proc/PID/status."""
    fields = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    return {number for number in range(1, 65) if int(fields[which], 16) >> number - 1 & 1}


def test_a_stage_has_the_signals_of_a_shells_child() -> None:
    _, output = run(("cat", "/proc/self/status"))
    stage, ours = output.decode(), Path("/proc/self/status").read_text()
    assert signals(stage, "SigBlk") == set()
    # What was ignored when we came stays so, as in a shell; SIGPIPE is Python's own doing. SIGXFSZ is too,
    # and stays: an output over the limit is an error of the write, and no core dump with data in it.
    assert signals(stage, "SigIgn") == signals(ours, "SigIgn") - {signal.SIGPIPE}


def test_words_reach_the_program_as_they_are() -> None:
    words = ["", " ", "*", "--x=1", "-", "é", "a\nb", "$HOME", "'\"\\", "_"]
    _, output = run((sys.executable, "-c", "import sys; print(sys.argv[1:])", *words))
    assert output.decode() == f"{words}\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF, but not really")
    path.chmod(0o755)
    return path


def test_a_missing_program_is_named() -> None:
    with pytest.raises(RefreshFailed) as raised:
        run(("no-such-program", "secret-word"))
    assert str(raised.value) == "no-such-program: no such program on PATH"


def test_a_file_that_may_not_be_executed_is_no_program(program: Path) -> None:
    program.chmod(0o644)
    with pytest.raises(RefreshFailed) as raised:
        run((str(program),))
    assert str(raised.value) == f"{program}: no such program on PATH"


def test_a_file_that_cannot_be_executed_is_named_with_the_reason(program: Path) -> None:
    with pytest.raises(RefreshFailed) as raised:
        run((str(program), "secret-word"))
    assert str(raised.value) == f"{program}: cannot be started: Exec format error"


def test_a_script_without_its_interpreter_is_named_with_the_reason(program: Path) -> None:
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(RefreshFailed) as raised:
        run((str(program),))
    assert str(raised.value) == f"{program}: cannot be started: No such file or directory"


def test_words_that_are_too_many_for_the_kernel_are_no_crash() -> None:
    with pytest.raises(RefreshFailed) as raised:
        run(("true", "x" * (1 << 20)))
    assert str(raised.value) == "true: cannot be started: Argument list too long"


def test_a_later_stage_that_cannot_be_started_ends_those_before_it(program: Path) -> None:
    with pytest.raises(RefreshFailed):
        run(("sleep", "1000"), ("cat",), (str(program),), grace=0.05)


def test_everything_can_be_killed_at_once() -> None:
    children, stop = Children(), Wakeup()
    with tempfile.TemporaryFile() as out:
        argvs = [shell("trap '' TERM; sleep 1000"), ("sleep", "1000")]
        with Running(
            children, argvs, os.environ, stdin=None, stdout=out.fileno(), max_output=None, grace=20
        ) as stages:
            children.kill_all()
            assert stages.finish(stop, 20).statuses == (-signal.SIGKILL, -signal.SIGKILL)
    stop.close()


def test_a_finished_pipeline_leaves_nothing_to_the_garbage_collector() -> None:
    run(("true",), shell("exit 1"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            run(("true",), shell("exit 1"))
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 50  # sh alone leaves 224 objects a pipeline


# What runs short is set, step by step, one higher: the start fails at every place where it can.
SHORTAGE = """
    import contextlib, gc, os, resource, sys, threading
    from tests.unit.test_commands import RefreshFailed, descriptors, run, wait_until

    @contextlib.contextmanager
    def limited(number):
        soft, hard = resource.getrlimit(resource.{resource})
        resource.setrlimit(resource.{resource}, (number, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.{resource}, (soft, hard))

    run(("true",), ("true",))
    {prepare}
    before, outcomes = descriptors(), []
    for number in range({start}, {start} + 60):
        try:
            outcomes.append(str(run(("yes",), ("head", "-n", "1"), within=limited(number))[0].statuses))
        except RefreshFailed as error:
            outcomes.append(str(error))
        if outcomes[-1] == "(-13, 0)":
            break
        assert gc.isenabled()
        assert descriptors() == before, (number, outcomes)
        try:
            raise SystemExit(f"{{os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)}} {{outcomes}}")
        except ChildProcessError:
            pass
    wait_until(lambda: threading.active_count() == 1, what=f"{{threading.enumerate()}}")
    print("\\n".join(dict.fromkeys(outcomes)))
"""


def shortage(what: str, start: str, prepare: str = "") -> list[str]:
    """The different outcomes of one pipeline, with ever more of a resource."""
    script = textwrap.dedent(SHORTAGE).format(resource=what, start=start, prepare=prepare)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_too_few_descriptors_fail_a_refresh_and_leak_none() -> None:
    *failed, succeeded = shortage("RLIMIT_NOFILE", "len(before)")
    assert succeeded == "(-13, 0)"
    assert failed
    assert all(outcome.endswith("Too many open files") for outcome in failed)


@pytest.mark.slow
def test_too_few_processes_or_threads_fail_a_refresh_and_leak_nothing() -> None:
    # Of a user of its own: root has no such limit, and others' processes would count.
    *failed, succeeded = shortage("RLIMIT_NPROC", "1", "os.geteuid() or os.setresuid(*[54321] * 3)")
    assert succeeded == "(-13, 0)"
    assert {outcome.rpartition(": ")[2] for outcome in failed} == {
        "Resource temporarily unavailable",
        "can't start new thread",
    }
