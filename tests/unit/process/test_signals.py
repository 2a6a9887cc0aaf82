"""Signals to a process whose work waits for something else: they are handed on, or end it at once."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubectl_sidecar.errors import Stopping
from kubectl_sidecar.process.signals import SIGKILL, Groups, Signals, signal_group, signal_name
from tests.harness.processes import children
from tests.harness.waiting import wait_until

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGURG, signal.SIGCHLD)


def received(signals: Signals, count: int) -> list[str | None]:
    return [signals.inbox.get(timeout=20) for _ in range(count)]


def work_that(signals: Signals, does: Callable[[], int]) -> Callable[[], int]:
    """Work that holds the stop signals."""

    def work() -> int:
        signals.hold(1000)
        return does()

    return work


def test_what_the_work_returns_is_returned() -> None:
    signals = Signals(Groups())
    with signals.handled():
        assert signals.run(lambda: 7) == 7


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(2), Stopping()])
def test_what_the_work_raises_is_raised(error: BaseException) -> None:
    def work() -> int:
        raise error

    signals = Signals(Groups())
    with signals.handled(), pytest.raises(type(error)) as raised:
        signals.run(work)
    assert raised.value is error


def test_signals_are_handed_on_in_the_order_in_which_they_came() -> None:
    came = [signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM]

    def does() -> int:
        for number in came:
            os.kill(os.getpid(), number)
            assert received(signals, 1) == [number.name.removeprefix("SIG")]
        return 0

    signals = Signals(Groups())
    with signals.handled():
        signals.run(work_that(signals, does))


def test_signals_that_came_before_the_work_began_are_handed_on() -> None:
    signals = Signals(Groups())
    with signals.handled():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGUSR1)
        signals.run(lambda: 0 if received(signals, 2) == ["HUP", "USR1"] else 1)


def test_what_was_done_with_signals_before_comes_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with Signals(Groups(), init=True).handled():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked | set(NUMBERS)
        signal.raise_signal(signal.SIGTERM)  # too late: it is nobody's business any more
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


def test_a_copy_of_the_program_that_has_not_begun_yet_keeps_its_signals_to_itself() -> None:
    def does() -> int:
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(queue.Empty):
            signals.inbox.get(timeout=0.05)
        return 0

    signals = Signals(Groups())
    with signals.handled():
        signals.run(work_that(signals, does))


def test_orphans_are_reaped_and_what_we_have_started_is_not() -> None:
    groups, signals = Groups(), None
    signals = Signals(groups, init=True)

    def does() -> int:
        with groups.starting():
            ours = os.posix_spawn("/bin/true", ["true"], {})
            groups.running.add(ours)
        wait_until(lambda: children(os.getpid())[ours] == "Z")
        # It is shown to waitid() first, and hides this one until it is reaped.
        orphan = os.posix_spawn("/bin/true", ["true"], {})
        wait_until(lambda: children(os.getpid())[orphan] == "Z")
        assert not groups.reap_orphans()
        assert os.waitpid(ours, 0)[1] == 0
        groups.running.discard(ours)
        wait_until(lambda: not children(os.getpid()), what="the orphan is left")
        return 0

    with signals.handled():
        signals.run(does)
    assert signals.inbox.empty()


def test_a_start_in_progress_is_no_hindrance_to_the_reaper() -> None:
    groups = Groups()
    with groups.starting():
        assert not groups.reap_orphans()
    assert groups.reap_orphans()


def test_after_all_were_killed_nothing_is_started() -> None:
    groups = Groups()
    groups.kill_all()
    with pytest.raises(Stopping), groups.starting():
        pytest.fail("started")


@pytest.mark.slow
def test_a_start_that_hangs_does_not_hold_up_the_killing() -> None:
    groups = Groups()
    with groups.starting():
        child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setpgroup=0)
        groups.running.add(child)
        killer = threading.Thread(target=groups.kill_all)
        killer.start()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -SIGKILL
        killer.join()


def test_a_group_that_is_gone_is_no_error() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {}, setpgroup=0)
    os.waitpid(child, 0)
    signal_group(child, SIGKILL)


def test_a_group_of_somebody_else_is_no_error() -> None:
    if os.geteuid():
        pytest.skip("only root can start a process of somebody else")
    theirs = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setpgroup=0)
    if (copy := os.fork()) == 0:
        os.setresuid(54321, 54321, 54321)
        with contextlib.suppress(BaseException):
            signal_group(theirs, SIGKILL)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(copy, 0)[1] == 0
    os.kill(theirs, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(theirs, 0)[1]) == -signal.SIGTERM


def test_every_number_has_a_name() -> None:
    assert [signal_name(number) for number in (9, 64, 40)] == ["SIGKILL", "SIGRTMAX", "signal 40"]


# What follows ends the program: in a process of its own.
PROGRAM = """
    import os, sys, threading, time
    from kubectl_sidecar.process.pipeline import Launcher, Stop
    from kubectl_sidecar.process.signals import Groups, Signals
    from kubectl_sidecar.task import Stage

    def say(text):
        os.write(1, text.encode() + b"\\n")

    def start(*argvs):
        launcher = Launcher(groups, 5.0, 1 << 20, None)
        return launcher.start([Stage(argv) for argv in argvs], os.environ, Stop())

    def for_ever():
        threading.Event().wait()

    groups = Groups()
    signals = Signals(groups, init=False, stopped_status={stopped_status})
    def work():
{work}
    with signals.handled():
        sys.exit(signals.run(work))
"""


@contextlib.contextmanager
def program(
    work: str, *, stopped_status: int | None = None, ignored: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Run a program with this work, started under `ignored` signals."""
    body = textwrap.indent(textwrap.dedent(work), "        ")
    code = textwrap.dedent(PROGRAM.format(work=body, stopped_status=stopped_status))
    before = ["env", f"--ignore-signal={ignored}"] if ignored else []
    words = [*before, sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


BUSY = """
pipeline = start(("sh", "-c", "trap '' TERM; echo $$; exec sleep 1000"))
say(str(pipeline.processes[0].pid))
for_ever()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stopped_status", [None, 0])
def test_a_stop_signal_that_is_not_held_ends_everything_at_once(
    number: signal.Signals, stopped_status: int | None
) -> None:
    with program(BUSY, stopped_status=stopped_status) as process:
        stage = int(line(process))
        process.send_signal(number)
        assert process.wait(20) == (128 + number if stopped_status is None else stopped_status)
        wait_until(lambda: not is_alive(stage))


def test_a_second_stop_signal_ends_everything_at_once_whatever_the_work_waits_for() -> None:
    work = "signals.hold(1000)\n" + BUSY.replace("for_ever()", "say(signals.inbox.get())\nfor_ever()")
    with program(work, stopped_status=0) as process:
        stage = int(line(process))
        process.send_signal(signal.SIGTERM)
        assert line(process) == "TERM"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 128 + signal.SIGINT
        wait_until(lambda: not is_alive(stage))


def test_work_that_does_not_end_in_time_is_ended() -> None:
    with program("signals.hold(0.05)\n" + BUSY) as process:
        stage = int(line(process))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        wait_until(lambda: not is_alive(stage))


def test_work_that_ends_in_time_has_its_own_status() -> None:
    with program("signals.hold(1000)\nsay('held')\nsignals.inbox.get()\nreturn 5") as process:
        assert line(process) == "held"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 5


STARTS = """
say("begun")
while True:
    with start(("true",), ("true",)) as pipeline:
        pipeline.wait()
"""


@pytest.mark.slow
def test_the_first_stop_signal_ends_it_at_any_moment_of_its_life() -> None:
    for moment in range(40):
        with program(STARTS) as process:
            assert line(process) == "begun"
            time.sleep(moment * 0.001)  # so that it comes at another moment each time
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM


def test_a_stop_signal_that_was_ignored_before_ends_it() -> None:
    with program(BUSY, ignored="TERM,INT,HUP") as process:
        line(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


IGNORED = """
# The names of what a stage ignores, and of what is blocked in it.
launcher = Launcher(groups, 5.0, 1 << 20, None)
ended, output = launcher.run([("cat", "/proc/self/status")], os.environ, Stop(), 20)
import signal
for mask in ("SigIgn", "SigBlk"):
    numbers = int(dict(l.split(":\\t") for l in output.decode().splitlines())[mask], 16)
    say(" ".join(n.name for n in signal.Signals if numbers >> n - 1 & 1))
ended, _ = launcher.run([("sleep", "1000")], os.environ, Stop(), 0.05)
say(f"{ended.why} {ended.statuses}")
return 0
"""


def test_what_was_ignored_before_does_not_keep_a_stage_from_being_ended() -> None:
    with program(IGNORED, ignored="TERM,INT,HUP,PIPE,USR1,CHLD") as process:
        assert line(process) == "SIGXFSZ"
        assert line(process) == ""
        assert line(process) == "timeout (-15,)"
        assert process.wait(20) == 0
