"""Whatever happened to the tasks, health says what a plain reading of the history says."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status.document import Document
from kubectl_sidecar.status.health import unhealthy
from kubectl_sidecar.status.recorder import Recorder
from kubectl_sidecar.units import format_duration
from tests.unit.status.tasks import Clock, task

TASKS = {"a": task("a", every=10.0), "b": task("b", every=40.0), "c": task("c", every=20.0, required=False)}


@dataclass
class History:
    """The reference: what happened, and what follows from it, as the README says it."""

    now: float = 0.0
    beat: float = 0.0
    successes: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def verdict(self, probe: str, max_age: float | None) -> str | None:
        silence = self.now - self.beat
        if silence > 30:
            return f"no heartbeat for {format_duration(silence)}; there is one every 10s"
        sick = []
        for output, period in {"a": 10, "b": 40}.items():  # c is optional
            said = f": {self.errors[output]}" if output in self.errors else ""
            if probe == "liveness":
                continue
            if output not in self.successes:
                sick.append(f"{output}: no success yet{said or ', the first refresh has not ended'}")
            elif probe == "readiness" and self.now - self.successes[output] > (max_age or 3 * period):
                ago, limit = self.now - self.successes[output], max_age or 3 * period
                said = f" ago, the limit is {format_duration(limit)}{said}"
                sick.append(f"{output}: the last success was {format_duration(ago)}{said}")
        more = f" (and {len(sick) - 1} more)" if len(sick) > 1 else ""
        return sick[0] + more if sick else None


outputs = st.sampled_from("abc")
events = st.one_of(
    st.tuples(st.just("success"), outputs, st.booleans()),
    st.tuples(st.just("failure"), outputs, st.sampled_from(["no route", "timed out"])),
    st.tuples(st.just("clock"), st.integers(0, 60), st.just(0)),
    st.tuples(st.just("clock"), st.just(0), st.sampled_from([-7200, -2, 2, 3600])),
    st.tuples(st.just("beat"), st.none(), st.none()),
    st.tuples(st.just("reload"), st.sampled_from(["ab", "abc"]), st.none()),
)


def happen(event: tuple[str, object, object], recorder: Recorder, clock: Clock, history: History) -> None:
    match event:
        case "success", str(output), bool(changed):
            recorder.succeeded(TASKS[output], Published(changed, 2, "00"), 10.0)
            history.successes[output] = history.now
            history.errors.pop(output, None)
        case "failure", str(output), str(error):
            recorder.failed(TASKS[output], error, 1.0)
            history.errors[output] = error
        case "clock", int(seconds), int(step):
            clock.go_on(seconds)
            clock.wall += step
            history.now += seconds
        case "beat", _, _:
            recorder.beat()
            history.beat = history.now
        case "reload", str(kept), _:
            recorder.take_over([TASKS[output] for output in kept])


@settings(max_examples=40, deadline=None)
@given(st.lists(events, max_size=25), st.sampled_from([None, 15.0, 100.0]))
def test_health_is_what_a_plain_reading_of_the_history_says(
    happened: list[tuple[str, object, object]], max_age: float | None
) -> None:
    clock, history = Clock(), History()
    recorder = Recorder([], clock)
    recorder.take_over(TASKS.values())
    for event in happened:
        happen(event, recorder, clock, history)
        document = Document("/status.json", recorder.document())
        document.read_at = clock.since_boot
        for probe in ("liveness", "startup", "readiness"):
            assert unhealthy(document, probe, max_age) == history.verdict(probe, max_age), probe
