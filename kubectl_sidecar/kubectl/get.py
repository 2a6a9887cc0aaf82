"""The command line of `kubectl get` and `kubectl top` as data, by the rules of cobra and pflag."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kubectl_sidecar.task import Stage

# Of kubectl 1.37: the --help of `kubectl get`, `kubectl top pod` and `kubectl top node`, `kubectl options`.
_SHORT = {
    "A": "all-namespaces",
    "f": "filename",
    "k": "kustomize",
    "L": "label-columns",
    "l": "selector",
    "n": "namespace",
    "o": "output",
    "R": "recursive",
    "s": "server",
    "w": "watch",
}
# With the same of these, another command asks the same API server for the same objects, as the same user.
_KEPT = frozenset(
    "all-namespaces as as-group as-uid as-user-extra cache-dir certificate-authority client-certificate"
    " client-key cluster context disable-compression field-selector filename insecure-skip-tls-verify"
    " kubeconfig kuberc kustomize match-server-version namespace password proxy-url recursive selector server"
    " tls-server-name token user username".split()
)
_KNOWN = _KEPT | frozenset(
    "allow-missing-template-keys chunk-size containers ignore-not-found label-columns log-flush-frequency"
    " no-headers output output-watch-events profile profile-output raw request-timeout server-print"
    " show-capacity show-kind show-labels show-managed-fields show-swap sort-by subresource sum template"
    " use-protocol-buffers v vmodule warnings-as-errors watch watch-only".split()
)
# They never take the next word for their value.
_SWITCHES = frozenset(
    "all-namespaces allow-missing-template-keys containers disable-compression ignore-not-found"
    " insecure-skip-tls-verify match-server-version no-headers output-watch-events recursive server-print"
    " show-capacity show-kind show-labels show-managed-fields show-swap sum use-protocol-buffers"
    " warnings-as-errors watch watch-only".split()
)


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
        if any(name not in _KNOWN for name, _ in flags) and "=" not in word:
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
            if name not in _KNOWN:
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
        name, letters = _SHORT.get(letters[0], letters[0]), letters[1:]
        if letters.startswith("=") or (letters and name not in _SWITCHES):
            yield name, letters.removeprefix("=")
            return
        yield name, _next_value(name, words)


def _next_value(name: str, words: list[str]) -> str | None:
    if name in _SWITCHES:
        return "true"
    return words.pop() if words else None
