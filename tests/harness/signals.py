"""The same signals for every run of the tests, whatever its caller ignored or blocked."""

from __future__ import annotations

import signal
import sys

# nohup ignores SIGHUP. Python ignores the others, and gives every program that it starts the default.
MAY_BE_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP}


def set_defaults() -> None:
    """Undo what this process inherited. To be called before it starts anything.

    A script's background job has SIGINT and SIGQUIT ignored, a supervisor's child possibly SIGTERM. Programs
    inherit ignored and blocked signals from who starts them, and cannot be ended by them.
    """
    for number in signal.valid_signals() - MAY_BE_IGNORED:
        if signal.getsignal(number) == signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def hang_up_children() -> None:
    """Where this process ignores SIGHUP, go on doing so, but have its children end by it."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # A handler, unlike SIG_IGN, is not inherited.
        signal.signal(signal.SIGHUP, lambda *_: None)


DEAF = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execvp(sys.argv[1], sys.argv[1:])
"""


def deaf(*argv: str) -> list[str]:
    """The words that start a program with every signal ignored and blocked."""
    return [sys.executable, "-I", "-c", DEAF, *argv]
