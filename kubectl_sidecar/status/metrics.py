"""What Prometheus is told: every task of the recorder, the versions, and what this process costs."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence

from kubectl_sidecar.status.recorder import BUCKETS, Recorder, State


class _Unused(types.ModuleType):
    """Has everything that anybody may import from it."""

    def __getattr__(self, name: str) -> type:
        return object


# prometheus_client needs these for its own servers and clients only. They cost 2.9 MB in every Pod, and the
# minimal image has no OpenSSL. Once it is imported, each of them can be imported as ever.
_HEAVY = {"http.server", "ssl", "urllib.error", "urllib.request", "wsgiref.simple_server"}
_UNUSED = _HEAVY - sys.modules.keys()
sys.modules.update({name: _Unused(name) for name in _UNUSED})
from prometheus_client import Metric, ProcessCollector, generate_latest  # noqa: E402
from prometheus_client.core import (  # noqa: E402
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)

for _name in _UNUSED:
    del sys.modules[_name]

_TASK = "kubectl_sidecar_task_"
# The gauges of a task: name, where it is in the state, and help. None, or not there: no sample.
_GAUGES = (
    ("last_attempt_timestamp_seconds", "lastAttempt", "When its last attempt ended; 0: none has."),
    ("last_success_timestamp_seconds", "lastSuccess", "When its last success was; 0: there was none."),
    ("last_change_timestamp_seconds", "lastChange", "When its output last changed; 0: it has not."),
    ("period_seconds", "every", "Time between two refreshes; with @watch, between two resyncs."),
    ("required", "required", "1: startup and readiness wait for it; 0: it is @optional."),
    ("consecutive_failures", "failures", "Failures since its last success."),
    ("output_bytes", "bytes", "Size of its output; no sample while none is known."),
    ("watch_connected", "connected", "1: its @watch tells of changes; 0: it is polled meanwhile."),
    (
        "hook_last_success_timestamp_seconds",
        "hook lastSuccess",
        "When its @on-change last succeeded; 0: never.",
    ),
    ("hook_consecutive_failures", "hook failures", "Failures since the last success of its @on-change."),
)


class Metrics:
    """A collector of prometheus_client's; it keeps nothing, so tasks that are gone leave nothing behind."""

    def __init__(
        self, recorder: Recorder, watches: Callable[[], Mapping[str, bool]], versions: Mapping[str, str]
    ) -> None:
        """`watches` tells of each watched output whether its watch is connected."""
        self._recorder = recorder
        self._watches = watches
        # Ours has the name that dashboards look for.
        self._versions = {name.replace("kubectl-sidecar", "version"): text for name, text in versions.items()}
        self._process = ProcessCollector(registry=None)

    def render(self) -> bytes:
        """Return everything in the text format, version 0.0.4."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield everything as it is now; called by prometheus_client."""
        text = "The versions of kubectl-sidecar, and of the programs on PATH."
        yield InfoMetricFamily("kubectl_sidecar_build", text, self._versions)
        text = "0: the last reload was refused, and the old tasks go on."
        reloaded = self._recorder.reload_error is None
        yield GaugeMetricFamily("kubectl_sidecar_last_reload_successful", text, reloaded)
        watches, (states, boot) = self._watches(), self._recorder.states()
        for state in states:
            state["connected"] = watches.get(state["output"])
            state |= {f"hook {name}": value for name, value in (state["hook"] or {}).items()}
        yield from _gauges(states, boot)
        yield _attempts("attempts", "Attempts to refresh it that have ended.", states)
        yield _attempts("hook attempts", "Attempts of its @on-change that have ended.", states)
        yield _durations(states)
        yield from self._process.collect()


def _gauges(states: Sequence[State], boot: float) -> Iterator[Metric]:
    for name, key, text in _GAUGES:
        gauge = GaugeMetricFamily(_TASK + name, text, labels=["task"])
        for state in states:
            value = state.get(key)
            if name.endswith("_timestamp_seconds") and key in state:
                value = value + boot if value else 0
            if value is not None:
                gauge.add_metric([state["output"]], value)
        yield gauge


def _attempts(key: str, text: str, states: Sequence[State]) -> Metric:
    attempts = CounterMetricFamily(_TASK + key.replace(" ", "_"), text, labels=["task", "result"])
    for state in states:
        for result, count in state.get(key, {}).items():
            attempts.add_metric([state["output"], result], count)
    return attempts


def _durations(states: Sequence[State]) -> Metric:
    text = "How long attempts to refresh it took, with what they waited for."
    durations = HistogramMetricFamily(_TASK + "attempt_duration_seconds", text, labels=["task"])
    for state in states:
        counts = itertools.accumulate(state["durations"])
        buckets = list(zip((*map(str, BUCKETS), "+Inf"), counts, strict=True))
        durations.add_metric([state["output"]], buckets, state["seconds"])
    return durations
