"""Flags, and their defaults in the environment, become Settings, or are refused in whole sentences."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kubectl_sidecar.cli import flags
from kubectl_sidecar.errors import InvalidInput
from kubectl_sidecar.task import Settings

GROUPS = {"a": flags.OUTPUT_FLAGS, "b": flags.PROCESS_FLAGS, "": flags.CHECK_FLAGS}
ALL = (*flags.TASK_FLAGS, *flags.OUTPUT_FLAGS, *flags.PROCESS_FLAGS, *flags.CHECK_FLAGS)


def settings(*words: str, environ: Mapping[str, str] | None = None) -> Settings:
    return flags.settings(flags.parser("run", ""), words, environ or {}, GROUPS)


def refusal(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(InvalidInput) as error:
        settings(environ=environ)
    return str(error.value).split("\n")


def test_the_defaults_are_those_of_settings() -> None:
    assert settings() == Settings()


GOOD = [
    ("file", "/a:/b", "files", ("/a", "/b")),
    ("every", "1m", "every", 60.0),
    ("timeout", "500ms", "timeout", 0.5),
    ("mode", "0640", "mode", 0o640),
    ("mode", "0o640", "mode", 0o640),
    ("on-missing", "remove", "on_missing", "remove"),
    ("output-dir", "data", "output_dir", "data"),
    ("max-output", "1Gi", "max_output", 2**30),
    ("max-output", "500k", "max_output", 500_000),
    ("status-file", "/data/s", "status_file", "/data/s"),
    ("once", "true", "once", True),
    ("deadline", "1h", "deadline", 3600.0),
    ("max-failures", "5", "max_failures", 5),
    ("max-failures", "-1", "max_failures", None),
    ("concurrency", "8", "concurrency", 8),
    ("grace", "10s", "grace", 10.0),
    ("reload", "false", "reload", False),
    ("http", "127.0.0.1:8080", "http", ("127.0.0.1", 8080)),
    ("http", "[::1]:8080", "http", ("::1", 8080)),
    ("http", ":8080", "http", ("", 8080)),
    ("log-format", "json", "log_format", "json"),
    ("allow-unset", "true", "allow_unset", True),
    ("live", "true", "live", True),
    ("as", "shop/app", "as_account", ("shop", "app")),
]


def variable(name: str) -> str:
    return "KUBECTL_SIDECAR_" + name.upper().replace("-", "_")


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_every_flag_has_a_default_in_the_environment(name: str, text: str, field: str, value: object) -> None:
    assert getattr(settings(environ={variable(name): text}), field) == value


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_every_flag_is_one_on_the_command_line(name: str, text: str, field: str, value: object) -> None:
    if text in ("true", "false"):
        assert getattr(settings(f"--{name}"), field) is True
    elif name == "file":
        assert settings("-f", "/a", "--file=/b").files == value
    else:
        assert getattr(settings(f"--{name}={text}"), field) == value
        assert getattr(settings(f"--{name}", text), field) == value


def test_no_flag_is_left_out_above() -> None:
    assert {name for name, _, _, _ in GOOD} == {flag.name for flag in ALL}


def test_flags_win_over_the_environment() -> None:
    environ = {"KUBECTL_SIDECAR_EVERY": "1m", "KUBECTL_SIDECAR_FILE": "/a", "KUBECTL_SIDECAR_ONCE": "true"}
    found = settings("--every=2m", "-f", "/b", "-f", "/c", "x > y", environ=environ)
    assert (found.every, found.files, found.lines, found.once) == (120.0, ("/b", "/c"), ("x > y",), True)


def test_what_a_command_has_no_flag_for_it_does_not_take_from_the_environment() -> None:
    environ = {"KUBECTL_SIDECAR_OUTPUT_DIR": "/data"}
    assert flags.settings(flags.parser("check", ""), [], environ, {"": flags.CHECK_FLAGS}) == Settings()


def test_the_path_of_the_status_file_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert settings("--status-file=run/../s").status_file == "/s"
    assert settings("--status-file=").status_file is None


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert settings(environ={flag.variable: "" for flag in ALL}) == Settings()


ADDRESSES = "127.0.0.1:8080, [::1]:8080, or :8080 for all addresses"
BAD = [
    ("every", "5", "`5` has no unit; write 5s"),
    ("timeout", "0s", "`0s` is no time at all; write a duration such as 30s"),
    ("mode", "0999", "`0999` is no file mode; write three octal digits such as 0644"),
    ("mode", "4755", "`4755` is no file mode; write three octal digits such as 0644"),
    ("on-missing", "delete", "`delete` is not one of keep, remove"),
    ("max-output", "16MB", "`16MB` is no size; write one such as 16Mi or 500k"),
    ("max-output", "0", "`0` is no size; write one such as 16Mi or 500k"),
    ("max-failures", "0", "`0` is not a whole number above 0, or -1 for ever"),
    ("concurrency", "two", "`two` is not a whole number above 0"),
    (
        "http",
        "localhost:8080",
        f"`localhost:8080` is no IP address and port; write ones such as {ADDRESSES}",
    ),
    ("log-format", "xml", "`xml` is not one of text, json"),
]


@pytest.mark.parametrize(
    ("name", "text", "problem"), [*BAD, ("once", "yes", "`yes` is neither true nor false")]
)
def test_a_bad_variable_is_named(name: str, text: str, problem: str) -> None:
    assert refusal({variable(name): text}) == [f"{variable(name)}: {problem}"]


@pytest.mark.parametrize(("name", "text", "problem"), BAD)
def test_a_bad_flag_is_named(name: str, text: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        settings(f"--{name}", text)
    assert refused.value.code == 2
    assert capsys.readouterr().err.endswith(f"kubectl-sidecar run: error: argument --{name}: {problem}\n")


def test_all_bad_and_unknown_variables_are_told_at_once() -> None:
    environ = {
        "KUBECTL_SIDECAR_TIMOUT": "5s",
        "KUBECTL_SIDECAR_XYZ": "",
        "KUBECTL_SIDECAR_EVERY": "5s",
        "KUBECTL_SIDECAR_GRACE": "-1s",
        "KUBECTL_SIDECAR_MAX_AGE": "5",
        "KUBECTL_OTHER": "",
        "PATH": "",
    }
    assert refusal(environ) == [
        "KUBECTL_SIDECAR_GRACE: `-1s` is no duration; write one such as 30s, 1m30s or 500ms",
        "KUBECTL_SIDECAR_MAX_AGE: `5` has no unit; write 5s",
        "KUBECTL_SIDECAR_TIMOUT: there is no flag of that name; did you mean KUBECTL_SIDECAR_TIMEOUT?",
        "KUBECTL_SIDECAR_XYZ: there is no flag of that name; kubectl-sidecar run --help lists them",
    ]


def test_what_a_hook_gets_is_no_problem_for_a_kubectl_sidecar_in_it() -> None:
    assert settings(environ={"KUBECTL_SIDECAR_OUTPUT": "/data/a"}) == Settings()
    assert len(refusal({"KUBECTL_SIDECAR_OUTPUTS": "/data/a"})) == 1


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
    environ = {f"KUBECTL_SIDECAR_{service}{name}": "tcp://10.0.0.1:80" for name in injected}
    assert settings(environ=environ) == Settings()
    assert len(refusal({"KUBECTL_SIDECAR_PORTS": "1", "KUBECTL_SIDECAR_PORT_80": "1"})) == 2
