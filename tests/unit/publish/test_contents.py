"""One JSON object to names and contents, and what is wrong with any other: nothing of it is ever quoted."""

from __future__ import annotations

import base64
import json
import traceback

import pytest

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.publish.contents import parse_contents

SECRET = "hunter2"


def refusal(text: str | bytes) -> str:
    with pytest.raises(RefreshFailed) as raised:
        parse_contents(text if isinstance(text, bytes) else text.encode())
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    return str(raised.value)


def test_a_string_is_the_content() -> None:
    text = r'{"b": "", "a.json": "{\"x\": 1}\n", "c": "\u00e9\ud83d\ude00\u0000é"}'
    assert parse_contents(text.encode()) == {"b": b"", "a.json": b'{"x": 1}\n', "c": "é😀\0é".encode()}


def test_an_object_with_base64_is_binary_content() -> None:
    contents = {"all": bytes(range(256)), "none": b"", "one": b"\xff"}
    encoded = {name: {"base64": base64.b64encode(each).decode()} for name, each in contents.items()}
    assert parse_contents(json.dumps(encoded).encode()) == contents


def test_an_empty_object_has_no_contents() -> None:
    assert parse_contents(b" {}\n") == {}


@pytest.mark.parametrize("name", ["a", "A-b_c.9", ".hidden", ".a..", "-", "_", "x" * 253])
def test_names_are_those_of_a_config_map(name: str) -> None:
    assert parse_contents(json.dumps({name: ""}).encode()) == {name: b""}


NAME = (
    "entry 2 of the object: its name could not be a ConfigMap's key:"
    " letters, digits, `-`, `_` and `.`, at most 253, not `.`, and no `..` at the beginning"
)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "..a",
        "..data",
        "...",
        "a/b",
        "/a",
        "a b",
        "a\n",
        "ä",
        "a\0",
        "\u0661",
        "a\u202e",
        "x" * 254,
    ],
)
def test_other_names_are_errors(name: str) -> None:
    assert refusal(json.dumps({"a": "", name: SECRET})) == NAME


EXPECTED = "expected one JSON object, name to content, but "
VALUE = 'entry 2 of the object: expected a string or {"base64": "…"}, but '
BASE64 = "entry 2 of the object: what its base64 holds is not base64"
REFUSED = [
    ("", EXPECTED + "this is no JSON: line 1, column 1"),
    ("hunter2", EXPECTED + "this is no JSON: line 1, column 1"),
    ('{"a": "hunter2"\n "hunter2"', EXPECTED + "this is no JSON: line 2, column 2"),
    ('{"a": "hunter2\n"}', EXPECTED + "this is no JSON: line 1, column 15"),
    (r'{"a": "hunter2\x"}', EXPECTED + "this is no JSON: line 1, column 15"),
    ('{"a": "hunter2"}\n{"b": "hunter2"}', EXPECTED + "more came after the first value: line 2, column 1"),
    (b'{"a": "hunter2\xff"}', EXPECTED + "this is not UTF-8, or nested too deeply"),
    ('{"a": "hunter2"}'.encode("utf-16"), EXPECTED + "this is not UTF-8, or nested too deeply"),
    ("[" * 200_000, EXPECTED + "this is not UTF-8, or nested too deeply"),
    ('["hunter2"]', EXPECTED + "an array came"),
    ('[["hunter2", "hunter2"]]', EXPECTED + "an array came"),
    ('"hunter2"', EXPECTED + "a string came"),
    ("12", EXPECTED + "a number came"),
    ("-1.5e3", EXPECTED + "a number came"),
    ("true", EXPECTED + "a boolean came"),
    ("null", EXPECTED + "null came"),
    ('{"a": "", "hunter2": 5}', VALUE + "a number came"),
    ('{"a": "", "hunter2": NaN}', VALUE + "a number came"),
    ('{"a": "", "b": null}', VALUE + "null came"),
    ('{"a": "", "b": false}', VALUE + "a boolean came"),
    ('{"a": "", "b": ["hunter2"]}', VALUE + "an array came"),
    ('{"a": "", "b": [["base64", "AAAA"]]}', VALUE + "an array came"),
    ('{"a": "", "b": {}}', VALUE + "an object came"),
    ('{"a": "", "b": {"base64": 5}}', VALUE + "an object came"),
    ('{"a": "", "b": {"base64": null}}', VALUE + "an object came"),
    ('{"a": "", "b": {"Base64": "AAAA"}}', VALUE + "an object came"),
    ('{"a": "", "b": {"base64": "AAAA", "hunter2": "hunter2"}}', VALUE + "an object came"),
    ('{"a": "", "b": {"base64": "AAAA", "base64": "AAAA"}}', VALUE + "an object came"),
    ('{"a": "hunter2", "a": "hunter2"}', "entry 2 of the object: its name came before"),
    ('{"a": "hunter2", "\\u0061": "hunter2"}', "entry 2 of the object: its name came before"),
    ('{"a": "", "b": {"base64": "hunter2"}}', BASE64),
    ('{"a": "", "b": {"base64": "AAA"}}', BASE64),
    ('{"a": "", "b": {"base64": "AA=A"}}', BASE64),
    ('{"a": "", "b": {"base64": "AAAA="}}', BASE64),
    ('{"a": "", "b": {"base64": "AA==AAAA"}}', BASE64),
    ('{"a": "", "b": {"base64": "AAAA===="}}', BASE64),
    ('{"a": "", "b": {"base64": "AB=="}}', BASE64),
    ('{"a": "", "b": {"base64": "===="}}', BASE64),
    ('{"a": "", "b": {"base64": "AAAA\\n"}}', BASE64),
    ('{"a": "", "b": {"base64": " AAAA"}}', BASE64),
    ('{"a": "", "b": {"base64": "AA-_"}}', BASE64),
    ('{"a": "", "b": {"base64": "äöüß"}}', BASE64),
    (
        r'{"a": "", "b": "hunter2\ud83d"}',
        "entry 2 of the object: its text has half of a surrogate pair, which UTF-8 cannot hold",
    ),
    (r'{"a": "", "b\ude00": "hunter2"}', NAME),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_anything_else_is_an_error_that_tells_nothing_of_it(text: str | bytes, message: str) -> None:
    assert refusal(text) == message


def test_contents_are_never_more_than_their_text() -> None:
    """So that --max-output, which bounds the text, bounds what is written."""
    for content in ("x" * 999, "é" * 999, "😀" * 999, "\n" * 999, "\0" * 999):
        for escaped in (True, False):
            text = json.dumps({"a": content}, ensure_ascii=escaped).encode()
            assert len(parse_contents(text)["a"]) < len(text)
