"""One rule of RBAC, and the text of it that goes into a Role."""

from __future__ import annotations

import json
from typing import NamedTuple

# In place of a group: what is asked for are no objects, but paths of the API server such as /metrics.
PATHS = "/"


class Rule(NamedTuple):
    """What an account may do."""

    # Where; empty: everywhere, which takes a ClusterRole.
    namespace: str
    group: str
    # In the plural, `pods` or `pods/log`; or paths.
    resources: tuple[str, ...]
    # Of the objects; none: whatever they are called.
    names: tuple[str, ...]
    verbs: tuple[str, ...]

    def __str__(self) -> str:
        """Return an item of the `rules:` of a Role, as YAML."""
        parts = {"apiGroups": (self.group,), "resources": self.resources, "resourceNames": self.names}
        if self.group == PATHS:
            parts = {"nonResourceURLs": self.resources}
        parts["verbs"] = self.verbs
        return f"{{{', '.join(f'{key}: {json.dumps(values)}' for key, values in parts.items() if values)}}}"

    def with_place(self) -> str:
        """Return it with the kind of Role that it belongs to, for people."""
        return f"{self} in {f'a Role in namespace {self.namespace}' if self.namespace else 'a ClusterRole'}"
