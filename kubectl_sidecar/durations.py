"""Durations as Go and Kubernetes write them: `1m30s` to seconds and back."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([^0-9.]*)")
# Go keeps nanoseconds in 64 bits; nothing longer can have been meant.
_LONGEST = 2**63 / 1e9
_LONGEST_TEXT = 64


def parse_duration(text: str, *, zero: bool = False) -> float:
    """Seconds; raise ValueError with a text for people."""
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"expected a duration such as 30s or 1m30s, but {len(text)} characters came")
    if text.startswith("-"):
        raise ValueError(f"{text} is negative; write a duration such as 30s")
    if text == "0":
        seconds = 0.0
    else:
        seconds = sum(_seconds(number, unit, text) for number, unit in _parts(text))
    if seconds > _LONGEST:
        raise ValueError(f"{text} is longer than 290 years; write a duration such as 30s")
    if not seconds and not zero:
        raise ValueError(f"{text} is no time at all; write a duration such as 30s")
    return seconds


def _parts(text: str) -> list[tuple[str, str]]:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text or 'an empty word'} is no duration; write one such as 30s, 1m30s or 500ms")
    return parts


def _seconds(number: str, unit: str, text: str) -> float:
    if not unit:
        raise ValueError(
            f"{text} has no unit; write {text}s"
            if number == text
            else f"{text} ends without a unit; write {text}s or {text}ms"
        )
    if unit not in _UNITS:
        raise ValueError(f"{text} has the unknown unit {unit}; the units are h, m, s and ms, as in 1m30s")
    return float(number) * _UNITS[unit]


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
