"""What a line of a watch tells of."""

from __future__ import annotations

import pytest

from kubectl_sidecar.errors import RefreshFailed
from kubectl_sidecar.watch.event import read_event

FIELDS = '"managedFields":[{"fieldsV1":{"f:data":{}},"note":"}],"}],'
OBJECT = (
    '{"apiVersion":"v1","data":{"managedFields":[1],"metadata":"{\\"managedFields\\":[2]}","n":1.10e-5},'
    '"kind":"Thing","metadata":{"creationTimestamp":null,%s"name":"web"},'
    '"spec":{"big":123456789012345678901234567890,"managedFields":[0.00001],"text":"é\\u0000"}}'
)


def told(kind: str, text: str, *, whole: bool = False) -> str | None:
    document = read_event(f'{{"type":"{kind}","object":{text}}}\n'.encode(), with_managed_fields=whole)
    return None if document is None else document.decode()


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_the_object_is_told_to_the_letter_but_for_its_managed_fields(kind: str) -> None:
    assert told(kind, OBJECT % FIELDS) == OBJECT % "" + "\n"
    assert told(kind, OBJECT % "") == OBJECT % "" + "\n"
    assert told(kind, OBJECT % FIELDS, whole=True) == OBJECT % FIELDS + "\n"
    first = '{"metadata":{"managedFields":[],"name":"web"}}'
    assert told(kind, first) == '{"metadata":{"name":"web"}}\n'
    assert told(kind, '{"kind":"Thing"}') == '{"kind":"Thing"}\n'


def test_an_object_that_is_deleted_is_none() -> None:
    assert told("DELETED", OBJECT % FIELDS) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            '{"type":"ERROR","object":{"kind":"Status","message":"too old resource version: 1 (2)"}}\n',
            "the server has ended the watch: too old resource version: 1 (2)",
        ),
        ('{"type":"ADDED","object":{', "kubectl has written a line that is no event of a watch"),
        ("web   1   3s\n", "kubectl has written a line that is no event of a watch"),
        (
            '{"type":"ADDED","object":{"a":%s}}\n' % ("[" * 200_000 + "]" * 200_000),
            "the object is nested too deeply, or a number in it is too long",
        ),
        (
            '{"type":"ADDED","object":{"a":%s}}\n' % ("1" * 5000),
            "the object is nested too deeply, or a number in it is too long",
        ),
    ],
    ids=["error", "cut", "table", "deep", "long"],
)
def test_what_tells_of_no_object_is_a_failure(line: str, reason: str) -> None:
    with pytest.raises(RefreshFailed) as caught:
        read_event(line.encode(), with_managed_fields=False)
    assert str(caught.value) == reason
