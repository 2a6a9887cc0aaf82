"""Modules that are left out of an import, and are what they were afterwards."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import kubectl_sidecar.commands, kubectl_sidecar.publish, kubectl_sidecar.retry, kubectl_sidecar.taskfile
for name in ("asyncio", "importlib.metadata", "_hashlib", "ssl"):
    print(name, name in sys.modules)

import asyncio, hashlib, hmac, importlib.metadata, ssl

async def seven():
    await asyncio.sleep(0)
    return 7

print(asyncio.run(seven()), importlib.metadata.version("sh"), asyncio.Queue.__module__)
print(hashlib.sha256(b"").hexdigest()[:8], hmac.new(b"", b"", "sha256").hexdigest()[:8])
import _hashlib
from importlib import metadata
print(metadata is importlib.metadata, _hashlib.openssl_sha256(b"").hexdigest()[:8])
"""


def test_what_is_left_out_is_not_loaded_and_can_be_later() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "asyncio False",
        "importlib.metadata False",
        "_hashlib False",
        "ssl False",
        "7 2.4.0 asyncio.queues",
        "e3b0c442 b613679a",
        "True e3b0c442",
    ]


def test_what_is_loaded_already_stays() -> None:
    script = (
        "import asyncio, sys, kubectl_sidecar.children; print(sys.modules['asyncio'] is asyncio, asyncio.run)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True <function run ")
