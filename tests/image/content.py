"""What an image holds, file by file, so that two builds of it can be compared."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

Content = dict[str, str]


def content(archive: Path) -> Content:
    """Everything in a docker-archive: what it is, as `layer 2: etc/passwd`, and all that is stored of it."""
    with tarfile.open(archive) as outer:
        manifest = json.load(_open(outer, "manifest.json"))[0]
        found = dict(_configuration(_open(outer, manifest["Config"])))
        for number, name in enumerate(manifest["Layers"], 1):
            with tarfile.open(fileobj=_open(outer, name)) as layer:
                found |= {f"layer {number}: {what}": stored for what, stored in _files(layer)}
    return found


def differences(one: Content, other: Content) -> list[str]:
    """What is not the same in both, one line each."""
    return [
        f"{what}: {one.get(what, 'missing')} | {other.get(what, 'missing')}"
        for what in sorted(one | other)
        if one.get(what) != other.get(what)
    ]


def _configuration(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    found = json.load(file)
    for number, step in enumerate(found.pop("history"), 1):
        yield f"step {number}", json.dumps(step)
    for name, value in found.items():
        yield f"configuration: {name}", json.dumps(value)


def _files(layer: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    names = []
    for member in layer:
        names.append(member.name)
        data = layer.extractfile(member) if member.isreg() else None
        stored = {
            "type": member.type.decode(),
            "mode": oct(member.mode),
            "owner": f"{member.uid}:{member.gid} {member.uname}:{member.gname}",
            "time": member.mtime,
            "size": member.size,
            "link": member.linkname,
            "headers": member.pax_headers,
            "sha256": hashlib.sha256(data.read()).hexdigest() if data else "",
        }
        yield member.name, json.dumps(stored)
    yield "the order of its files", hashlib.sha256("\n".join(names).encode()).hexdigest()


def _open(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    file = tar.extractfile(name)
    assert file is not None, f"{name} is no file"
    return file
