"""Durations, sizes, modes, counts and addresses: from the text that people write to values, and back."""

from __future__ import annotations

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Patterns are compiled when they are used: probes import this file, and most need none.
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)([nuµμm]?s|m|h)"
# Nothing longer can have been meant; threading waits for 292 years at most.
_LONGEST = 100 * 365 * 86400.0
_MOST_CHARACTERS = 64
_SIZE = r"([0-9]{1,18})(|k|Ki|M|Mi|G|Gi)"
_FACTORS = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}
_MODE = r"0*(?:0o)?([0-7]{3})"


def _wrong(text: str, what: str) -> ValueError:
    from kubectl_sidecar.errors import quoted  # probes read a duration, and pay for whatever is imported

    return ValueError(f"{quoted(text)} {what}")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration as Go and Kubernetes write it, above 0; raises ValueError."""
    short = len(text) <= _MOST_CHARACTERS
    if short and re.fullmatch(r"[0-9]*\.?[0-9]+", text):
        raise _wrong(text, f"has no unit; write {text}s")
    if not short or not re.fullmatch(f"({_PART})+", text):
        raise _wrong(text, "is no duration; write one such as 30s, 1m30s or 500ms")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
    if seconds > _LONGEST:
        raise _wrong(text, "is longer than 100 years; write a duration such as 30s")
    if not seconds:
        raise _wrong(text, "is no time at all; write a duration such as 30s")
    return seconds


def format_duration(seconds: float) -> str:
    """Return `1h`, `1m30s`, `2.5s`, `500ms`: to the millisecond, and `parse_duration` reads it back."""
    milliseconds = round(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(minutes)
    if milliseconds or not parts:
        parts.append(f"{milliseconds / 1000:g}s")
    return "".join(parts)


def parse_size(text: str) -> int:
    """Return the bytes of a Kubernetes quantity such as 16Mi, above 0; raises ValueError."""
    if not (match := re.fullmatch(_SIZE, text)) or not int(match[1]):
        raise _wrong(text, "is no size; write one such as 16Mi or 500k")
    return int(match[1]) * _FACTORS[match[2]]


def parse_mode(text: str) -> int:
    """Return the permission bits of 640, 0640, 00640 or 0o640; raises ValueError."""
    if not (match := re.fullmatch(_MODE, text)):
        raise _wrong(text, "is no file mode; write three octal digits such as 0644")
    return int(match[1], 8)


def parse_address(text: str) -> tuple[str, int]:
    """Return the IP address, or none for all of them, and the port of 127.0.0.1:8080, [::1]:8080 or :8080.

    Raises ValueError.
    """
    import socket  # for this flag only

    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]*)):([0-9]{1,5})", text)
    try:
        if match is None or int(match[3]) > 65535:
            raise OSError
        if match[1] or match[2]:
            socket.inet_pton(socket.AF_INET6 if match[1] else socket.AF_INET, match[1] or match[2])
    except OSError:
        ways = "127.0.0.1:8080, [::1]:8080, or :8080 for all addresses"
        raise _wrong(text, f"is no IP address and port; write ones such as {ways}") from None
    return match[1] or match[2], int(match[3])


def format_address(address: str, port: int) -> str:
    """Return an address and a port as `parse_address` reads them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def parse_count(text: str) -> int:
    """Return a whole number above 0; raises ValueError."""
    if not text.isascii() or not text.isdigit() or not int(text[:18]):
        raise _wrong(text, "is not a whole number above 0")
    return int(text[:18])
