"""Task, Stage, Hook, WatchPlan and Settings: plain data that everything else works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kubectl_sidecar.errors import Position

OnMissing = Literal["keep", "remove"]
# In the environment of a hook's stages: the absolute path of the output.
HOOK_OUTPUT = "KUBECTL_SIDECAR_OUTPUT"


@dataclass(frozen=True, slots=True)
class Stage:
    """One program of a pipeline, and its words."""

    argv: tuple[str, ...]
    where: Position = field(default=Position(""), compare=False)
    # Whether a variable was expanded in its words: they may hold secrets, and no message shows them.
    expanded: bool = field(default=False, compare=False)
    # `2>/dev/null`: what it writes to stderr is thrown away.
    quiet: bool = False
    # The positions of the words that hold a variable as it is written, because it is not set.
    unset: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class Hook:
    """What is done when an output has changed: a pipeline is run, or a URL gets a POST."""

    # None of them: there is a URL.
    stages: tuple[Stage, ...] = ()
    # http or https, in printable ASCII.
    url: str = ""
    # Whether a variable was expanded in the URL: it may hold secrets, and no message shows any of it.
    expanded: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class WatchPlan:
    """How one task is watched."""

    # The kubectl that writes a line at each change.
    argv: tuple[str, ...]
    # The line holds an object, which is what the stages after the source get.
    # Otherwise a line only means that something has changed, and the task's whole line is run.
    feeds: bool
    # The stages after the source may be started before there is an object: they do nothing until then.
    ahead: bool
    # The object is fed with its managed fields.
    managed_fields: bool = False
    # What in the output goes stale while nothing changes, for people.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One output, and the pipeline that makes it."""

    stages: tuple[Stage, ...]
    # Normalised and unique: the name of the task. Relative to the output directory, or absolute.
    output: str
    # Seconds between two refreshes; of a watched task, between two resyncs.
    every: float
    # Seconds that one run of the pipeline may take.
    timeout: float
    mode: int
    on_missing: OnMissing
    on_change: Hook | None
    # None: the task is polled.
    watch: WatchPlan | None
    # Whether startup and readiness wait for it; False with @optional.
    required: bool
    # Whether an empty output of a successful pipeline is published.
    allow_empty: bool
    where: Position = field(compare=False)
    output_where: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """The flags of the command line, as values."""

    files: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    # Seconds; None: 30, and 600 for a watched task.
    every: float | None = None
    # Seconds.
    timeout: float = 30.0
    mode: int = 0o644
    on_missing: OnMissing = "keep"
    # check only: a variable that is not set is no problem.
    allow_unset: bool = False
    # check only: ask the cluster.
    live: bool = False
    # check only: the namespace and name of the service account that is asked about; None: who we are.
    as_account: tuple[str, str] | None = None
    # rbac only: the namespace and name of the service account that Roles are printed for.
    service_account: tuple[str, str] | None = None
    # rbac only: what the Roles are called.
    name: str | None = None
    # rbac only: what cannot be judged is no failure.
    allow_unknown: bool = False
    # Absolute, but for `check`.
    output_dir: str = "."
    # Bytes.
    max_output: int = 16 << 20
    # Absolute.
    status_file: str | None = None
    once: bool = False
    # Seconds that failures are retried with `once`.
    deadline: float = 60.0
    # Consecutive failures of one task that end the program; None: never.
    max_failures: int | None = None
    # Refreshes at once: each costs kubectl's 46 MB.
    concurrency: int = 2
    # Seconds between SIGTERM and SIGKILL.
    grace: float = 2.0
    # Take changed task files over without being asked.
    reload: bool = False
    log_format: str = "text"
    # Where probes and metrics are answered: an IP address, "" for all of them, and a port.
    http: tuple[str, int] | None = None
    # Seconds that a success may be old, as `health` has it: from the environment alone.
    max_age: float | None = None
