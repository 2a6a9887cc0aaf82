"""Read tasks, and what holds for all of them, from a YAML file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

import yaml

from kubectl_sidecar.errors import positions, quoted, visible
from kubectl_sidecar.parse.line import OPTIONS, Findings, LineParser, Options, read_hook

_AS_BLOCK = "write the task as a block, - | or run: |"
_KEYS = {re.sub("_(.)", lambda found: found[1].upper(), name): name for name in OPTIONS}
_KINDS: dict[type, str] = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}
_FILE_KEYS = ("tasks", *(key for key in _KEYS if key != "optional"))
_TASK_KEYS = ("run", "output", *_KEYS)


class YamlFile:
    """A YAML file of tasks; what is in it and what is wrong with it goes to the findings."""

    def __init__(self, text: str, name: str, findings: Findings, defaults: Options) -> None:
        self._text = text
        self._at = positions(text, name)
        self._findings = findings
        self._defaults = defaults

    def parse(self) -> None:
        """Add the tasks of the file to the findings."""
        root = self._compose()
        keys = self._mapping(root, _FILE_KEYS, "the file:") if root else {}
        self._defaults = self._defaults | self._options(keys)
        tasks = keys.get("tasks")
        if isinstance(tasks, yaml.SequenceNode):
            for node in tasks.value:
                self._item(node)
        elif tasks:
            self._wrong(tasks, "tasks:", "a list of tasks")

    def _compose(self) -> yaml.Node | None:
        try:
            return yaml.compose(self._text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            where = self._at(mark.index if mark else 0)
            text = getattr(error, "problem", None) or str(error).split("\n")[0]
            if not isinstance(error, yaml.YAMLError):  # PyYAML lets these out, in each Python's own words
                text = "nested too deeply, or a number in it is too large"
            hint = f"; in a task, {_AS_BLOCK}" if re.match(r"[ \t]*(?:-[ \t]|run:)", where.text) else ""
            self._findings.find(where, f"YAML: {visible(text)}{hint}")
            return None

    def _find(self, node: yaml.Node, text: str) -> None:
        self._findings.find(self._at(node.start_mark.index), text)

    def _wrong(self, node: yaml.Node, key: str, expected: str) -> None:
        came = quoted(_text(node)) if _text(node) else _KINDS.get(type(node), "nothing")
        self._find(node, f"{key} expected {expected}, but {came} came")

    def _mapping(self, node: yaml.Node, known: Sequence[str], what: str) -> dict[str, yaml.Node]:
        """Return the known keys that came, with their values."""
        found: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, what, f"a mapping with {known[0]}")
            return found
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in found:
                self._find(key, f"the key {name} came before; leave one of them out")
            elif name in known:
                found[name] = value
            elif " " in name:
                self._find(key, f"a plain YAML value cannot hold `: `; {_AS_BLOCK}")
            else:
                self._find(key, f"unknown key {quoted(name)}; there are {', '.join(known)}")
        return found

    def _options(self, keys: Mapping[str, yaml.Node]) -> Options:
        return {_KEYS[key]: self._option(key, node) for key, node in keys.items() if key in _KEYS}

    def _option(self, key: str, node: yaml.Node) -> object:
        """Return what a key says; what is wrong with it goes to the findings."""
        name, text = _KEYS[key], _text(node)
        read, what = OPTIONS[name]
        if not text:
            self._wrong(node, f"{key}:", what)
        elif name == "on_change" and re.match(r"(?i)\s*https?://.*[$]", text):
            self._find(node, "variables are not expanded in the URL of onChange:; write @on-change in run:")
        elif name == "on_change":
            return read_hook(text.strip(), self._at(node.start_mark.index), self._findings)
        elif name == "mode" and node.tag.endswith(":int") and not text.startswith("0"):
            self._find(node, f"mode: {quoted(text)} is a decimal number in YAML; write 0640 or '640'")
        else:
            try:
                return read(text)
            except ValueError as error:
                self._find(node, f"{key}: {error}")
        return None

    def _item(self, node: yaml.Node) -> None:
        before = len(self._findings.problems)
        is_line = isinstance(node, yaml.ScalarNode)
        keys = {"run": node} if is_line else self._mapping(node, _TASK_KEYS, "a task:")
        said, run, output = self._options(keys), keys.get("run"), keys.get("output")
        if not run and before == len(self._findings.problems):
            self._find(node, "the task has no run:, the pipeline that makes its output")
        if run and not _text(run).strip():
            self._wrong(run, "a task:", "a line such as kubectl … | jq … > PATH")
        elif output and not _text(output):
            self._wrong(output, "output:", "the path of a file")
        elif "$" in _text(output):
            self._find(output or node, "variables are not expanded in output:; write > PATH in run: instead")
        elif isinstance(run, yaml.ScalarNode):
            self._line(run, f"\n> {shlex.quote(_text(output))}" if output else "", said)

    def _line(self, run: yaml.ScalarNode, output: str, said: Options) -> None:
        source = self._text[run.start_mark.index : run.end_mark.index]
        if run.style in (None, ">", "'") and "\\\n" in source:
            self._find(run, f"YAML joins these lines and keeps the backslash; {_AS_BLOCK}")
            return
        where = replace(self._at(run.start_mark.index), column=0)
        parser = LineParser(run.value + output, lambda _: where, self._findings)
        tokens = [token for line in parser.lines for token in line]
        is_open, count = any(token.kind == "unclosed" for token in tokens), len(parser.lines) - bool(output)
        if run.style is None and is_open:
            self._find(run, f"a quote is open where this plain YAML value ends, perhaps at ` #`; {_AS_BLOCK}")
        elif count != 1 and not is_open:
            self._find(run, f"expected one task, but {count} came; write each as its own item")
        elif output and any(token.kind == "output" for token in tokens[:-1]):
            self._find(run, "the output is given by output: as well; leave one of them out")
        else:
            parser.parse(tokens, self._defaults, said)


def _text(node: yaml.Node | None) -> str:
    """Return the text of a scalar; "" for anything else, and for null."""
    is_text = isinstance(node, yaml.ScalarNode) and node.tag.startswith("tag:yaml.org,2002:")
    return str(node.value) if node and is_text and not node.tag.endswith(":null") else ""
