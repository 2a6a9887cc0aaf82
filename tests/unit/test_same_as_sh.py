"""Real shells are asked what a line means: where we accept it, bash and dash agree with us.

A reference is a single word for us, quoted or not. So the shells get the line with its references quoted,
and an empty IFS, which keeps a default word in one piece without touching the quotes inside it.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kubectl_sidecar.pipeline import Parser
from kubectl_sidecar.places import Finding, Position, Text
from kubectl_sidecar.tasks import normalise
from kubectl_sidecar.words import Tokenizer, brace_expansion

SHELLS = {"bash": "set -o pipefail -o nounset -o noglob", "dash": "set -u -f"}
FEW = 250
MANY = int(os.environ.get("SAME_AS_SH_EXAMPLES", "20000"))
ENVIRON = {
    "X": "a b",
    "EMPTY": "",
    "Q": """it's "q" $X `x` \\ \\\\ * ? [a] ~ #""",
    "N": "one\n two\n",
    "U": "ü漢🙂\u0081",
    "C": "\x01\x02\x1b\x7f\t",
    "B": "{a,b} {1..3}",
} | {f"P{number}": f"p{number}" for number in range(1, 4)}

# What a line is refused for although both shells read it alike, and why we refuse it nevertheless.
TOLERATED = {
    "~ is a home directory": "--config=~/x is plain to sh, but whoever writes it means a home directory",
    "in a default word": "sh takes them, by rules that hardly anybody knows",
    "bash makes several words": "{},a} and {a..{1..2}} are plain to bash by accident of its scanner",
    "expected the end of the line after the path": "sh takes words behind the path; the design wants it last",
    "standard error goes to the log": "{x}> is a word and > for dash, 12> for both a redirection",
    "sets a variable": "a[ at the start of a program's name begins an array for bash",
    "is a job": "%1 is a program for dash",
    "goes on in the next line": "a name split by a backslash is legal and unreadable",
    "a line ends between $": "the same",
    "the text ends with a backslash": "shells keep it; it is always a slip",
    "directives stand before": "@x is a program's name for sh",
    "is no directive": "the same",
    "expected a command in this line": "a lone > PATH empties a file in sh",
    "the output's path": "no file of the output directory",
    "the line ends in CR LF": "a word that ends in CR is never meant",
    "${…} is nested": "there must be an end",
    "is part of a shell's language": "in, ]] and others stand in the wrong place for sh",
}
# What a line is refused for because at least one of the shells does more with it than split it into words.
DIFFERENT = (
    "joins commands", "appends, but", "reads a file into a stage", "redirects, but", "groups commands",
    "overrides a setting", "sends standard error down", "runs a command", "is arithmetic", "are known; for",
    "means something in bash only", "Kubernetes left", "is a parameter of a shell", "is not set",
    "never closed", "is open when", "not closed in its", "expected > PATH", "expected a path",
    "only the last stage", "expected a pipeline after", "expected a command before",
    "expected a command after", "its name is empty",
)  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    calls: tuple[tuple[str, ...], ...]
    """The argv of every stage, in the order of its program's name."""
    outputs: frozenset[str]


@dataclass(frozen=True)
class Case:
    line: str
    asked: str
    """The line as the shells get it."""
    noisy: bool


def ours(line: str) -> Meaning | list[str]:
    """What we make of a line: its meaning, or the texts of what we refuse."""
    findings: list[Finding] = []
    text = Text(line, Position("line", 1))
    pipelines = [
        pipeline
        for found in Tokenizer(text, ENVIRON, findings).lines()
        if (pipeline := Parser(found, text, findings).parse())
    ]
    try:
        outputs = frozenset(normalise(pipeline.output) for pipeline in pipelines)
    except ValueError as error:
        return [str(error)]
    calls = sorted(stage.argv for pipeline in pipelines for stage in pipeline.stages)
    return [text for _, text in findings] or Meaning(tuple(calls), outputs)


# -- the lines

SPECIAL = "abx1 \t\n*?[]{}()<>|&;!#~=,.:@%+-^_$\"'`\\\x01\x02\x08\x0b\x0c\r\x1b\x7f\x80\x81\x84\x88"
SPECIAL += "\u00a0\u2028\ufeff漢🙂"
PLAIN = st.text("abx1*?[]=:,.@%+-^_é漢🙂{}!#\x0b\x7f\x81", min_size=1, max_size=4)
Pair = tuple[str, str]


def same(text: str) -> Pair:
    return text, text


def join(pairs: Iterable[Pair]) -> Pair:
    listed = list(pairs)
    return "".join(pair[0] for pair in listed), "".join(pair[1] for pair in listed)


def without(characters: str, *, smallest: int = 0, longest: int = 5) -> st.SearchStrategy[str]:
    """Any text but these, mostly of what means something to a shell; without /, lest files go elsewhere."""
    few = "".join(character for character in SPECIAL if character not in characters)
    many = st.characters(min_codepoint=1, exclude_categories=["Cs"], exclude_characters=characters + "/")
    return st.one_of(
        *[st.text(alphabet, min_size=smallest, max_size=longest) for alphabet in (few, few, many)]
    )


ONE = without("", smallest=1, longest=1)
NAMES = st.sampled_from(["X", "EMPTY", "Q", "N", "U", "C", "B"])
SIMPLE = NAMES.flatmap(lambda name: st.sampled_from([f"${name}", f"${{{name}}}"]))
IN_DOUBLE = st.one_of(
    without('"$`\\'),
    st.sampled_from(["\\$", '\\"', "\\\\", "\\`", "\\\n", "\\a", "\\'", "$ ", "$.", "$=", "$]", "$'", "$:"]),
    SIMPLE,
    st.builds("${{{}:-{}}}".format, st.sampled_from(["NOPE", "EMPTY", "X"]), without("\"$`\\}'")),
    st.builds(
        "${{NOPE:-{}}}".format,
        st.sampled_from(['"a b"', "$X", "a\\}b", "${NOPE:-c d}", '\\"', '""', "{", '$""', "$'a'"]),
    ),
)
DOUBLE = st.lists(IN_DOUBLE, max_size=4).map(lambda parts: f'"{"".join(parts)}"')
SINGLE = without("'", longest=8).map(lambda text: f"'{text}'")
IN_DEFAULT = st.one_of(
    st.text("ab1 *?[]=:,.@%+-^_é#!", max_size=4),
    SINGLE,
    DOUBLE,
    SIMPLE,
    ONE.map(lambda character: "\\" + character),
)
DEFAULT = st.builds(
    "${{{}:-{}}}".format,
    st.sampled_from(["NOPE", "EMPTY", "X"]),
    st.one_of(st.lists(IN_DEFAULT, max_size=3).map("".join), st.just("${NOPE:-${EMPTY:-'c d'}}")),
)
PART = st.one_of(
    PLAIN.map(same),
    PLAIN.map(same),
    SINGLE.map(same),
    DOUBLE.map(same),
    ONE.map(lambda character: same("\\" + character)),
    st.sampled_from(["''", '""', "\\\n"]).map(same),
    SIMPLE.map(lambda text: (text, f'"{text}"')),
    DEFAULT.map(lambda text: (text, f'""{text}')),
)
WORD = st.lists(PART, min_size=1, max_size=4).map(join)
BLANKS = [" ", " ", " ", "\t", "  ", " \\\n ", "\\\n\t"]
REDIRECTS = [" > ", ">", " >", " >\\\n", "\t> \\\n"]
PIPES = ["|", " | ", " |\n", "| # why\n\n ", "|\\\n"]
ENDS = ["", "", " ", "\n", " # the end", "\t#\n\n", "\\\n"]
# The number is the stage's, so that each tells where it stood.
PROGRAMS = ["p1", "p1", "'p1'", '"p1"', "p\\1", "\\p''1", "p\\\n1", '"$P1"', "${NOPE:-p1}"]


def assembled(words: Sequence[Pair], chance: random.Random) -> Case:
    parts: list[Pair] = []
    for number in range(1, chance.randint(1, 3) + 1):
        parts += [same(chance.choice(PIPES))] if parts else []
        parts.append(same(chance.choice(PROGRAMS).replace("1", str(number))))
        for _ in range(chance.randint(0, 3)):
            parts += [same(chance.choice(BLANKS)), chance.choice(words)]
    target = chance.choice([same("out"), same("out"), chance.choice(words)])
    parts += [same(chance.choice(REDIRECTS)), target, same(chance.choice(ENDS))]
    return Case(*join(parts), noisy=False)


NOISE = [
    *"'\"\\${}()<>|&;`~!#=,:@%\n\t\r ",
    *("${X:-", "${NOPE:-", "$X", "$NOPE", "${X}", "${X-", "${#X}", "$1", "$?", "$$", "$(", "$((", "$["),
    *("2>", "12>", "{x}>", "&&", "||", ">>", "<<E", ">&", ">|", "<>", "|&", "&>", "<(", ">(", "$'", '$"'),
    *("a=b ", "a[", "{a,b}", "{1..3}", "{a..c..2}", "{1..", "},", "..", "~a", ":~", "=~", "\\\n", "\r\n"),
    *("'a'", '"b"', "[[ ", "if ", "! ", "time ", "%1", "\x01"),
]  # fmt: skip


def noisy(line: str, chance: random.Random) -> Case:
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(line))
        line = line[:at] + chance.choice(NOISE) + line[at:]
    return Case(line, line, noisy=True)


LINES_OF_WORDS = 8


def examples(count: int) -> list[Case]:
    """Every second one has noise in it."""
    cases: list[Case] = []

    @settings(
        max_examples=count // LINES_OF_WORDS, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(WORD, min_size=1, max_size=6), st.integers(0, 2**32))
    def collect(words: list[Pair], seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        for _ in range(LINES_OF_WORDS // 2):
            case = assembled(words, chance)
            cases.extend([case, noisy(case.line, chance)])

    collect()
    return cases


# -- the shells

WRITE = 'printf \'%s\\0\' "$#" {name} "$@" >> "$FOLDER/{name}"'
NAMES_OF_PROGRAMS = ("p1", "p2", "p3")
BATCH = 1000


def functions(_: Path) -> str:
    return "PATH=\n" + "".join(f"{name}() {{ {WRITE.format(name=name)}; }}\n" for name in NAMES_OF_PROGRAMS)


def programs(folder: Path) -> str:
    folder.mkdir()
    for name in NAMES_OF_PROGRAMS:
        path = folder / name
        path.write_text(f"#!{shutil.which('sh')}\n{WRITE.format(name=name)}\n")
        path.chmod(0o755)
    return f"PATH='{folder}'\n"


Asked = tuple[Case, Meaning]


def ask(shell: str, asked: Sequence[Asked], folder: Path, prepare: Callable[[Path], str]) -> list[Meaning]:
    """Let one shell process run all the lines, each where its programs leave a record."""
    folder.mkdir()
    script = [prepare(folder / "bin"), "IFS=\nexport FOLDER\n", SHELLS[shell], "\n"]
    for number, (case, expected) in enumerate(asked):
        here = folder / f"{number}"
        (here / "out").mkdir(parents=True)
        for output in expected.outputs:
            (here / "out" / output).parent.mkdir(parents=True, exist_ok=True)
        (here / "line").write_bytes(case.asked.encode())
        script.append(f"( cd '{here}/out'; FOLDER='{here}'; . ../line; ) </dev/null\n")
    (folder / "script").write_text("".join(script))
    environ = {**ENVIRON, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    with (folder / "stderr").open("wb") as stderr:
        subprocess.run(
            [shell, folder / "script"], env=environ, stderr=stderr, stdout=stderr, timeout=240, check=False
        )
    return [meaning(folder / f"{number}") for number in range(len(asked))]


def meaning(folder: Path) -> Meaning:
    records = (folder / name for name in NAMES_OF_PROGRAMS)
    calls = [call for record in records if record.exists() for call in recorded(record.read_bytes())]
    files = (Path(at, name) for at, _, names in os.walk(folder / "out") for name in names)
    return Meaning(tuple(sorted(calls)), frozenset(str(file.relative_to(folder / "out")) for file in files))


def recorded(data: bytes) -> Iterator[tuple[str, ...]]:
    values = iter(data.decode().split("\0"))
    for count in values:
        if count:
            yield tuple(itertools.islice(values, int(count) + 1))


def differences(asked: Sequence[Asked], folder: Path, prepare: Callable[[Path], str]) -> list[str]:
    """Let both shells work at the same time, batch by batch."""
    found: list[str] = []
    with ThreadPoolExecutor(len(SHELLS)) as pool:
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            jobs = {sh: pool.submit(ask, sh, batch, folder / f"{sh}{start}", prepare) for sh in SHELLS}
            for shell, job in jobs.items():
                found += disagreements(shell, batch, job.result())
                shutil.rmtree(folder / f"{shell}{start}")
    return found


def disagreements(shell: str, asked: Sequence[Asked], answers: Sequence[Meaning]) -> Iterator[str]:
    for (case, expected), came in zip(asked, answers, strict=True):
        if came != expected and not (case.noisy and full(came) == full(expected)):
            yield f"{case.line!r}\n  {shell}: {came}\n  ours: {expected}"


def full(meaning: Meaning) -> Meaning:
    """Without empty words: an unquoted reference to nothing is one for us, and no word at all for sh."""
    return Meaning(tuple(tuple(filter(None, call)) for call in meaning.calls), meaning.outputs)


def runnable(meaning: Meaning) -> bool:
    """Whether all its programs are ours: others are not found, and tell nothing."""
    return bool(meaning.calls) and all(call[0] in NAMES_OF_PROGRAMS for call in meaning.calls)


def compare(count: int, folder: Path, prepare: Callable[[Path], str]) -> None:
    asked, refused = [], set[str]()
    for case in examples(count):
        judged = ours(case.line)
        if isinstance(judged, list):
            refused.update(judged)
        elif runnable(judged):
            asked.append((case, judged))
    assert len(asked) > count / 3, "most of the generated lines are refused: this tests little"
    failures = sorted(differences(asked, folder, prepare), key=len)
    assert not failures, f"{len(failures)} lines mean something else to a shell:\n" + "\n".join(failures[:5])
    judged_before = re.compile("|".join(map(re.escape, (*TOLERATED, *DIFFERENT))))
    unknown = sorted(text for text in refused if not judged_before.search(text))
    assert not unknown, f"refused for reasons that nobody has judged: {unknown[:5]}"


def test_accepted_lines_mean_the_same_to_bash_and_dash(tmp_path: Path) -> None:
    compare(FEW, tmp_path, functions)


def test_real_programs_get_the_argv_that_we_say(tmp_path: Path) -> None:
    compare(FEW, tmp_path, programs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_accepted_lines_mean_the_same_to_bash_and_dash(tmp_path: Path) -> None:
    compare(MANY, tmp_path, functions)


def braces_disagree(alphabet: str, longest: int, folder: Path) -> list[str]:
    words = [
        "".join(letters)
        for size in range(1, longest + 1)
        for letters in itertools.product(alphabet, repeat=size)
    ]
    script = folder / "words"
    script.write_text('set -f\nt() { echo "$# $*"; }\n' + "".join(f"t {word}\n" for word in words))
    answers = subprocess.run(
        ["bash", script], capture_output=True, text=True, timeout=240, check=True
    ).stdout.splitlines()
    pairs = zip(words, answers, strict=True)
    return [word for word, answer in pairs if (answer != f"1 {word}") > (brace_expansion(word) is not None)]


def test_no_braces_that_bash_expands_are_missed(tmp_path: Path) -> None:
    assert not braces_disagree("{},.a1", 5, tmp_path)


@pytest.mark.slow
def test_no_longer_braces_that_bash_expands_are_missed(tmp_path: Path) -> None:
    assert not braces_disagree("{},.a1", 7, tmp_path)
