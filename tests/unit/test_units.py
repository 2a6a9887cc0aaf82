"""Durations, sizes, modes, counts and addresses, read and written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_sidecar.errors import quoted
from kubectl_sidecar.units import (
    format_address,
    format_duration,
    parse_address,
    parse_count,
    parse_duration,
    parse_mode,
    parse_size,
)

ONE_SUCH_AS = "write one such as 30s, 1m30s or 500ms"


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


@pytest.mark.parametrize(
    ("read", "text", "error"),
    [
        (parse_duration, "30", "`30` has no unit; write 30s"),
        (parse_duration, "0", "`0` has no unit; write 0s"),
        (parse_duration, "1m30", f"`1m30` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "-5s", f"`-5s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "0s", "`0s` is no time at all; write a duration such as 30s"),
        (parse_duration, "5d", f"`5d` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "5S", f"`5S` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "5 s", f"`5 s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "5s\n", f"`5s␊` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "", f"`` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "s", f"`s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "1..5s", f"`1..5s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "+5s", f"`+5s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "٣s", f"`٣s` is no duration; {ONE_SUCH_AS}"),
        (parse_duration, "3000000h", "`3000000h` is longer than 100 years; write a duration such as 30s"),
        (parse_duration, "9" * 99 + "h", f"`{'9' * 59}…` is no duration; {ONE_SUCH_AS}"),
        (parse_size, "0", "`0` is no size; write one such as 16Mi or 500k"),
        (parse_size, "16 Mi", "`16 Mi` is no size; write one such as 16Mi or 500k"),
        (parse_size, "1.5Gi", "`1.5Gi` is no size; write one such as 16Mi or 500k"),
        (parse_size, "9" * 5000, f"`{'9' * 59}…` is no size; write one such as 16Mi or 500k"),
        (parse_mode, "888", "`888` is no file mode; write three octal digits such as 0644"),
        (parse_mode, "64", "`64` is no file mode; write three octal digits such as 0644"),
        (parse_mode, "1777", "`1777` is no file mode; write three octal digits such as 0644"),
        (parse_mode, "u+r", "`u+r` is no file mode; write three octal digits such as 0644"),
        (parse_count, "0", "`0` is not a whole number above 0"),
        (parse_count, "-1", "`-1` is not a whole number above 0"),
        (parse_count, "2.5", "`2.5` is not a whole number above 0"),
        (parse_count, "²", "`²` is not a whole number above 0"),
    ],
)
def test_what_is_none_is_refused_with_a_way_out(read: Callable[[str], object], text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read(text)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500k", 500_000), ("16Mi", 16 << 20), ("2M", 2_000_000), ("1Gi", 1 << 30), ("3Ki", 3072)],
)
def test_sizes_are_read_as_kubernetes_reads_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["640", "0640", "00640", "0o640"])
def test_a_mode_is_three_octal_digits_however_they_are_marked(text: str) -> None:
    assert parse_mode(text) == 0o640


def test_counts_are_read() -> None:
    assert (parse_count("1"), parse_count("007")) == (1, 7)


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


@given(st.integers(1, 10**10))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    written = format_duration(milliseconds / 1000)
    assert parse_duration(written) == pytest.approx(milliseconds / 1000, abs=1e-6)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) > 0
    except ValueError:
        assert True


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::]:8080", ("::", 8080)),
        ("[fe80::1]:1", ("fe80::1", 1)),
        (":65535", ("", 65535)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),  # noqa: S104
    ],
)
def test_addresses_are_read_and_written(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert format_address(*address) == text


BAD_ADDRESSES = """
8080 : 127.0.0.1 127.0.0.1: :65536 :-1 :http :\u0668 ::1:80 [::1]80 []:80 [127.0.0.1]:80 127.1:80 1.2.3.400:80
[::g]:80 [::1%lo]:80 host:80 http://:80
"""


@pytest.mark.parametrize("text", ["", ":80\n", *BAD_ADDRESSES.split()])
def test_no_other_text_is_an_address(text: str) -> None:
    with pytest.raises(ValueError, match=" is no IP address and port; write ones such as ") as refused:
        parse_address(text)
    assert str(refused.value) == (
        f"{quoted(text)} is no IP address and port; "
        "write ones such as 127.0.0.1:8080, [::1]:8080, or :8080 for all addresses"
    )
