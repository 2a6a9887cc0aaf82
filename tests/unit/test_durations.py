"""Durations, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_sidecar.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1m30s", 90),
        ("2h", 7200),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("1h0m0.25s", 3600.25),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("5ns", 5e-9),
    ],
)
def test_durations_are_read_as_go_reads_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["0", "0s", "0ms"])
def test_zero_is_read_where_it_means_something(text: str) -> None:
    assert parse_duration(text, zero=True) == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("30", "`30` has no unit; write 30s"),
        ("1m30", "`1m30` has no unit; write 1m30s"),
        ("-5s", "`-5s` is negative; write a duration such as 30s"),
        ("0s", "`0s` is no time at all; write a duration such as 30s"),
        ("0", "`0` is no time at all; write a duration such as 30s"),
        ("5d", "`5d` has the unknown unit `d`; there are h, m, s and ms"),
        ("5S", "`5S` has the unknown unit `S`; there are h, m, s and ms"),
        ("5 s", "`5 s` has the unknown unit ` s`; there are h, m, s and ms"),
        ("", "`` is no duration; write one such as 30s, 1m30s or 500ms"),
        ("s", "`s` is no duration; write one such as 30s, 1m30s or 500ms"),
        ("1..5s", "`1..5s` is no duration; write one such as 30s, 1m30s or 500ms"),
        ("+5s", "`+5s` is no duration; write one such as 30s, 1m30s or 500ms"),
        ("٣s", "`٣s` is no duration; write one such as 30s, 1m30s or 500ms"),
        ("3000000h", "`3000000h` is longer than 290 years; write a duration such as 30s"),
        ("9" * 99 + "h", "`" + "9" * 59 + "…` is no duration; write one such as 30s, 1m30s or 500ms"),
    ],
)
def test_what_is_no_duration_is_refused_with_a_way_out(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_duration(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.5, "500ms"),
        (0.9996, "1s"),
        (30, "30s"),
        (90, "1m30s"),
        (60, "1m"),
        (3600, "1h"),
        (3690.5, "1h1m30.5s"),
        (59.999, "59.999s"),
        (86400, "24h"),
    ],
)
def test_seconds_are_written_briefly(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    written = format_duration(milliseconds / 1000)
    assert parse_duration(written, zero=True) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) > 0
    except ValueError:
        assert True
