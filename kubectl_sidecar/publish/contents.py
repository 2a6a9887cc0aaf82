"""One JSON object, name to content, to the files of a directory; no error tells anything of what came."""

from __future__ import annotations

import binascii
import contextlib
import json
import re

from kubectl_sidecar.errors import RefreshFailed

# The keys of a ConfigMap.
_NAME = re.compile(r"(?!\.\.)(?!\.\Z)[-._a-zA-Z0-9]{1,253}")
_EXPECTED = "expected one JSON object, name to content"
_KINDS = {tuple: "an object", list: "an array", str: "a string", bool: "a boolean"}
_KINDS |= {int: "a number", float: "a number"}


def parse_contents(text: bytes) -> dict[str, bytes]:
    """Return names, in their order, and contents, fewer bytes than the text; raises RefreshFailed."""
    try:
        # An object becomes the tuple of its pairs, so that a name that comes twice is seen.
        document = json.loads(text.decode(), object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        came = "more came after the first value" if error.msg == "Extra data" else "this is no JSON"
        raise RefreshFailed(f"{_EXPECTED}, but {came}: line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):
        raise RefreshFailed(f"{_EXPECTED}, but this is not UTF-8, or nested too deeply") from None
    if not isinstance(document, tuple):
        raise RefreshFailed(f"{_EXPECTED}, but {_kind(document)} came")
    contents: dict[str, bytes] = {}
    for number, (name, value) in enumerate(document, 1):
        try:
            if not _NAME.fullmatch(name):
                rule = "letters, digits, `-`, `_` and `.`, at most 253, not `.`, and no `..` at the beginning"
                raise ValueError(f"its name could not be a ConfigMap's key: {rule}")
            if name in contents:
                raise ValueError("its name came before")
            contents[name] = _content(value)
        except ValueError as error:
            # Without the name: to_entries the wrong way round would put a Secret's value there.
            raise RefreshFailed(f"entry {number} of the object: {error}") from None
    return dict(sorted(contents.items()))


def _content(value: object) -> bytes:
    """Return the bytes of a string or of {"base64": …}; raises ValueError."""
    match value:
        case str():
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise ValueError("its text has half of a surrogate pair, which UTF-8 cannot hold") from None
        case tuple((("base64", str(encoded)),)):
            # What is strict depends on the version of Python: there must be a way back.
            with contextlib.suppress(ValueError):
                decoded = binascii.a2b_base64(encoded)
                if binascii.b2a_base64(decoded, newline=False).decode() == encoded:
                    return decoded
            raise ValueError("what its base64 holds is not base64")
    raise ValueError(f'expected a string or {{"base64": "…"}}, but {_kind(value)} came')


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")
