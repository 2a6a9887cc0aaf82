"""What the words of a jq command say about how it reads its input. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

# How many words each takes beside itself.
_OPERANDS = {"--arg": 2, "--argjson": 2, "--indent": 1}
_PLAIN = frozenset(
    "--slurp --compact-output --raw-output --raw-output0 --join-output --ascii-output --sort-keys"
    " --color-output --monochrome-output --tab --unbuffered --stream --stream-errors --seq"
    " --exit-status".split()
)
_PLAIN_LETTERS = frozenset("scrjaSCMe")
_RAW = re.compile(r"--raw-input|--rawfile|-[a-zA-Z]*R[a-zA-Z]*")
_SEES_BYTES = re.compile(r"input_line_number|^/(?:dev|proc)/")
_READS_MODULES = re.compile(r"\b(?:import|include)\b")


def reads_json(stages: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first of these stages takes its input as JSON, however that is written."""
    if not stages or os.path.basename(stages[0][0]) != "jq":
        return False
    return not any(_RAW.fullmatch(word) or _SEES_BYTES.search(word) for word in stages[0][1:])


def waits_for_input(argv: Sequence[str]) -> bool:
    """Tell whether a stage is a jq that does nothing that can be seen before its input comes.

    Whatever is not known for certain does something: it reads files, or the clock.
    """
    if os.path.basename(argv[0]) != "jq":
        return False
    words, programs = list(reversed(argv[1:])), []
    while words:
        word = words.pop()
        if word in _OPERANDS:
            del words[-_OPERANDS[word] :]
        elif not word.startswith("-"):
            programs.append(word)
        elif word not in _PLAIN and (word.startswith("--") or set(word[1:]) - _PLAIN_LETTERS):
            return False
    return len(programs) == 1 and not _READS_MODULES.search(programs[0])
