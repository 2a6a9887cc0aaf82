"""The lines that are written out for what only bash can do: we accept them, and bash does what was meant."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.parse.loading import found, load, refusals

ENVIRON = {"POD": "web-1", "FLAGS": "-n demo", "EMPTY": "", "PATH": os.environ["PATH"]}


def way_out(line: str) -> str:
    """Return the line that is written out, exactly as a reader would copy it."""
    texts = [problem.text for problem in found(line, environ=ENVIRON).problems]
    (written,) = [text for text in texts if "ready to paste" in text]
    return written.partition("ready to paste")[2].partition(": ")[2]


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("p $(a b) > x", "bash -euo pipefail -c 'p $(a b)' > x"),
        ("p 2>&1 | q 'c' > x", "bash -euo pipefail -c 'p 2>&1' | q 'c' > x"),
        ("p | q 'it' 2>&1 | r > x", "p | bash -euo pipefail -c 'q '\"'\"'it'\"'\"' 2>&1' | r > x"),
        ("p > x 2>&1", "bash -euo pipefail -c 'p 2>&1' > x"),
        ("p > x 2> err", "bash -euo pipefail -c 'p 2> err' > x"),
        ("p 2>/dev/null || echo 0 > x", "bash -euo pipefail -c 'p 2>/dev/null || echo 0' > x"),
        (
            "@every 5m  @mode 0640 p $(a b)>x # why",
            "@every 5m @mode 0640 bash -euo pipefail -c 'p $(a b)' > x",
        ),
        ("a=1 p | q > x", "bash -euo pipefail -c 'a=1 p' | q > x"),
        ("p && q | r > x", "bash -euo pipefail -c '{ p; } >&2 && q | r' > x"),
        ("p; q; r > x", "bash -euo pipefail -c '{ p ; q; } >&2 ; r' > x"),
        ("p > a; q > x", "bash -euo pipefail -c '{ p > a; } >&2 ; q' > x"),
        ("p $FLAGS | q > x", "bash -euo pipefail -c 'p $FLAGS' | q > x"),
        ("p a \\\n  b |\n  q $(c d) \\\n > x", "p a b | bash -euo pipefail -c 'q $(c d)' > x"),
        ("p > x;", "p > x"),
        ("p > x &", "p > x"),
        ("@watch kubectl get a | q {b,c} > x", "@watch kubectl get a | bash -euo pipefail -c 'q {b,c}' > x"),
    ],
)
def test_the_whole_line_is_written_out(line: str, written: str) -> None:
    assert way_out(line) == written
    assert load(written, environ=ENVIRON)


@pytest.mark.parametrize(
    "line",
    [
        "p $(a b",  # never closed
        "p $(a b)",  # no output
        "p $(a b) > x y",
        "p | > x && q",
        "p && > x",
        "p <<EOF | q $(a b) > x",
        "done; p > x",
        "p $1; q > x",
        "p 2>&1 > x",  # in sh, standard error does not go into the file
        "p $(a \x1b) > x",  # nobody could copy that
        "p > $(a b)",
        "p $(a b) >> x",
        "@watch kubectl get $(a b) > x",
        "@watch a; kubectl get b > x",
    ],
)
def test_no_line_is_written_out_that_would_not_work(line: str) -> None:
    assert refusals(line)
    assert not [refusal for refusal in refusals(line) if "ready to paste" in refusal]


def test_a_line_is_written_out_once_and_the_other_messages_say_so() -> None:
    first, second, third = refusals("p $(a b) | q `c` {d,e} > x")
    assert (
        "ready to paste: bash -euo pipefail -c 'p $(a b)' | bash -euo pipefail -c 'q `c` {d,e}' > x" in first
    )
    assert second.endswith("the line above does it")
    assert third.endswith("the line above does it")


# As people have them in scripts, with kubectl's part played by echo and printf.
CORPUS = [
    "echo a b | tr a-z A-Z 2>/dev/null; echo end > x",
    "echo first && echo second | tr a-z A-Z > x",
    "cat /nowhere 2>/dev/null || echo '{}' > x",
    'echo \'{"a": "it\'"\'"\'s"}\' || echo "{}" > x',
    "echo \"$(echo $POD | cut -d- -f1)\" 'single $POD' > x",
    "echo `echo 'b c'` | tr ' ' '\\n' > x",
    "echo $((40 + 2)) > x",
    'echo ${POD%-*} ${POD##*-} ${#POD} ${NOPE:-\'a  b\'} "${NOPE:-"c  d"}" ${NOPE:-$POD} > x',
    "echo {a,b}{1..3} | tr ' ' '\\n' > x",
    "echo $FLAGS$EMPTY $EMPTY end > x",
    "printf '%s\\n' $FLAGS | wc -l > x",
    "printf '<%s>\\n' $EMPTY a > x",
    'for a in 1 2 3; do echo "$a"; done | sort -r > x',
    'for a in 1 2 3\ndo\n  echo "$a\'" # each\ndone > x',
    "if test -n \"$POD\"; then echo 'yes'; else echo no; fi > x",
    "printf 'a 1\\nb 2\\n' | while read -r name value; do echo \"$value $name\"; done | sort > x",
    "case $POD in web-*) echo 'a web';; *) echo other;; esac > x",
    "{ echo a; echo 'b'; } | tr ab cd > x",
    "( cd /; pwd ) > x",
    "cat <(echo a) <(echo 'b') > x",
    "printf '%s' --file=<(echo a)b | cut -c -16 > x",
    "tr a-z A-Z <<< \"$POD 'x'\" > x",
    "tr a-z A-Z < /dev/null | cat - /dev/null | wc -c > x",
    "cat /nowhere 2>&1 | sed 's/.*: //' > x",
    "sh -c 'echo out; echo err >&2' > x 2>&1",
    "A=1 B='2 3' sh -c 'echo $A $B' > x",
    "A=$(echo '1 2'); echo \"$A\" > x",
    "A=1; B=2; echo $A$B > x",
    "cd . && basename / > x",
    "set -o pipefail; echo a | cat > x",
    "echo $'a\\tb' \"$\"'c' > x",
    "echo ~root/a b~ > x",
    "[[ $POD == web-* ]] && echo 'matches' > x",
    "! test -z \"$POD\" && echo 'is set' > x",
    "echo a |& cat > x",
    "echo a & wait; echo b > x",
    "echo 'a' > x;",
    "echo \\\n  'a' |\n  # why\n  cat; echo \"b\" \\\n  > x",
    "echo a > y; cat y - < y > x",
    "time echo 'a' | cat > x",
]


def content(line: str, folder: Path) -> bytes | None:
    """Let bash run a line; what is in x then."""
    folder.mkdir()
    subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return (folder / "x").read_bytes() if (folder / "x").exists() else None


@pytest.mark.parametrize("line", CORPUS)
def test_bash_does_with_the_line_that_is_written_out_what_it_does_with_the_refused_one(
    line: str, tmp_path: Path
) -> None:
    written = way_out(line)
    assert load(written, environ=ENVIRON)
    # In sh only the last one's output would go into the file: nobody means that by ||, and the text says so.
    meant = "{ " + line.replace(" > x", "; } > x") if "||" in line else line
    expected = content(meant, tmp_path / "meant")
    assert expected
    assert content(written, tmp_path / "written") == expected
