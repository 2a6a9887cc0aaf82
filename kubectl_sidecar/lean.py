"""Import a library without the parts of it that are never used and cost memory in every Pod."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def without(parts: Mapping[str, Mapping[str, Any] | None]) -> Iterator[None]:
    """Replace modules for the duration of the block: by one with these contents, or by an ImportError (None).

    What is imported already stays, and afterwards each of them can be imported as ever.
    """
    replaced = [name for name in parts if name not in sys.modules]
    for name in replaced:
        contents = parts[name]
        module = None if contents is None else types.ModuleType(name)
        if module is not None:
            vars(module).update(contents or {})
        sys.modules[name] = module  # type: ignore[assignment] # None is how the import system marks "cannot be"
    try:
        yield
    finally:
        for name in replaced:
            del sys.modules[name]
