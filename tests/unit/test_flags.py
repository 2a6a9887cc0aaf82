"""Flags, and their defaults in the environment, are judged all at once and in whole sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from kubectl_sidecar.errors import Problem
from kubectl_sidecar.flags import HEALTH_FLAGS, RUN_FLAGS, unknown_variables, values


def judged(
    given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], list[str]]:
    problems: list[Problem] = []
    return values(RUN_FLAGS + HEALTH_FLAGS, given or {}, environ or {}, problems), list(map(str, problems))


def test_the_defaults() -> None:
    assert judged() == (
        {
            "file": [],
            "every": None,
            "timeout": 30.0,
            "mode": 0o644,
            "on_missing": "keep",
            "output_dir": ".",
            "max_output": 16 * 2**20,
            "status_file": "",
            "once": False,
            "deadline": 60.0,
            "max_failures": None,
            "concurrency": 2,
            "grace": 2.0,
            "reload": False,
            "log_format": "text",
            "max_age": None,
        },
        [],
    )


GOOD = [
    ("file", "/a:/b", ["/a", "/b"]),
    ("every", "1m", 60.0),
    ("timeout", "500ms", 0.5),
    ("mode", "0640", 0o640),
    ("mode", "640", 0o640),
    ("on_missing", "remove", "remove"),
    ("output_dir", "/data", "/data"),
    ("max_output", "1Gi", 2**30),
    ("max_output", "500k", 500_000),
    ("status_file", "/data/s", "/data/s"),
    ("once", "true", True),
    ("deadline", "1h", 3600.0),
    ("max_failures", "5", 5),
    ("max_failures", "-1", None),
    ("concurrency", "8", 8),
    ("grace", "10s", 10.0),
    ("reload", "false", False),
    ("log_format", "json", "json"),
    ("max_age", "5m", 300.0),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_every_flag_has_a_default_in_the_environment(key: str, text: str, value: object) -> None:
    found, problems = judged(environ={f"KUBECTL_SIDECAR_{key.upper()}": text})
    assert (found[key], problems) == (value, [])


def test_no_flag_is_left_out_above() -> None:
    assert {key for key, _, _ in GOOD} == {flag.key for flag in RUN_FLAGS + HEALTH_FLAGS}


def test_flags_win_over_the_environment() -> None:
    environ = {"KUBECTL_SIDECAR_EVERY": "1m", "KUBECTL_SIDECAR_FILE": "/a", "KUBECTL_SIDECAR_ONCE": "true"}
    found, problems = judged({"every": "2m", "file": ["/b", "/c"]}, environ)
    assert (found["every"], found["file"], found["once"], problems) == (120.0, ["/b", "/c"], True, [])


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("every", "5", "`5` has no unit; write 5s"),
        ("timeout", "0s", "`0s` is no time at all; write a duration such as 30s"),
        ("mode", "0999", "`0999` is no file mode; write three octal digits, such as 0644"),
        ("mode", "4755", "`4755` is no file mode; write three octal digits, such as 0644"),
        ("on_missing", "delete", "`delete` is not one of keep, remove"),
        ("max_output", "16MB", "`16MB` is no size; write one such as 16Mi or 500k"),
        ("max_output", "0", "`0` is no size; write one such as 16Mi or 500k"),
        ("once", "yes", "`yes` is neither true nor false"),
        ("max_failures", "0", "`0` is not a whole number above 0, or -1 for ever"),
        ("concurrency", "two", "`two` is not a whole number above 0"),
        ("log_format", "xml", "`xml` is not one of text, json"),
    ],
)
def test_a_bad_value_says_where_what_and_the_way_out(key: str, text: str, problem: str) -> None:
    flag = "--" + key.replace("_", "-")
    variable = f"KUBECTL_SIDECAR_{key.upper()}"
    assert judged({key: text})[1] == [f"{flag}: {problem}"]
    assert judged(environ={variable: text})[1] == [f"{variable}: {problem}"]


def test_all_bad_values_are_told_at_once() -> None:
    assert judged({"every": "x", "grace": "5"}, {"KUBECTL_SIDECAR_CONCURRENCY": ""})[1] == [
        "--every: `x` is no duration; write one such as 30s, 1m30s or 500ms",
        "KUBECTL_SIDECAR_CONCURRENCY: `` is not a whole number above 0",
        "--grace: `5` has no unit; write 5s",
    ]


def test_an_unknown_variable_is_a_problem_with_a_guess() -> None:
    environ = {
        "KUBECTL_SIDECAR_TIMOUT": "5s",
        "KUBECTL_SIDECAR_XYZ": "",
        "KUBECTL_SIDECAR_EVERY": "5s",
        "KUBECTL_OTHER": "",
        "PATH": "",
    }
    assert list(map(str, unknown_variables(environ))) == [
        "KUBECTL_SIDECAR_TIMOUT: there is no flag of that name; did you mean KUBECTL_SIDECAR_TIMEOUT?",
        "KUBECTL_SIDECAR_XYZ: there is no flag of that name; kubectl-sidecar run --help lists them",
    ]


@pytest.mark.parametrize("service", ["", "DEMO_", "STATUS_FILE_"])
def test_what_kubernetes_injects_for_a_service_of_that_name_is_no_problem(service: str) -> None:
    injected = [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_80_TCP",
        "PORT_80_TCP_PROTO",
        "PORT_80_TCP_PORT",
        "PORT_80_TCP_ADDR",
        "PORT_53_UDP_ADDR",
    ]
    assert not unknown_variables(
        {f"KUBECTL_SIDECAR_{service}{name}": "tcp://10.0.0.1:80" for name in injected}
    )
    assert unknown_variables({"KUBECTL_SIDECAR_PORTS": "1", "KUBECTL_SIDECAR_PORT_80": "1"})
