"""Tell others that an output has changed, by a pipeline or a POST, until that succeeds."""

from __future__ import annotations

import functools
import math
import os
import threading
from typing import NoReturn

from kubectl_sidecar import retry
from kubectl_sidecar.process.pipeline import Stop
from kubectl_sidecar.supervise.refresh import Context, check
from kubectl_sidecar.task import HOOK_OUTPUT, Hook, Task


class HookRunner:
    """Runs the hook of a task, once at a time, and for the newest content only.

    At least once for each content that stays: what was not told when the program ended is told by the next
    run of it, which tells of its first success in any case.
    """

    def __init__(self, task: Task, hook: Hook, context: Context, stop: Stop) -> None:
        self._task = task
        self._hook = hook
        self._context = context
        self._stop = stop
        self._news = threading.Event()
        self._sleep = functools.partial(stop.sleep, wake=self._news)

    def send(self) -> None:
        """Tell of what is published now; what others have not been told yet is forgotten."""
        self._news.set()

    def run(self) -> NoReturn:
        """Tell whatever is sent, for ever; raises Stopping."""
        while True:
            self._sleep(None)
            self.tell()

    def tell(self, deadline: float = math.inf) -> None:
        """Run the hook until it succeeds; raises RefreshFailed after `deadline` seconds, and Stopping."""
        recorder = self._context.recorder
        retry.until_success(
            self._attempt,
            sleep=self._sleep,
            failed=lambda error, delay: recorder.hook_failed(self._task, str(error), delay),
            deadline=deadline,
        )
        recorder.hook_succeeded(self._task)

    def _attempt(self) -> None:
        """Run the hook once; raises RefreshFailed and Stopping."""
        if self._hook.url:
            from kubectl_sidecar.supervise.post import post  # 3 MB, for those who need it

            post(self._hook, self._task, self._stop)
            return
        context = self._context
        path = os.path.join(context.settings.output_dir, self._task.output)
        with open(os.devnull, "wb", buffering=0) as null:
            # It takes no slot of --concurrency: while it hangs, the refreshes go on.
            environment = {**context.environment, HOOK_OUTPUT: path}
            stages, stdout = self._hook.stages, null.fileno()
            pipeline = context.launcher.start(stages, environment, self._stop, stdout=stdout)
        with pipeline:
            check(pipeline.finish(self._task.timeout), self._task, context)
