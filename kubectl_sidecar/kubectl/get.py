"""The command line of `kubectl get` and `kubectl top` as data, by the rules of cobra and pflag."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kubectl_sidecar.task import Stage

# With these it is somebody else who asks, or another API server that is asked.
WHO_AND_WHERE = frozenset(
    "as as-group as-uid as-user-extra client-certificate client-key cluster context kubeconfig password"
    " server token user username".split()
)
# With the same of these, another command asks the same API server for the same objects, as the same user.
_KEPT = WHO_AND_WHERE | frozenset(
    "all-namespaces cache-dir certificate-authority disable-compression field-selector filename"
    " insecure-skip-tls-verify kuberc kustomize match-server-version namespace proxy-url recursive selector"
    " tls-server-name".split()
)


class _Flags(NamedTuple):
    """The flags that kubectl has."""

    # By its letter, the long name of each that has one.
    long_names: dict[str, str]
    # By its long name, whether it never takes the next word for its value.
    is_switch: dict[str, bool]


@functools.cache
def _known() -> _Flags:
    """Return what the help of the pinned kubectl says of `get`, `top` and all commands; a test renews it."""
    with open(f"{os.path.dirname(__file__)}/flags.json", encoding="utf-8") as file:
        return _Flags(**json.load(file))


@dataclass(slots=True)
class Get:
    """A `kubectl get` command, taken apart."""

    # Each by its long name with its last value, which is the one that counts.
    flags: dict[str, str] = field(default_factory=dict)
    # The flags that say whom to ask, as whom and for what, as words.
    kept: list[str] = field(default_factory=list)
    # Whatever is no flag, from the verb on.
    words: list[str] = field(default_factory=list)

    def is_on(self, switch: str) -> bool:
        """Tell whether a boolean flag is given and true."""
        return self.flags.get(switch) in ("1", "t", "T", "true", "TRUE", "True")

    def objects(self) -> list[tuple[str, str | None]]:
        """Return each type with each name that is asked for; None: all that there is of the type.

        Raises ValueError when the words are no types and names.
        """
        words = self.words[1:]
        if not words:
            raise ValueError("expected a type of objects after get")
        pairs: list[tuple[str, str | None]] = [(words[0], name) for name in words[1:]] or [(words[0], None)]
        if "/" in words[0]:
            if any(word.count("/") != 1 for word in words):
                raise ValueError("expected TYPE NAME or TYPE/NAME after get")
            pairs = [(kinds, name) for kinds, _, name in (word.partition("/") for word in words)]
        return [(kind, name) for kinds, name in pairs for kind in kinds.split(",")]


def invoked(argv: Sequence[str]) -> str:
    """Return what a stage runs: its program, and of kubectl the command as well, such as `kubectl get`."""
    program, words = os.path.basename(argv[0]), list(reversed(argv[1:]))
    while program == "kubectl" and words and (word := words.pop()) != "--":
        if not word.startswith("-"):
            return f"{program} {word}"
        flags = list(_flags(word, words))  # it takes their values from the words
        if any(name not in _known().is_switch for name, _ in flags) and "=" not in word:
            break  # is the next word its value, or the command?
    return program


def take_apart(stage: Stage) -> Get:
    """Return the flags and words of a `kubectl get`.

    Raises ValueError, with a text for people, when a flag is not known or lacks its value.
    """
    get, words = Get(), list(reversed(stage.argv[1:]))
    while words and (word := words.pop()) != "--":
        if word == "-" or not word.startswith("-"):
            get.words.append(word)
            continue
        for name, value in _flags(word, words):
            if name not in _known().is_switch:
                shown = "" if stage.expanded else f" --{name}" if len(name) > 1 else f" -{name}"
                raise ValueError(f"what kubectl's flag{shown} means is not known")
            if value is None:
                raise ValueError(f"expected a value after --{name}")
            get.flags[name] = value
            if name in _KEPT:
                get.kept.append(f"--{name}={value}")
    get.words += reversed(words)
    return get


def _flags(word: str, words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the flags in one word, by their long names, and their values.

    A value may be the last of `words`, and is taken away then. None: there is no word left for it.
    """
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        name = name.replace("_", "-")
        yield name, value if equals else _next_value(name, words)
        return
    letters = word[1:]
    while letters:
        name, letters = _known().long_names.get(letters[0], letters[0]), letters[1:]
        if letters.startswith("=") or (letters and not _known().is_switch.get(name)):
            yield name, letters.removeprefix("=")
            return
        yield name, _next_value(name, words)


def _next_value(name: str, words: list[str]) -> str | None:
    if _known().is_switch.get(name):
        return "true"
    return words.pop() if words else None
