"""Every expected failure, and its text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SidecarError(Exception):
    """A failure that the program expects; its text is for people."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the input: where, what was expected, what came and, under it, the place itself."""

    where: str
    text: str
    line: str = ""
    column: int = 0
    """1-based, counted in characters of `line`; 0 when there is no place to point at."""

    def __str__(self) -> str:
        message = f"{self.where}: {self.text}"
        if not self.column:
            return message
        # Tabs are kept in the padding, so that the caret stands under its character at any tab width.
        padding = "".join("\t" if character == "\t" else " " for character in self.line[: self.column - 1])
        return f"{message}\n    {self.line}\n    {padding}^"


class InvalidInput(SidecarError):
    """Bad flags or tasks: every problem of every input, reported in one go (exit status 2)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RefreshFailed(SidecarError):
    """One refresh did not fully succeed; the output stays as it was."""


class NotFound(RefreshFailed):
    """kubectl says that the object does not exist, which @on-missing may call fine."""
