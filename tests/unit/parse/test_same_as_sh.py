"""Real shells are asked what a line means: where we accept it, bash and dash agree with us.

Plain lines are made of what a task line has, and each of them must be accepted. Noisy ones are plain lines
with pieces of a shell's language thrown in: those that are accepted must mean the same, and what is written
out as a way out of the others must do in bash what the refused line would.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubectl_sidecar.errors import positions
from kubectl_sidecar.parse.line import Findings, LineParser

SHELLS = {"bash": "set -o pipefail -o nounset -o noglob", "dash": "set -u -f"}
FEW = 100
MANY = int(os.environ.get("SAME_AS_SH_EXAMPLES", "20000"))
ENVIRON = {
    "X": "a b",
    "EMPTY": "",
    "W": "w*?[a]{b,c}$X`x`\\n\\\\~#'\"|",
    "Q": """it's "q" $X `x` \\ \\\\ * ? [a] ~ #""",
    "N": "one\n two\n",
    "U": "ü漢🙂\u0081",
    "C": "\x01\x02\x1b\x7f",
    "B": "{a,b} {1..3}",
} | {f"P{number}": f"p{number}" for number in range(1, 4)}
OPTIONS = {
    "every": None, "timeout": 30.0, "mode": 0o644, "on_missing": "keep", "on_change": None,
    "watch": False, "optional": False, "allow_empty": False,
}  # fmt: skip


@dataclass(frozen=True)
class Meaning:
    calls: tuple[tuple[str, ...], ...]
    """The argv of every stage, in the order of its program's name."""
    outputs: tuple[tuple[str, bytes], ...]
    """Each file that was written and, where that is asked for, what is in it."""


def parsed(line: str) -> Findings:
    findings = Findings(ENVIRON, allow_unset=False)
    parser = LineParser(line, positions(line, "line"), findings)
    for tokens in parser.lines:
        parser.parse(tokens, OPTIONS, {})
    return findings


def ours(findings: Findings) -> Meaning:
    calls = sorted(stage.argv for task in findings.tasks for stage in task.stages)
    return Meaning(tuple(calls), tuple(sorted({(task.output, b"") for task in findings.tasks})))


# -- the lines

# Without /, lest files go elsewhere.
CHARACTERS = "abx1*?[]=:,.@%+-^_é漢🙂!#\x0b\x7f\x81\u00a0\u2028"
QUOTED = CHARACTERS + " \t\n|&;<>()~{}\x01\x02\x08\x1b\x80\x84\x88"
QUOTED_VARIABLES = [
    "${X}",
    "${EMPTY}",
    "${Q}",
    "${N}",
    "${U}",
    "${C}",
    "${B}",
    "${W}",
    "${NOPE:-a b}",
    "${EMPTY:-x}",
]
BARE_VARIABLES = ["${W}", "${U}", "${C}", "${NOPE:-a*b}", "${EMPTY:-x}"]
WHOLE_WORDS = [
    "$W",
    "$U",
    "$C",
    "$P1",
    '"$X"',
    '"$EMPTY"',
    "''",
    '"$Q"',
    "{.a},{.b}",
    "{a}",
    "{.status.phase}",
]
WHOLE_WORDS += ['"<(a)"', '">(a"', "'<(a)'"]
ESCAPED = [f"\\{character}" for character in "ab$`\"'\\ \t*?[]{}()<>|&;!#~=,\x01\x7f漢"]
IN_DOUBLE = ["\\$", '\\"', "\\\\", "\\`", "\\\n", "\\a", "\\'", "$ ", "$.", "$=", "$]", "$'", "$:", "'"]
BLANKS = [" ", " ", " ", "\t", "  ", " \\\n ", "\\\n\t"]
REDIRECTS = [" > ", " >", " >\\\n", "\t> \\\n"]
PIPES = ["|", " | ", " |\n", "| # why\n\n ", "|\\\n"]
ENDS = ["", "", " ", "\n", " # the end", "\t#\n\n", "\\\n", " 2>/dev/null", " 2> /dev/null "]
# The number is the stage's, so that each tells where it stood.
PROGRAMS = [
    "p1",
    "p1",
    "'p1'",
    '"p1"',
    "p\\1",
    "\\p''1",
    "p\\\n1",
    '"$P1"',
    "$P1",
    "${NOPE:-p1}",
    "2>/dev/null p1",
]


def text(characters: str, chance: random.Random, longest: int) -> str:
    return "".join(chance.choices(characters, k=chance.randint(0, longest)))


def part(chance: random.Random) -> str:
    double = [text(QUOTED, chance, 5), chance.choice(IN_DOUBLE), chance.choice(QUOTED_VARIABLES)]
    return chance.choice([
        text(CHARACTERS, chance, 4),
        "'" + text(QUOTED + '"\\$`', chance, 6) + "'",
        '"' + "".join(chance.choices(double, k=chance.randint(0, 3))) + '"',
        chance.choice(ESCAPED),
        chance.choice(BARE_VARIABLES),
        chance.choice(["''", '""', "\\\n"]),
    ])  # fmt: skip


def word(chance: random.Random) -> str:
    """A word that is neither a comment nor nothing."""
    if chance.random() < 0.2:
        return chance.choice(WHOLE_WORDS)
    return chance.choice("abx1*?[=:,.%+-_漢") + "".join(part(chance) for _ in range(chance.randint(0, 3)))


def plain_line(chance: random.Random) -> str:
    line = ""
    for number in range(1, chance.randint(1, 3) + 1):
        line += chance.choice(PIPES) if line else ""
        line += chance.choice(PROGRAMS).replace("1", str(number))
        for _ in range(chance.randint(0, 3)):
            line += chance.choice(BLANKS) + word(chance)
    return line + chance.choice(REDIRECTS) + "out" + chance.choice(ENDS)


NOISE = [
    *"'\"\\${}()<>|&;`~!#=,:@%\n\t\r ",
    *("${X:-", "${NOPE:-", "$X", "$NOPE", "${X}", "$EMPTY ", "${X-", "${#X}", "$1", "$?", "$$", "$("),
    *("$((", "$[", "2>", "12>", "{x}>", "&&", "||", ">>", "<<E", ">&", ">|", "<>", "|&", "&>", "<(", ">("),
    *("$'", '$"', "2>&1", "a=b ", "a[", "{a,b}", "{1..3}", "{a..c..2}", "{1..", "},", "..", "~a", ":~", "=~"),
    *("\\\n", "\r\n", "~ ", "'a'", '"b"', "[[ ", "if ", "! ", "time ", "%1", "\x01", " && p2 ", "; p3 "),
    *(" || p3 ", "$(p3 a)", "`p2 b`", "for i in 1 2; do p3; done ", "{ p2; } ", "(p3) ", "${X%b}", "$X "),
    *("${NOPE:-'q'}", "y=$(p2); ", " 2>/dev/null ", "if p2; then p3; fi | ", "2>/dev/null", "<<<a "),
    *("< /dev/null ", "<(p2) "),
]  # fmt: skip


def noisy_line(chance: random.Random) -> str:
    line = plain_line(chance)
    for _ in range(chance.randint(1, 3)):
        # Mostly where a word begins: anywhere else a piece is seldom more than a few characters.
        places = [
            0,
            len(line),
            *(found.end() for found in re.finditer(r"[ |]", line)),
            chance.randint(0, len(line)),
        ]
        at = chance.choice(places)
        line = line[:at] + chance.choice(NOISE) + line[at:]
    return line


# -- the shells

# It reads all of its input and minds no closed pipe: nothing depends on who is faster.
WRITE = (
    'printf \'%s\\0\' "$#" {name} "$@" >> "$FOLDER/{name}"; while read -r _; do :; done;'
    ' {{ echo {name} "$#" || :; }} 2>/dev/null'
)
NAMES_OF_PROGRAMS = ("p1", "p2", "p3")
BATCH = 1000


def functions(_: Path) -> str:
    return "PATH=\n" + "".join(f"{name}() {{ {WRITE.format(name=name)}; }}\n" for name in NAMES_OF_PROGRAMS)


def programs(folder: Path) -> str:
    folder.mkdir()
    for name in NAMES_OF_PROGRAMS:
        path = folder / name
        path.write_text(f"#!{shutil.which('dash')}\n{WRITE.format(name=name)}\n")
        path.chmod(0o755)
    return f"export PATH='{folder}:{Path(shutil.which('bash') or '').parent}'\n"


def ask(
    shell: str, options: str, lines: Sequence[str], folder: Path, prepare: Callable[[Path], str]
) -> list[Meaning]:
    """Let one shell process run all the lines, each where its programs leave a record."""
    folder.mkdir()
    script = [prepare(folder / "bin"), "export FOLDER\ntrap '' PIPE\n"]
    for number, line in enumerate(lines):
        here = folder / f"{number}"
        (here / "out").mkdir(parents=True)
        (here / "line").write_bytes(line.encode())
        script.append(f"( cd '{here}/out'; FOLDER='{here}'; {options}; . ../line; ) </dev/null\n")
    (folder / "script").write_text("".join(script))
    # What a pattern matches depends on which of the files are there already: no bash looks for any.
    (folder / "noglob").write_text("set -f")
    environ = {**ENVIRON, "HOME": "/home", "LC_ALL": "C.UTF-8", "BASH_ENV": str(folder / "noglob")}
    with (folder / "said").open("wb") as said:
        subprocess.run(
            [shell, folder / "script"], env=environ, stderr=said, stdout=said, timeout=600, check=False
        )
    return [meaning(folder / f"{number}") for number in range(len(lines))]


def meaning(folder: Path) -> Meaning:
    records = (folder / name for name in NAMES_OF_PROGRAMS)
    calls = [call for record in records if record.exists() for call in recorded(record.read_bytes())]
    files = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    return Meaning(
        tuple(sorted(calls)),
        tuple((str(file.relative_to(folder / "out")), file.read_bytes()) for file in files),
    )


def recorded(data: bytes) -> Iterator[tuple[str, ...]]:
    values = iter(data.decode().split("\0"))
    for count in values:
        if count:
            yield tuple(itertools.islice(values, int(count) + 1))


def batches(
    shell: str, options: str, lines: Sequence[str], folder: Path, prepare: Callable[[Path], str]
) -> list[Meaning]:
    found: list[Meaning] = []
    for start in range(0, len(lines), BATCH):
        here = folder / f"{shell}{len(options)}-{start}"
        found += ask(shell, options, lines[start : start + BATCH], here, prepare)
        shutil.rmtree(here)
    return found


def in_both(lines: Sequence[str], folder: Path, prepare: Callable[[Path], str]) -> dict[str, list[Meaning]]:
    """Let both shells work at the same time."""
    with ThreadPoolExecutor(len(SHELLS)) as pool:
        jobs = {
            shell: pool.submit(batches, shell, options, lines, folder, prepare)
            for shell, options in SHELLS.items()
        }
        return {shell: job.result() for shell, job in jobs.items()}


def names(found: Meaning) -> Meaning:
    return Meaning(found.calls, tuple((name, b"") for name, _ in found.outputs))


def assert_the_same(lines: Sequence[str], folder: Path, prepare: Callable[[Path], str]) -> None:
    expected = [ours(parsed(line)) for line in lines]
    failures = [
        f"{line!r}\n  {shell}: {names(came)}\n  ours: {wanted}"
        for shell, answers in in_both(lines, folder, prepare).items()
        for line, wanted, came in zip(lines, expected, answers, strict=True)
        if names(came) != wanted
    ]
    failures.sort(key=len)
    assert not failures, f"{len(failures)} lines mean something else to a shell:\n" + "\n".join(failures[:5])


def runnable(findings: Findings) -> bool:
    """Whether all its programs and files are ours: others are not found, and tell nothing (`> /dev/null`)."""
    is_ours = all(stage.argv[0] in NAMES_OF_PROGRAMS for stage in findings.stages)
    return is_ours and not (findings.problems or any(task.output[0] == "/" for task in findings.tasks))


def chosen_seed(usual: int) -> int:
    """Return the same one each time; SIDECAR_TEST_SEED=random draws new lines, to find what is not known."""
    asked = os.environ.get("SIDECAR_TEST_SEED", str(usual))
    seed = random.randrange(2**32) if asked == "random" else int(asked)  # noqa: S311 (nothing secret)
    print(f"seed {seed}")
    return seed


def plain_lines(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)  # noqa: S311 (nothing secret)
    return [plain_line(chance) for _ in range(count)]


def noisy_lines(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)  # noqa: S311 (nothing secret)
    return [noisy_line(chance) for _ in range(count)]


def check_plain_lines(lines: list[str], folder: Path, prepare: Callable[[Path], str]) -> None:
    refused = [f"{line!r}: {found[0].text}" for line in lines if (found := parsed(line).problems)]
    assert not refused, f"{len(refused)} plain lines are refused:\n" + "\n".join(sorted(refused, key=len)[:5])
    assert_the_same(lines, folder, prepare)


@pytest.mark.slow
def test_plain_lines_mean_the_same_to_bash_and_dash(tmp_path: Path) -> None:
    check_plain_lines(plain_lines(FEW, 1), tmp_path, functions)


@pytest.mark.slow
def test_real_programs_get_the_argv_that_we_say(tmp_path: Path) -> None:
    check_plain_lines(plain_lines(FEW, 2), tmp_path, programs)


def test_noisy_lines_that_are_accepted_mean_the_same_to_bash_and_dash(tmp_path: Path) -> None:
    assert_the_same([line for line in noisy_lines(4 * FEW, 3) if runnable(parsed(line))], tmp_path, functions)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_lines_mean_the_same_to_bash_and_dash(tmp_path: Path) -> None:
    seed = chosen_seed(4)
    check_plain_lines(plain_lines(MANY // 2, seed), tmp_path, functions)
    assert_the_same(
        [line for line in noisy_lines(MANY // 2, seed) if runnable(parsed(line))], tmp_path, functions
    )


def is_valid(line: str) -> bool:
    done = subprocess.run(["bash", "-n", "-c", line], stderr=subprocess.DEVNULL, timeout=60, check=False)
    return not done.returncode


def ways_out(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the refused lines of which all can be done by bash, each with what is written out for it."""
    for line in lines:
        texts = [problem.text for problem in parsed(line).problems]
        ready = [text.partition("ready to paste: ")[2] for text in texts if "ready to paste: " in text]
        is_all = all("ready to paste: " in text or "the line above does it" in text for text in texts)
        is_one = "\n" not in line.replace("\\\n", "").strip()
        # bash finds out about [[ and $[ only when it runs them, $$ and its like differ each time, and nobody
        # waits for what & and >( start.
        is_odd = re.search(r"\[\[|\$[\[$!?#@*0-9-]|>\(", line) or any("`&`" in text for text in texts)
        if len(ready) == 1 and is_all and is_one and not is_odd and is_valid(line):
            yield line, ready[0]


def check_ways_out(lines: Sequence[str], folder: Path) -> None:
    pairs = list(ways_out(lines))
    refused = [f"{line!r}: {written!r}" for line, written in pairs if parsed(written).problems]
    assert not refused, f"{len(refused)} ways out are refused:\n" + "\n".join(sorted(refused, key=len)[:5])
    (folder / "a").mkdir()
    meant = batches("bash", "set -euo pipefail", [line for line, _ in pairs], folder / "a", programs)
    (folder / "b").mkdir()
    done = batches("bash", "true", [written for _, written in pairs], folder / "b", programs)
    failures = [
        f"{line!r}\n  {written!r}\n  meant: {first}\n  done: {second}"
        for (line, written), first, second in zip(pairs, meant, done, strict=True)
        if with_content(first) != with_content(second)
    ]
    failures.sort(key=len)
    assert not failures, f"{len(failures)} ways out do something else:\n" + "\n".join(failures[:5])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_ways_out_do_in_bash_what_the_refused_lines_would(tmp_path: Path) -> None:
    seed = chosen_seed(5)
    check_ways_out(noisy_lines(MANY // 4, seed), tmp_path)


def with_content(found: Meaning) -> Meaning:
    # In its messages bash says its own name and the line of what it reads.
    files = ((name, re.sub(rb"(?m)^\S+: line \d+: ", b"", content)) for name, content in found.outputs)
    return Meaning(found.calls, tuple(file for file in files if file[0] == "out" and file[1]))


def test_ways_out_do_in_bash_what_the_refused_lines_would(tmp_path: Path) -> None:
    check_ways_out(noisy_lines(FEW, 4), tmp_path)
