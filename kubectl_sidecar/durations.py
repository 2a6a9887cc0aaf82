"""Durations as Go and Kubernetes write them: `1m30s` to seconds and back."""

from __future__ import annotations

import re

from kubectl_sidecar.places import quoted

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)")
# Go keeps nanoseconds in 64 bits; nothing longer can have been meant.
_LONGEST = 2**63 / 1e9
_MOST_CHARACTERS = 64


def parse_duration(text: str, *, zero: bool = False) -> float:
    """Seconds; raise ValueError with a text for people."""
    shown = quoted(text)
    parts = _PART.findall(text[:_MOST_CHARACTERS])
    if text[:1] == "-" and "".join(map("".join, parts)) == text[1:]:
        raise ValueError(f"{shown} is negative; write a duration such as 30s")
    if "".join(map("".join, parts)) != text or not all(unit for _, unit in parts[:-1]) or not text:
        raise ValueError(f"{shown} is no duration; write one such as 30s, 1m30s or 500ms")
    seconds = sum(_seconds(number, unit, text) for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"{shown} is longer than 290 years; write a duration such as 30s")
    if not seconds and not zero:
        raise ValueError(f"{shown} is no time at all; write a duration such as 30s")
    return seconds


def _seconds(number: str, unit: str, text: str) -> float:
    if not unit and not (text == "0" == number):
        raise ValueError(f"{quoted(text)} has no unit; write {text}s")
    if unit and unit not in _UNITS:
        raise ValueError(f"{quoted(text)} has the unknown unit {quoted(unit)}; there are h, m, s and ms")
    return float(number) * _UNITS[unit or "s"]


def format_duration(seconds: float) -> str:
    """`1h`, `1m30s`, `2.5s`, `500ms`: to the millisecond, and `parse_duration` reads it back."""
    milliseconds = round(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(minutes)
    if milliseconds or not parts:
        parts.append(f"{milliseconds / 1000:g}s")
    return "".join(parts)
