"""What happens to the tasks, as log lines and as the status document."""

from __future__ import annotations

import bisect
import contextlib
import copy
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish.file import OutputFile, Published
from kubectl_sidecar.status.document import VERSION, moment, pid_namespace, process_start, rfc3339
from kubectl_sidecar.task import Task
from kubectl_sidecar.units import format_duration

log = logging.getLogger("kubectl_sidecar")

# Seconds that the last documents may take.
CLOSING_SECONDS = 1.0
# Changes come in bursts: the next document tells of all that come within this time.
_GATHERING_SECONDS = 0.1
# The time and the seconds since boot do not drift apart; a larger difference means that the clock was set.
_STEP = 1.0

# What the document says of a task, but with its _TIMES in seconds since boot, which nobody sets.
State = dict[str, Any]
_TIMES = ("lastAttempt", "lastSuccess", "lastChange", "nextAttempt", "failingSince")
# And for metrics alone: attempts by result, how many took up to so many seconds, or longer, and all together.
_MEASURED = ("attempts", "durations", "seconds")
# A change that is fed takes 5 ms, kubectl 0.1 s, and what times out 30 s.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Recorder:
    """Told of every finished attempt, by any thread; nothing in it is output, it may be a Secret."""

    def __init__(self, paths: Sequence[str], clock: Callable[[], tuple[float, float]] = moment) -> None:
        """Write the document to the absolute `paths`; `clock` returns the time and the seconds since boot."""
        self._lock = threading.Lock()
        self._clock = clock
        wall, now = clock()
        self._offset = wall - now
        self._started = self._heartbeat = now
        self.reload_error: str | None = None
        self._states: dict[Task, State] = {}
        self._closing = threading.Event()
        self._wanted = {path: threading.Event() for path in paths}
        self._threads = [threading.Thread(target=self._keep, args=(path,), daemon=True) for path in paths]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until the last document is written everywhere, for at most CLOSING_SECONDS."""
        deadline = time.monotonic() + CLOSING_SECONDS
        self._closing.set()
        for wanted in self._wanted.values():
            wanted.set()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def take_over(self, tasks: Iterable[Task]) -> None:
        """Begin with these tasks, or go on with them: what is known of unchanged ones stays."""
        with self._change():
            self._states = {task: self._states.get(task) or _starting(task) for task in tasks}
            self.reload_error = None

    def refused(self, error: str) -> None:
        """Note that a reload was refused, and every problem of it."""
        with self._change():
            self.reload_error = error

    def beat(self) -> None:
        """Show that the supervisor makes progress."""
        with self._change() as now:
            self._heartbeat = now

    def succeeded(self, task: Task, published: Published, next_in: float) -> None:
        """Note a success; the next attempt is in `next_in` seconds."""
        with self._change() as now:
            if (state := self._states.get(task)) is None:
                return  # a reload has taken it away
            if news := _succeed(state, now) or "changed" * published.changed:
                size = published.size
                content = "removed: the object does not exist" if size is None else f"{size} bytes"
                log.info("%s: %s", news, content, extra={"task": task.output})
            state.update(nextAttempt=now + next_in, bytes=published.size, sha256=published.sha256)
            if published.changed:
                state["lastChange"] = now

    def failed(self, task: Task, reason: str, next_in: float | None) -> None:
        """Note a failure; the next attempt is in `next_in` seconds, None: there is none."""
        with self._change() as now:
            if state := self._states.get(task):
                state["nextAttempt"] = None if next_in is None else now + next_in
                if news := _fail(state, reason, now, next_in):
                    log.warning("%s", news, extra={"task": task.output})

    def hook_succeeded(self, task: Task) -> None:
        """Note that the hook has told of the newest content."""
        with self._change() as now:
            hook = self._states.get(task, {}).get("hook")
            if hook and (news := _succeed(hook, now)):
                log.info("on-change: %s", news, extra={"task": task.output})

    def hook_failed(self, task: Task, reason: str, next_in: float | None) -> None:
        """Note a failure of the hook; the next attempt is in `next_in` seconds, None: there is none."""
        with self._change() as now:
            hook = self._states.get(task, {}).get("hook")
            if hook and (news := _fail(hook, reason, now, next_in)):
                log.warning("on-change %s", news, extra={"task": task.output})

    def took(self, task: Task, seconds: float) -> None:
        """Note how long an attempt was."""
        with self._lock:
            if (state := self._states.get(task)) is not None:
                state["durations"][bisect.bisect_left(BUCKETS, seconds)] += 1
                state["seconds"] += seconds

    @contextlib.contextmanager
    def _change(self) -> Iterator[float]:
        """Have what the block changes written everywhere, soon; yields the seconds since boot."""
        with self._lock:
            yield self._now()
        for wanted in self._wanted.values():
            wanted.set()

    def _now(self) -> float:
        """Return the seconds since boot; when the clock was set, all times in the document follow it."""
        wall, now = self._clock()
        step = wall - now - self._offset
        if abs(step) > _STEP:
            log.info("the clock was set by %+.0f s", step)
            self._offset += step
        return now

    def states(self) -> tuple[list[State], float]:
        """Return a copy of what is known of each task, and when the boot was, in seconds since the epoch."""
        with self._lock:
            self._now()
            return copy.deepcopy(list(self._states.values())), self._offset

    def document(self) -> str:
        """Return the status document as of now."""
        with self._lock:
            now, states = self._now(), self._states.values()
            document = {
                "version": VERSION,
                "time": self._time(now),
                "sinceBoot": round(now, 3),
                "pid": os.getpid(),
                "pidNamespace": pid_namespace(),
                "processStart": process_start(os.getpid()),
                "started": self._time(self._started),
                "heartbeat": self._time(self._heartbeat),
                "reloadError": self.reload_error,
                "tasks": [self._shown(state) for state in states],
            }
        return json.dumps(document, indent=1) + "\n"

    def _shown(self, state: State) -> State:
        shown = {name: value for name, value in state.items() if name not in _MEASURED}
        shown |= {name: self._time(state[name]) for name in _TIMES if name in state}
        return shown | {"hook": self._shown(shown["hook"])} if shown.get("hook") else shown

    def _time(self, since_boot: float | None) -> str | None:
        return None if since_boot is None else rfc3339(since_boot + self._offset)

    def _keep(self, path: str) -> None:
        """Replace one document by the newest, for ever: a volume that hangs holds up this thread alone."""
        file = OutputFile("/", path, 0o644, durable=False)
        is_last = warned = False
        while not is_last:
            self._wanted[path].wait()
            self._wanted[path].clear()
            is_last = self._closing.is_set()
            try:
                file.publish(self.document().encode())
                warned = False
            except RefreshFailed as error:
                if not warned:  # once: the outputs do not depend on it
                    log.warning("no status file: %s", error)
                warned = True
            self._closing.wait(_GATHERING_SECONDS)


def _starting(task: Task) -> State:
    known = {"output": task.output, "every": task.every, "watch": bool(task.watch), "required": task.required}
    unknown = dict.fromkeys(("lastChange", "nextAttempt", "bytes", "sha256"))
    measured = {"durations": [0] * (len(BUCKETS) + 1), "seconds": 0.0}
    return {**known, **_begun(), **unknown, **measured, "hook": _begun() if task.on_change else None}


def _begun() -> State:
    """Return what a task and its hook both have, and both before their first attempt."""
    unknown = dict.fromkeys(("lastAttempt", "lastSuccess", "failingSince", "lastError"))
    return {"state": "starting", "failures": 0, "attempts": {"success": 0, "failure": 0}, **unknown}


def _succeed(state: State, now: float) -> str:
    """Note a success; return what the log says of it: "" for one that is as the one before."""
    news = "first success" if state["lastSuccess"] is None else ""
    if state["failures"]:
        news = f"recovered after {state['failures']} failures in {_failing_for(state, now)}"
    state["attempts"]["success"] += 1
    state.update(state="ok", failures=0, failingSince=None, lastError=None)
    state.update(lastAttempt=now, lastSuccess=now)
    return news


def _fail(state: State, reason: str, now: float, next_in: float | None) -> str:
    """Note a failure; return what the log says of the 1st, 2nd, 4th, 8th ... in a row, and the last one."""
    state["attempts"]["failure"] += 1
    failures = state["failures"] + 1
    state.update(failures=failures, failingSince=state["failingSince"] or now)
    state.update(state="failing", lastAttempt=now, lastError=reason)
    is_power_of_two = failures.bit_count() == 1
    if not is_power_of_two and next_in is not None:
        return ""
    count = f" ({failures} times in {_failing_for(state, now)})" if failures > 1 else ""
    then = "giving up" if next_in is None else f"next attempt in {format_duration(round(next_in, 1))}"
    return f"failed{count}: {reason}; {then}"


def _failing_for(state: State, now: float) -> str:
    return format_duration(round(now - state["failingSince"], 1))
