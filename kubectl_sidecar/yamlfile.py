"""Tasks as YAML, with defaults for all of a file's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import yaml

from kubectl_sidecar.pipeline import SETTINGS, Directives, Parser, Pipeline, suggested
from kubectl_sidecar.places import Finding, Position, Text, indented, quoted, visible
from kubectl_sidecar.tasklines import LineFile
from kubectl_sidecar.tasks import Task
from kubectl_sidecar.words import Tokenizer

_AS_BLOCK = "write the task as a block, - | or run: |"
_CUT = re.compile(r"[ \t]+(?=#)")
_TASK_LINE = re.compile(r"[ \t]*(?:-[ \t]|run:)")
_DEEPEST = 8
_TASK_KEYS = {"onMissing": "on_missing"} | {
    key: key for key in ("every", "timeout", "mode", "watch", "optional")
}
_FILE_KEYS = ("tasks", *(key for key in _TASK_KEYS if key != "optional"))
_KINDS = {"map": "a mapping", "seq": "a list", "null": "nothing"}


class _Composer(yaml.SafeLoader):
    """Nodes without what a task file has no use for, and no deeper than it can be."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refuse("anchors and aliases are not known here; write the value itself", event)
        if getattr(event, "tag", None):
            raise _refuse("tags are not known here; write the value without", event)
        if self._depth == _DEEPEST:
            raise _refuse(f"expected tasks, but {_DEEPEST} levels of nesting came", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refuse(text: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=event.start_mark)  # type: ignore[arg-type]


class YamlFile(LineFile):
    """The same tasks, and defaults for all of them, as YAML."""

    def _normalise(self) -> None:
        self._text = self._text.replace("\r\n", "\n")

    def _tasks(self) -> Iterator[Task]:
        self._all = self._whole()
        root = self._compose()
        if root is None:
            return
        keys = self._mapping(root, _FILE_KEYS, "the file")
        self._defaults = replace(self._defaults, **_said(self._settings(keys)))
        tasks = keys.get("tasks")
        if isinstance(tasks, yaml.SequenceNode):
            for node in tasks.value:
                yield from self._item(node)
        elif tasks:
            self._wrong(tasks, "tasks:", "a list of tasks")

    def _compose(self) -> yaml.Node | None:
        composer = None
        try:
            composer = _Composer(self._text)
            return composer.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._syntax(mark.index if mark else 0, error.problem or str(error))
        except yaml.reader.ReaderError as error:
            self._syntax(error.position, "expected text, but a control character came")
        except (ValueError, OverflowError):
            # PyYAML lets these out for escapes and versions with impossible numbers.
            self._syntax(composer.index if composer else 0, "a number is too large here")
        return None

    def _syntax(self, index: int, text: str) -> None:
        position = self._all.at(min(index, len(self._text)))
        hint = f"; in a task, {_AS_BLOCK}" if _TASK_LINE.match(position.text) else ""
        self._find(position, f"YAML: {visible(text)}{hint}")

    def _wrong(self, node: yaml.Node, key: str, expected: str) -> None:
        came = _KINDS.get(_kind(node)) or quoted(str(node.value))
        self._find(self._at(node), f"{key} expected {expected}, but {came} came")

    def _at(self, node: yaml.Node) -> Position:
        return self._all.at(min(node.start_mark.index, len(self._text)))

    def _mapping(self, node: yaml.Node, known: Sequence[str], what: str) -> dict[str, yaml.Node]:
        """Return the known keys that came, with their values."""
        found: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, f"{what}:", f"a mapping with {known[0]}")
            return found
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in found:
                self._find(self._at(key), f"the key {name} came before; leave one of them out")
            elif name in known:
                found[name] = value
            elif " " in name:
                self._find(
                    self._all.at(key.end_mark.index), f"a plain YAML value cannot hold `: `; {_AS_BLOCK}"
                )
            else:
                self._find(self._at(key), f"unknown key {quoted(name)}; {suggested(name, known)}")
        return found

    def _settings(self, nodes: Mapping[str, yaml.Node]) -> Directives:
        known = {_TASK_KEYS[key]: (key, node) for key, node in nodes.items() if key in _TASK_KEYS}
        said: dict[str, Any] = {name: self._setting(*pair) for name, pair in known.items()}
        return Directives(**said)

    def _setting(self, key: str, node: yaml.Node) -> object:
        name, kind, value = _TASK_KEYS[key], _kind(node), str(node.value)
        if name not in SETTINGS:
            if kind == "bool":
                return value.lower() in ("yes", "true", "on")
            self._wrong(node, f"{key}:", "true or false")
        elif kind in _KINDS:
            self._wrong(node, f"{key}:", SETTINGS[name][1])
        elif name == "mode" and kind == "int" and value[0] in "123456789":
            self._find(
                self._at(node), f"mode: {quoted(value)} is a decimal number in YAML; write 0640 or '640'"
            )
        else:
            try:
                return SETTINGS[name][0](value)
            except ValueError as error:
                self._find(self._at(node), f"{key}: {error}")
        return None

    def _item(self, node: yaml.Node) -> Iterator[Task]:
        if isinstance(node, yaml.ScalarNode):
            if pipeline := self._pipeline(node, output=True):
                yield from self._task(pipeline, pipeline.directives, pipeline.output, pipeline.output_where)
            return
        before = len(self._findings)
        keys = self._mapping(node, ("run", "output", *_TASK_KEYS), "a task")
        said = self._settings(keys)
        run, output = keys.get("run"), keys.get("output")
        if output:
            self._check_output(output)
        if not run and len(self._findings) == before:
            self._find(self._at(node), "the task has no run:, the pipeline that makes its output")
        pipeline = self._pipeline(run, output=not output) if run else None
        if pipeline:
            self._check_said_once(pipeline.directives, keys)
            path = (output.value, self._at(output)) if output else (pipeline.output, pipeline.output_where)
            if len(self._findings) == before:
                yield from self._task(pipeline, replace(pipeline.directives, **_said(said)), *path)

    def _check_output(self, node: yaml.Node) -> None:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            self._wrong(node, "output:", "the path of a file")
        elif "$" in node.value:
            self._find(self._at(node), "variables are not expanded in output:; write > PATH in run: instead")
        elif self._unusable(node.value):
            self._find(self._at(node), "output: expected text, but a character came that no path can hold")

    def _check_said_once(self, directives: Directives, keys: Mapping[str, yaml.Node]) -> None:
        for key, node in keys.items():
            name = _TASK_KEYS.get(key)
            if name and getattr(directives, name) is not None:
                directive = "@" + name.replace("_", "-")
                self._find(self._at(node), f"{key}: and {directive} in run: say the same; leave one out")

    def _pipeline(self, node: yaml.Node, *, output: bool) -> Pipeline | None:
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self._wrong(node, "a task:", "a line such as kubectl … | jq … > PATH")
            return None
        if problem := self._unusable(node.value):
            self._find(self._at(node), problem[1])
            return None
        raw = self._text[node.start_mark.index : node.end_mark.index]
        if node.style in (None, ">", "'") and "\\\n" in raw:
            position = self._all.at(node.start_mark.index + raw.index("\\\n"))
            self._find(position, f"YAML joins these lines and keeps the backslash; {_AS_BLOCK}")
            return None
        quotes = raw[1:-1] == node.value
        text = indented(node.value, self._at(node), self._all.lines, block=node.style == "|", quotes=quotes)
        return self._one_line(node, text, output=output)

    def _one_line(self, node: yaml.ScalarNode, text: Text, *, output: bool) -> Pipeline | None:
        findings: list[Finding] = []
        lines = list(Tokenizer(text, self._environ, findings).lines())
        cut = _CUT.match(self._text, node.end_mark.index)
        if node.style is None and cut and any(line.unfinished for line in lines):
            self._find(self._all.at(cut.end()), f"a plain YAML value ends at ` #`; {_AS_BLOCK}")
            return None
        pipelines = [Parser(line, text, findings).parse(output=output) for line in lines]
        if not findings and len(lines) != 1:
            where = text.at(lines[1].tokens[0].start) if lines else self._at(node)
            findings.append((where, f"expected one task, but {len(lines)} came; write each as its own item"))
        self._findings += findings
        return None if findings else pipelines[0]


def _kind(node: yaml.Node) -> str:
    return str(node.tag).rpartition(":")[2]


def _said(directives: Directives) -> dict[str, Any]:
    return {name: value for name, value in asdict(directives).items() if value is not None}
