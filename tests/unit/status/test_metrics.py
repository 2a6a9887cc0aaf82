"""What Prometheus reads: the tasks' states, in its own conventions, and nothing of tasks that are gone."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kubectl_sidecar.publish.file import Published
from kubectl_sidecar.status.metrics import Metrics
from kubectl_sidecar.status.recorder import BUCKETS, Recorder
from kubectl_sidecar.task import Hook
from tests.unit.status.tasks import Clock, moved, task

A, B = task("a"), task('b"\\', every=600.0, watch=True, required=False)
VERSIONS = {"kubectl-sidecar": "1.2.3", "kubectl": "1.37.1", "jq": "", "python": "3.13.0"}
EXAMPLE = Path("examples/metrics.yaml")


@pytest.fixture
def recorder(clock: Clock) -> Recorder:
    recorder = Recorder([], clock)
    recorder.take_over([A, B])
    return recorder


def samples(
    recorder: Recorder, watches: Mapping[str, bool] | None = None
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each sample, by its name and labels."""
    text = Metrics(recorder, lambda: watches or {}, VERSIONS).render().decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(values) == len(found)
    return values


def of_task(recorder: Recorder, output: str, watches: Mapping[str, bool] | None = None) -> dict[str, float]:
    """The samples of a task, without those of its histogram: `attempts_total success` is one's name."""
    found = {}
    for (name, labels), value in samples(recorder, watches).items():
        told = dict(labels)
        if told.pop("task", None) == output and "duration" not in name:
            found[" ".join([name.removeprefix("kubectl_sidecar_task_"), *told.values()])] = value
    return found


def test_all_of_a_task(recorder: Recorder, clock: Clock) -> None:
    clock.go_on(1.5)
    recorder.succeeded(A, Published(True, 2, "aa"), 30.0)
    clock.go_on(10)
    recorder.succeeded(A, Published(False, 2, "aa"), 30.0)
    recorder.failed(A, "no route to host", 1.0)
    clock.go_on(5)
    recorder.failed(A, "no route to host", 1.0)
    assert of_task(recorder, "a") == {
        "last_attempt_timestamp_seconds": 1_800_000_016.5,
        "last_success_timestamp_seconds": 1_800_000_011.5,
        "last_change_timestamp_seconds": 1_800_000_001.5,
        "period_seconds": 30.0,
        "required": 1.0,
        "consecutive_failures": 2.0,
        "output_bytes": 2.0,
        "attempts_total success": 2.0,
        "attempts_total failure": 2.0,
    }


def test_a_task_that_has_not_begun_has_all_that_an_alert_may_ask_for(recorder: Recorder) -> None:
    assert of_task(recorder, 'b"\\', {'b"\\': False}) == {
        "last_attempt_timestamp_seconds": 0.0,
        "last_success_timestamp_seconds": 0.0,
        "last_change_timestamp_seconds": 0.0,
        "period_seconds": 600.0,
        "required": 0.0,
        "consecutive_failures": 0.0,
        "watch_connected": 0.0,
        "attempts_total success": 0.0,
        "attempts_total failure": 0.0,
    }
    assert of_task(recorder, 'b"\\', {'b"\\': True})["watch_connected"] == 1.0


def test_a_hook_has_its_own(recorder: Recorder, clock: Clock) -> None:
    hooked = task("h", hook=Hook(url="http://localhost/"))
    recorder.take_over([hooked])

    def of_hook() -> dict[str, float]:
        found = of_task(recorder, "h")
        return {name.removeprefix("hook_"): found[name] for name in found if name.startswith("hook_")}

    never = {"attempts_total success": 0.0, "attempts_total failure": 0.0, "consecutive_failures": 0.0}
    assert of_hook() == {**never, "last_success_timestamp_seconds": 0.0}
    recorder.hook_succeeded(hooked)
    clock.go_on(1)
    recorder.hook_failed(hooked, "answered with 503", 1.0)
    assert of_hook() == {
        "attempts_total success": 1.0,
        "attempts_total failure": 1.0,
        "consecutive_failures": 1.0,
        "last_success_timestamp_seconds": 1_800_000_000.0,
    }
    assert of_task(recorder, "h")["attempts_total failure"] == 0.0


def test_times_follow_the_clock_when_it_is_set(recorder: Recorder, clock: Clock) -> None:
    recorder.succeeded(A, Published(True, 2, "aa"), 30.0)
    clock.wall += 3600
    assert of_task(recorder, "a")["last_success_timestamp_seconds"] == 1_800_003_600.0


def test_durations_are_counted_up_to_each_bound(recorder: Recorder) -> None:
    for seconds in (0.004, 0.005, 0.006, 0.3, 31.0):
        recorder.took(A, seconds)
    name = "kubectl_sidecar_task_attempt_duration_seconds"
    found = samples(recorder)
    counts = [
        found[f"{name}_bucket", frozenset({"task": "a", "le": bound}.items())]
        for bound in [*map(str, BUCKETS), "+Inf"]
    ]
    assert counts == [2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 5]
    labels = frozenset({"task": "a"}.items())
    assert found[f"{name}_count", labels] == 5
    assert math.isclose(found[f"{name}_sum", labels], 31.315)


def test_tasks_that_are_gone_have_no_samples_and_unchanged_ones_keep_theirs(recorder: Recorder) -> None:
    recorder.succeeded(A, Published(True, 2, "aa"), 30.0)
    recorder.took(A, 0.1)
    changed = task("b", every=1.0)
    recorder.take_over([moved(A), changed])
    found = samples(recorder)
    assert {value for _, labels in found for name, value in labels if name == "task"} == {"a", "b"}
    assert of_task(recorder, "a")["attempts_total success"] == 1.0
    assert found["kubectl_sidecar_task_attempt_duration_seconds_count", frozenset({("task", "a")})] == 1.0
    # What comes late of one that was taken away is nobody's.
    recorder.failed(B, "stopped", None)
    recorder.took(B, 1.0)
    assert samples(recorder).keys() == found.keys()


def test_versions_and_a_refused_reload(recorder: Recorder) -> None:
    labels = {"version": "1.2.3", "kubectl": "1.37.1", "jq": "", "python": "3.13.0"}
    found = samples(recorder)
    assert found["kubectl_sidecar_build_info", frozenset(labels.items())] == 1.0
    assert found["kubectl_sidecar_last_reload_successful", frozenset()] == 1.0
    recorder.refused("tasks:1:1: no output")
    assert samples(recorder)["kubectl_sidecar_last_reload_successful", frozenset()] == 0.0


def test_names_and_units_are_as_promtool_wants_them(recorder: Recorder) -> None:
    text = Metrics(recorder, dict, VERSIONS).render().decode()
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert re.fullmatch(r"(kubectl_sidecar|process)_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert not set(family.name.split("_")) & {
            "total",
            "count",
            "sum",
            "milliseconds",
            "kilobytes",
            "gauge",
        }
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert set(sample.labels) <= {"task", "result", "le", *labels_of_build()}
    assert "process_resident_memory_bytes" in names


def test_every_metric_is_documented_and_no_other(recorder: Recorder) -> None:
    recorder.take_over([task("h", hook=Hook(url="http://localhost/"))])
    recorder.succeeded(task("h", hook=Hook(url="http://localhost/")), Published(True, 2, "aa"), 30.0)
    names = {name for name, _ in samples(recorder, {"h": True})}
    there = {
        re.sub("_(bucket|count|sum)$", "", name) for name in names if name.startswith("kubectl_sidecar_")
    }
    tables = re.split(r"^\| metric", Path("docs/hooks-and-metrics.md").read_text(), flags=re.MULTILINE)[1:]
    rows = [row for table in tables for row in table.split("\n\n")[0].splitlines()[2:]]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    prefixed = {
        name if "process_" in name or "kubectl_" in name else f"kubectl_sidecar_task_{name}"
        for name in listed
    }
    assert {name for name in prefixed if not name.startswith("process_")} == there
    assert {name for name in prefixed if name.startswith("process_")} <= names


def labels_of_build() -> Iterable[str]:
    return ("version", *VERSIONS)


def test_the_example_asks_for_metrics_that_there_are(recorder: Recorder) -> None:
    documents = list(yaml.safe_load_all(EXAMPLE.read_text()))
    rules = next(document for document in documents if document["kind"] == "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in alerts] == [
        "KubectlSidecarStale",
        "KubectlSidecarFailing",
        "KubectlSidecarNeverStarted",
    ]
    there = {name for name, _ in samples(recorder)}
    for rule in alerts:
        asked = set(re.findall(r"\bkubectl_sidecar_\w+", rule["expr"]))
        assert asked
        assert asked <= there


IMPORT = """
import sys
{before}
import kubectl_sidecar.status.metrics
{after}
"""


def run(before: str = "", after: str = "") -> str:
    script = IMPORT.format(before=before, after=after)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_what_the_library_does_not_need_is_not_loaded_and_can_be_loaded_later() -> None:
    heavy = "'ssl', 'http.server', 'http.client', 'email', 'urllib.request', 'wsgiref'"
    after = f"print(*{{{heavy}}} & sys.modules.keys())\n"
    after += "import ssl, http.server, urllib.request; print(ssl.SSLContext, http.server.HTTPServer)"
    assert run(after=after) == "\n<class 'ssl.SSLContext'> <class 'http.server.HTTPServer'>\n"


@pytest.mark.slow
def test_it_works_without_openssl_as_in_the_image() -> None:
    before = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("ssl", "_ssl", "wsgiref"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""
    assert run(before, "print(kubectl_sidecar.status.metrics.Metrics.__name__)") == "Metrics\n"
