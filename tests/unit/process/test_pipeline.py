"""Pipelines of real processes: statuses, stderr, limits, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kubectl_sidecar.errors import RefreshFailed, Stopping
from kubectl_sidecar.process.pipeline import CUT, STDERR_LIMIT, Ended, Stop, status_text
from tests.harness.processes import children
from tests.harness.waiting import wait_until
from tests.unit.process.running import (
    content,
    descriptors,
    group,
    launcher,
    ready_when,
    run,
    shell,
    started,
)


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


@pytest.mark.slow
def test_when_the_last_stage_has_succeeded_the_others_are_waited_for() -> None:
    with started(shell("exec > /dev/null; sleep 0.2; exit 3"), ("cat",)) as (pipeline, _):
        wait_until(lambda: not pipeline.is_waiting())
        assert pipeline.wait().statuses == (3, 0)


def test_the_timeout_ends_every_stage() -> None:
    # The last one reads nothing: it would end by itself when the first one has.
    argvs = ("sleep", "1000"), ("sleep", "1000")
    ended, _ = run(*argvs, timeout=0.05)
    assert ended == Ended(argvs, "timeout", (-signal.SIGTERM, -signal.SIGTERM), ("", ""))


def test_a_timeout_may_be_longer_than_a_lock_can_wait() -> None:
    ended, _ = run(("true",), timeout=1e20)
    assert ended.why == "exited"


def test_a_timeout_leaves_no_thread_when_the_pipeline_has_ended_before() -> None:
    before = threading.active_count()
    assert run(("true",), timeout=1000)[0].why == "exited"
    wait_until(lambda: threading.active_count() == before)


def test_a_stage_that_ignores_sigterm_is_killed_after_the_grace_with_all_it_started(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    others = "sleep 1000 & (sleep 1000 & sleep 1000) &"
    script = f"trap '' TERM; {others} {ready_when(ready)}; while :; do sleep 1000; done"
    with started(shell(script), starter=launcher(grace=0.05)) as (pipeline, _):
        wait_until(ready.exists)
        began = time.monotonic()
        pipeline.end()
        ended = pipeline.wait()
    assert time.monotonic() - began >= 0.05
    assert (ended.why, ended.statuses) == ("stopped", (-signal.SIGKILL,))
    wait_until(lambda: not group(int(ready.read_text())), what="something of the group lives")


def test_a_stage_that_cooperates_gets_the_grace_to_end_in(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'echo orderly; exit 9' TERM; {ready_when(ready)}; while :; do sleep 0.01; done"
    with started(shell(script)) as (pipeline, output):
        wait_until(ready.exists)
        pipeline.end()
        assert (pipeline.wait().statuses, content(output)) == ((9,), b"orderly\n")


def test_what_a_stage_left_running_neither_delays_the_end_nor_survives_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    ended, output = run(shell(f"echo $$ > {pid}; (while :; do echo more; sleep 0.01; done) & echo first"))
    assert (ended.why, ended.statuses) == ("exited", (0,))
    assert b"first\n" in output
    wait_until(lambda: not group(int(pid.read_text())), what="something of the group lives")


def test_nothing_is_signalled_when_all_is_over() -> None:
    with started(("sleep", "1000"), starter=launcher(grace=0.02)) as (pipeline, _):
        pipeline.end()
        pipeline.wait()
        # Somebody else's group, with a number that was ours a moment ago.
        theirs = subprocess.Popen(["sleep", "1000"], process_group=0)
        try:
            pipeline.processes[0] = theirs
            pipeline.end("timeout")
            pipeline.close()
            with pytest.raises(subprocess.TimeoutExpired):
                theirs.wait(0.1)
        finally:
            theirs.kill()
            theirs.wait()


def test_a_block_that_is_left_ends_the_stages() -> None:
    with pytest.raises(ZeroDivisionError), started(("sleep", "1000"), ("cat",)):
        raise ZeroDivisionError


def test_a_pipeline_that_is_fed_waits_for_its_document() -> None:
    document = b"given\n" * 100_000  # more than a pipe holds
    with started(("cat",), ("cat",), fed=True) as (pipeline, output):
        assert pipeline.is_waiting()
        assert pipeline.finish(20.0, document).statuses == (0, 0)
        assert content(output) == document


def test_a_stage_need_not_read_its_document() -> None:
    with started(("true",), fed=True) as (pipeline, _):
        assert pipeline.finish(20.0, b"given\n" * 100_000).statuses == (0,)
    with started(("sleep", "1000"), fed=True) as (pipeline, _):
        assert pipeline.finish(0.05, b"given\n" * 100_000).why == "timeout"


def test_what_a_pipeline_has_open_is_closed_at_its_end() -> None:
    before = descriptors()
    with started(("cat",), fed=True) as (_, output):
        assert str(output) in descriptors()
    assert descriptors() == before


def test_a_stop_ends_every_pipeline_of_its_thread() -> None:
    stop = Stop()
    with (
        started(("sleep", "1000"), stop=stop) as (one, _),
        started(("sleep", "1000"), stop=stop) as (other, _),
    ):
        stop.set()
        assert [one.wait().why, other.wait().why] == ["stopped", "stopped"]
    assert not stop.ends


def test_after_a_stop_nothing_is_started() -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopping):
        launcher().run([("no-such-program",)], os.environ, stop, 20)


@pytest.mark.slow
def test_a_stop_at_any_moment_of_a_start_ends_it() -> None:
    starter, moments = launcher(), 60
    for number in range(moments):
        stop = Stop()
        timer = threading.Timer(number * 0.03 / moments, stop.set)
        timer.start()
        with contextlib.suppress(Stopping):
            assert starter.run([("sleep", "1000")] * 3, os.environ, stop, 20)[0].why == "stopped"
        timer.join()


@pytest.mark.slow
def test_an_end_at_any_moment_of_the_natural_end_is_one_of_the_two() -> None:
    starter, moments, possible = launcher(), 100, {"stopped": (-signal.SIGTERM, 0), "exited": (0,)}
    for number in range(moments):
        stop = Stop()
        timer = threading.Timer(0.005 + number * 0.03 / moments, stop.set)
        timer.start()
        with contextlib.suppress(Stopping):
            ended, _ = starter.run([("sleep", "0.02")], os.environ, stop, 20)
            assert ended.statuses[0] in possible[ended.why]
        timer.join()


def test_the_end_of_a_long_stderr_is_kept_in_whole_lines() -> None:
    ended, _ = run(shell("yes 0123456789abcde | head -c 1000000 >&2; echo the end >&2; exit 3"))
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


def test_a_stage_that_writes_to_stderr_without_end_is_bounded() -> None:
    ended, _ = run(shell("yes >&2; exit 5"), limit=20_000)
    assert (ended.why, ended.statuses) == ("exited", (5,))
    assert ended.stderrs[0].startswith(CUT)


def test_programs_that_open_their_stderr_by_name_do_not_overwrite_each_other() -> None:
    ended, _ = run(shell("echo one >&2; echo two >> /dev/stderr; echo three >&2"))
    assert ended.stderrs == ("one\ntwo\nthree\n",)


def test_the_stages_have_a_stderr_each_and_none_of_it_is_output() -> None:
    ended, output = run(shell("echo one >&2; echo data"), shell("echo two >&2; cat"))
    assert (ended.stderrs, output) == (("one\n", "two\n"), b"data\n")


def test_what_a_quiet_stage_writes_to_stderr_is_thrown_away() -> None:
    both = [shell("echo one >&2; readlink /proc/$$/fd/2"), shell("echo two >&2; cat")]
    with started(*both, quiet=[0]) as (pipeline, output):
        assert pipeline.wait().stderrs == ("", "two\n")
        assert content(output) == b"/dev/null\n"


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


def test_no_stage_can_write_a_file_beyond_the_limit(tmp_path: Path) -> None:
    ended, _ = run(shell(f"yes > {tmp_path}/file; exit 6"), ("cat",), limit=1000)
    assert (ended.statuses, (tmp_path / "file").stat().st_size) == ((6, 0), 1001)


def test_a_limit_that_is_lower_already_is_kept() -> None:
    said = subprocess_of(
        """
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
        os.setresuid(54321, 54321, 54321)
        print(launcher(limit=1000).file_limit())
        ended, output = run(("yes",), limit=1000)
        print(ended.why, ended.statuses, len(output))
        ended, output = run(("head", "-c", "10", "/dev/zero"), limit=1000)
        print(ended.why, ended.statuses, len(output))
        """
    )
    assert said == "500\nexited (1,) 500\nexited (0,) 10\n"


def test_without_a_limit_of_the_system_ours_is_one_more_than_an_output_may_have() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    assert launcher(limit=1000).file_limit() == 1001


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
    # But for the directory that it looks into.
    look = "import os; d = '/proc/self/fd/'; print(*(fd for fd in os.listdir(d) if os.path.exists(d + fd)))"
    with (tmp_path / "open").open("w"):
        _, output = run(("true",), (sys.executable, "-Sc", look))
    assert set(output.decode().split()) == inherited | {"0", "1", "2"}


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


HEAD = """
    import errno, gc, os, resource, sys
    from kubectl_sidecar.errors import RefreshFailed
    from kubectl_sidecar.process.pipeline import Stop
    from tests.unit.process.running import descriptors, launcher, run, shell
    from tests.unit.process.seccomp import refuse
"""


def subprocess_of(script: str, *words: str) -> str:
    """Run a script in a process of its own, which may limit itself; returns what it printed."""
    code = textwrap.dedent(HEAD) + textwrap.dedent(script)
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_file_that_cannot_be_executed_is_named_with_the_reason(program: Path) -> None:
    # In a process of their own: sh leaves a zombie and two descriptors of each.
    said = subprocess_of(
        """
        for argv in [(sys.argv[1], "secret-word"), (sys.argv[2],), ("true", "x" * (1 << 20))]:
            try:
                run(("sleep", "1000"), ("cat",), argv)
            except RefreshFailed as error:
                print(error)
            assert gc.isenabled()
        """,
        str(program),
        str(script_without_interpreter(program)),
    )
    assert said == (
        f"{program}: cannot be started: Exec format error\n"
        f"{program}.script: cannot be started: No such file or directory\n"
        "true: cannot be started: Argument list too long\n"
    )


def script_without_interpreter(beside: Path) -> Path:
    script = beside.with_suffix(".script")
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    return script


def test_everything_can_be_killed_at_once() -> None:
    starter = launcher(grace=20)
    with started(shell("trap '' TERM; sleep 1000"), ("sleep", "1000"), starter=starter) as (pipeline, _):
        starter.groups.kill_all()
        assert pipeline.wait().statuses == (-signal.SIGKILL, -signal.SIGKILL)
    with pytest.raises(Stopping):
        starter.run([("true",)], os.environ, Stop(), 20)


# What runs short is set a little higher at each step: the start fails at many of the places where it can.
# What sh leaves behind, up to seven descriptors and a process each time, must not be the shortage.
SHORTAGE = """
    {prepare}
    outcomes, starter, (soft, hard) = [], launcher(grace=0.05), resource.getrlimit(resource.{resource})
    starter.run([("true",), ("true",)], os.environ, Stop(), 20)
    for number in range(60):
        resource.setrlimit(resource.{resource}, ({limit}, hard))
        try:
            ended, _ = starter.run([("yes",), ("head", "-n", "1")], os.environ, Stop(), 20)
            outcomes.append(str(ended.statuses))
        except RefreshFailed as error:
            outcomes.append(str(error))
        finally:
            resource.setrlimit(resource.{resource}, (soft, hard))
        assert gc.isenabled()
        if outcomes[-1] == "(-13, 0)":
            break
    print("\\n".join(dict.fromkeys(outcomes)))
"""


def shortage(what: str, limit: str, prepare: str = "") -> list[str]:
    """The different outcomes of one pipeline, with ever more of a resource."""
    return subprocess_of(
        textwrap.dedent(SHORTAGE).format(resource=what, limit=limit, prepare=prepare)
    ).splitlines()


@pytest.mark.slow
def test_too_few_descriptors_fail_a_refresh_with_the_reason() -> None:
    *failed, succeeded = shortage("RLIMIT_NOFILE", "max(map(int, descriptors())) + 1 + number")
    assert succeeded == "(-13, 0)"
    assert failed
    assert all("Too many open files" in outcome for outcome in failed)


@pytest.mark.slow
def test_too_few_processes_or_threads_fail_a_refresh_with_the_reason() -> None:
    # Of a user of its own: root has no such limit, and others' processes would count.
    *failed, succeeded = shortage(
        "RLIMIT_NPROC", "1 + 2 * number", "os.geteuid() or os.setresuid(*[54321] * 3)"
    )
    assert succeeded == "(-13, 0)"
    # Which of the two comes first is up to when the threads of before have ended.
    reasons = {outcome.rpartition(": ")[2] for outcome in failed}
    assert reasons
    assert reasons <= {"Resource temporarily unavailable", "can't start new thread"}


def test_without_memory_files_an_unlinked_file_takes_their_place(tmp_path: Path) -> None:
    said = subprocess_of(
        """
        refuse(memfd_create=errno.ENOSYS, pidfd_open=errno.ENOSYS, pidfd_send_signal=errno.ENOSYS)
        starter = launcher(grace=0.05, directory=sys.argv[1])
        print(starter.run([shell("echo said >&2; echo written")], os.environ, Stop(), 20))
        print(starter.run([("sleep", "1000")], os.environ, Stop(), 0.05)[0])
        print(os.listdir(sys.argv[1]))
        """,
        str(tmp_path),
    )
    assert said == (
        "(Ended(why='exited', statuses=(0,), stderrs=('said\\n',)), b'written\\n')\n"
        "Ended(why='timeout', statuses=(-15,), stderrs=('',))\n"
        "[]\n"
    )


@pytest.mark.parametrize("code", ["ENOSYS", pytest.param("EPERM", marks=pytest.mark.slow)])
def test_with_neither_memory_files_nor_a_directory_the_call_is_named(code: str) -> None:
    said = subprocess_of(
        f"""
        refuse(memfd_create=errno.{code})
        for directory in (None, "/no/such/directory"):
            try:
                launcher(directory=directory).run([("true",)], os.environ, Stop(), 20)
            except RefreshFailed as error:
                print(str(error).partition(" '/")[0])
        """
    )
    reason = {"ENOSYS": "Function not implemented", "EPERM": "Operation not permitted"}[code]
    assert said == (
        f"memfd_create: {reason}\nmemfd_create is refused, and instead of it: No such file or directory:\n"
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)  # half a minute, on a machine that does nothing else
def test_two_thousand_pipelines_leave_nothing_behind() -> None:
    starter, stop = launcher(), Stop()
    before = descriptors(), threading.active_count()

    def many(number: int) -> None:
        for _ in range(number):
            assert starter.run([("true",), shell("exit 1")], os.environ, stop, 20)[0].statuses[1] == 1

    workers = [threading.Thread(target=many, args=[500]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wait_until(lambda: (descriptors(), threading.active_count()) == before)
    assert (children(os.getpid()), stop.ends) == ({}, set())


UNUSED = """
    for name in ("asyncio", "importlib.metadata"):
        print(name, name in sys.modules)

    import asyncio, importlib.metadata
    from importlib import metadata

    async def seven():
        await asyncio.sleep(0)
        return 7

    print(asyncio.run(seven()), importlib.metadata.version("sh"), asyncio.Queue.__module__)
    print(metadata is importlib.metadata)
"""


def test_what_sh_does_not_use_is_not_loaded_and_can_be_later() -> None:
    script = "import sys, kubectl_sidecar.process.pipeline\n" + textwrap.dedent(UNUSED)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "asyncio False",
        "importlib.metadata False",
        "7 2.4.0 asyncio.queues",
        "True",
    ]


@pytest.mark.slow
def test_what_is_loaded_already_stays() -> None:
    script = (
        "import asyncio, sys, kubectl_sidecar.process.pipeline;"
        "print(sys.modules['asyncio'] is asyncio, asyncio.run)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True <function run ")
