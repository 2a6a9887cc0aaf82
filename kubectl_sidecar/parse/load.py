"""Load the tasks from files, stdin and the command line: all of them, or every problem of every source."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

from kubectl_sidecar.errors import InvalidInput, Position, Problem, positions
from kubectl_sidecar.parse.line import OPTIONS, SWITCHES, Findings, LineParser, Output
from kubectl_sidecar.parse.programs import Probe, check_programs
from kubectl_sidecar.task import Settings, Task

DEFAULT_FILE = "/etc/kubectl-sidecar/tasks"
# What a source is called, its text, and else why it cannot be read.
_Source = tuple[str, str, str]


class Loader:
    """Loads the tasks, as often as wanted; stdin is read once."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], probe: Probe) -> None:
        self._settings = settings
        self._environ = environ
        self._probe = probe
        self._stdin = cache(lambda: _source("<stdin>", 0))
        self._loaded: list[_Source] = []
        self._seen: list[_Source] = []

    def load(self) -> tuple[Task, ...]:
        """Read and check everything; raises InvalidInput with every problem of every source."""
        self._loaded = self._seen = self._read()
        return self._parse()

    def look(self) -> tuple[Task, ...] | None:
        """Return the tasks if two looks in a row agree on something new, else None.

        Raises InvalidInput as load() does, but once for each content.
        """
        before, self._seen = self._seen, self._read()
        # What differs between two looks may be half-written: even half a file can be a good one.
        if self._seen != before or self._seen == self._loaded:
            return None
        self._loaded = self._seen
        return self._parse()

    def _read(self) -> list[_Source]:
        files = self._settings.files or (() if self._settings.lines else (DEFAULT_FILE,))
        read = [self._stdin() if path == "-" else _source(path, path) for path in files]
        return read + [(f"LINE {number}", line, "") for number, line in enumerate(self._settings.lines, 1)]

    def _parse(self) -> tuple[Task, ...]:
        settings = self._settings
        findings = Findings(self._environ, settings.allow_unset)
        for name, text, error in self._loaded:
            known = len(findings.problems) + len(findings.tasks)
            if error:
                findings.find(Position(name), f"cannot be read: {error}")
            else:
                self._parse_text(name, text, findings)
            if known == len(findings.problems) + len(findings.tasks):
                findings.find(Position(name), "expected at least one task, but there is none")
        findings.problems += check_programs(findings.stages, self._environ.get("PATH"), self._probe)
        findings.problems += _clashes(findings.outputs, settings.output_dir, settings.status_file)
        if findings.problems:
            names = [name for name, _, _ in self._loaded]
            findings.problems.sort(key=lambda one: (names.index(one.where.file), one.where))
            raise InvalidInput(findings.problems)
        return tuple(findings.tasks)

    def _parse_text(self, name: str, text: str, findings: Findings) -> None:
        # Some options have no flag.
        defaults = {option: getattr(self._settings, option, None) for option in OPTIONS}
        defaults |= dict.fromkeys(SWITCHES, False)
        is_yaml = name.endswith((".yaml", ".yml"))
        if "\r\n" in text and not is_yaml:
            findings.find(Position(name), "the lines end in CR LF; save with LF line ends")
        text = text.replace("\r\n", "\n")
        if is_yaml:
            # PyYAML is 40 ms of every start and 1.5 MB; lines do without.
            from kubectl_sidecar.parse.yamlfile import YamlFile

            YamlFile(text, name, findings, defaults).parse()
            return
        parser = LineParser(text, positions(text, name), findings)
        for line in parser.lines:
            parser.parse(line, defaults, {})


def _source(name: str, file: str | int) -> _Source:
    """Read a file, or the descriptor of stdin."""
    try:
        # Not through sys.stdin, whose lock a thread that waits for input would hold at the program's end.
        with open(file, "rb", buffering=0, closefd=file != 0) as opened:
            # What is not UTF-8 stays recognisable, so that it can be pointed at.
            return name, opened.read().decode("utf-8", "surrogateescape"), ""
    except (OSError, ValueError) as error:
        return name, "", getattr(error, "strerror", None) or str(error)


def _clashes(outputs: Iterable[Output], root: str, status_file: str | None) -> Iterator[Problem]:
    """Yield the outputs that another one, or the status file, needs for itself."""
    taken = [(status_file, Position("--status-file"))] if status_file else []
    taken += [(posixpath.normpath(posixpath.join(root, path)), where) for path, where in outputs]
    above, owner = ["/"], 0  # nothing is in there: it is no part of a path
    # Sorted by their parts, a directory stands before everything in it.
    for parts, number in sorted((path.split("/"), number) for number, (path, _) in enumerate(taken)):
        if parts[: len(above)] != above:
            above, owner = parts, number
            continue
        first, second = (taken[each][1] for each in sorted((owner, number)))
        text = f"this is the output of {first} as well; give it another path"
        if parts != above:
            text = f"one of this output and that of {first} is a directory of the other; move one"
        yield Problem(second, text)
