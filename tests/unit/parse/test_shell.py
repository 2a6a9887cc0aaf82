"""Words, quotes and variables, and everything of a shell that a task line does not have."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.parse.loading import argvs, found, load, refusals

WORDS = [
    ("p a  b\tc > x", ("p", "a", "b", "c")),
    ("p 'a  b' > x", ("p", "a  b")),
    ('p "a  b" > x', ("p", "a  b")),
    ("p a\\ b > x", ("p", "a b")),
    ("p a'b'\"c\"\\d > x", ("p", "abcd")),
    ("p '' \"\" ''\"\" > x", ("p", "", "", "")),
    (r"""p "\$ \` \" \\ \a \'" > x""", ("p", r"""$ ` " \ \a \'""")),
    (r"p '\$ \' > x", ("p", r"\$ \ ".strip())),
    ("p 'a\nb' > x", ("p", "a\nb")),
    ('p "a\\\nb" > x', ("p", "ab")),
    ("p a\\\nb \\\n c > x", ("p", "ab", "c")),
    ("p $MYPOD ${MYPOD} a${MYNS}b > x", ("p", "web-1", "web-1", "ashopb")),
    ("p \"$MYPOD\" '$MYPOD' \\$MYPOD > x", ("p", "web-1", "$MYPOD", "$MYPOD")),
    ('p "$EMPTY" $EMPTY"" a$EMPTY $MYNS$EMPTY > x', ("p", "", "", "a", "shop")),
    ('p "$BLANKS" "${BLANKS}" > x', ("p", "-n demo", "-n demo")),
    (
        'p ${UNSET:-a} "${UNSET:-a b}" "${EMPTY:-a}" ${MYPOD:-b} "${UNSET:-}" > x',
        ("p", "a", "a b", "a", "web-1", ""),
    ),
    ("p $ a$ \"$\" '$' $/ $. \"$'a'\" > x", ("p", "$", "a$", "$", "$", "$/", "$.", "$'a'")),
    ("p *.? [a-z]* > x", ("p", "*.?", "[a-z]*")),
    (
        "p {.status.phase} {} {a} {a,b a,b} {1..} {.a},{.b} {..a} > x",
        ("p", "{.status.phase}", "{}", "{a}", "{a,b", "a,b}", "{1..}", "{.a},{.b}", "{..a}"),
    ),
    ("p '{a,b}' {a\\,b} \"{1..3}\" > x", ("p", "{a,b}", "{a,b}", "{1..3}")),
    ("p a#b \\#c '#d' > x # e", ("p", "a#b", "#c", "#d")),
    ("p a~b '~' \\~ a=b --c=d > x", ("p", "a~b", "~", "~", "a=b", "--c=d")),
    ("p if then ! [[ { } > x", ("p", "if", "then", "!", "[[", "{", "}")),
    ("'if' a > x", ("if", "a")),
    ('p "<(a)" "$MYNS>(a)" \'>(a\' \\<\\(a > x', ("p", "<(a)", "shop>(a)", ">(a", "<(a")),
    ("p \u00a0\u2028ü漢🙂 > x", ("p", "\u00a0\u2028ü漢🙂")),
    ("p @watch > x", ("p", "@watch")),
    ("p a\\\n#b > x", ("p", "a#b")),
    ("p $MYPOD\\\n  -n $MYNS > x", ("p", "web-1", "-n", "shop")),
]


@pytest.mark.parametrize(("line", "argv"), WORDS)
def test_words_are_what_sh_makes_of_them(line: str, argv: tuple[str, ...]) -> None:
    assert argvs(line) == [argv]


def test_comments_blank_lines_and_line_ends_after_a_pipe_are_as_in_sh() -> None:
    text = "# first\n\n  # second\np a |\n\n  # within\n  q b \\\n  c > x  # last\n\n"
    assert argvs(text) == [("p", "a"), ("q", "b", "c")]


def test_the_value_of_a_variable_is_not_read_again() -> None:
    value = "$B`c`'d'|>{1,2}~*#\\"
    assert argvs('p $A "$A" > x', environ={"A": value}) == [("p", value, value)]


NAMES = "only $NAME, ${NAME} and ${NAME:-word} are known, the word without quotes and $"
STDERR = "redirects, but standard error goes to the log; leave it out, or write 2>/dev/null"
OUTPUT = "an output is always replaced as a whole, without stderr; write > PATH"
JOINS = "joins commands, but a task is one pipeline"
RUNS = "runs a command, which needs a shell"
LEFT = "Kubernetes left `$({0})` unexpanded; is {0} in the container's env?"
GROUPS = "groups commands, which needs a shell; quote the word"
READS = "reads a file into a stage; name the file in its words"
PARAMETER = "is a parameter of a script, and a task has none; use a variable"
LANGUAGE = "is part of a shell's language; quote the word"
STRAY = "is part of a shell's language, and nothing begins before it; quote the word"
BRACES = "bash makes several words of these braces, sh does not; write the words or quote the braces"
TILDE = "~ is a home directory in a shell; write the path, or '~'"
SETS = "sets a variable of a shell; set it in the container's env"
UNSET = "${0} is not set; is it in the container's env? ${{{0}:-word}} gives a default"
JQ = "$x is not set; if it is a variable of jq, put the jq program in single quotes"
HOLDS = "the value of ${0} holds blanks, of which sh makes several words"
HOLDS += '; write "{1}", or a variable for each word'
BYTES = "holds a NUL, a byte that is not UTF-8 or a byte order mark; save it without"
EMPTY = '`{0}` is empty, and sh drops an empty unquoted word; give it a value, or put "…" around it'
REFUSED = [
    ("p >> x", f"3: `>>`: {OUTPUT}"),
    ("p >| x", f"3: `>|`: {OUTPUT}"),
    ("p &> x", f"3: `&>`: {OUTPUT}"),
    ("p >& x", f"3: `>&`: {OUTPUT}"),
    ("p < in > x", f"3: `<` {READS}"),
    ("p <<< word > x", f"3: `<<<` {READS}"),
    ("p <> f > x", f"3: `<>` {READS}"),
    ("p <in>x", f"3: `<` {READS}"),
    ("p <<EOF > x", "3: `<<` reads the lines that follow, but a task is one line; put them into a file"),
    ("p 2> err > x", f"3: `2>` {STDERR}"),
    ("p 2>> err > x", f"3: `2>>` {STDERR}"),
    ("p 2>/dev/nullx > x", f"3: `2>` {STDERR}"),
    ("p 2>&1 | q > x", f"3: `2>&1` {STDERR}"),
    ("p > x 2>&1", f"7: `2>&1` {STDERR}"),
    ("p 1>&2 | q > x", f"3: `1>&2` {STDERR}"),
    ("p >&2 | q > x", f"3: `>&2` {STDERR}"),
    ("p 2>&- > x", f"3: `2>&-` {STDERR}"),
    ("p 12>y > x", f"3: `12>` {STDERR}"),
    ("p {fd}>y > x", f"3: `{{fd}}>` {STDERR}"),
    ("p |& q > x", f"3: `|&` {JOINS}"),
    ("p && q > x", f"3: `&&` {JOINS}"),
    ("p || q > x", f"3: `||` {JOINS}"),
    ("p ; q > x", f"3: `;` {JOINS}"),
    ("p > x;", f"6: `;` {JOINS}"),
    ("p & q > x", f"3: `&` {JOINS}"),
    ("p > x &", f"7: `&` {JOINS}"),
    ("p $(date) > x", f"3: {LEFT.format('date')}"),
    ('p "$(MYPOD)" > x', f"4: {LEFT.format('MYPOD')}"),
    ("p $(date +%s) > x", f"3: `$(` {RUNS}"),
    ("p $((1+2)) > x", f"3: `$((` {RUNS}"),
    ("p `date` > x", f"3: a backtick {RUNS}; write '`'"),
    ('p "`date`" > x', f"4: a backtick {RUNS}; write '`'"),
    ("p $[1+2] > x", "3: `$[` means something here in bash but not in sh; write '$'"),
    ('p "$[1+2]" > x', "4: `$[` means something here in bash but not in sh; write '$'"),
    ("p $'a' > x", "3: `$` means something here in bash but not in sh; write '$'"),
    ('p $"a" > x', "3: `$` means something here in bash but not in sh; write '$'"),
    ("( p ) > x", f"1: `(` {GROUPS}"),
    ("p (a) > x", f"3: `(` {GROUPS}"),
    ("p <(q) --a=<(q 'r)') > x", f"3: `<(` {RUNS}", f"12: `<(` {RUNS}"),
    ("p ) > x", f"3: `)` {STRAY}"),
    ("{ p; } > x", f"1: `{{` {LANGUAGE}"),
    ("if p; then q; fi > x", f"1: `if` {LANGUAGE}"),
    ("p | while read a; do q $a; done > x", f"5: `while` {LANGUAGE}"),
    ("for a in 1 2\ndo\n p $a # ;\ndone > x", f"1: `for` {LANGUAGE}"),
    ("case a in a) p;; esac > x", f"1: `case` {LANGUAGE}"),
    ("! p > x", f"1: `!` {LANGUAGE}"),
    ("p | time q > x", f"5: `time` {LANGUAGE}"),
    ("[[ p ]] > x", f"1: `[[` {LANGUAGE}"),
    ("i\\\nn > x", f"1: `i\\␊n` {STRAY}"),
    ("done > x", f"1: `done` {STRAY}"),
    ("} > x", f"1: `}}` {STRAY}"),
    ("if p > x", "1: this `if` has no fi"),
    ("p | for > x", "5: this `for` has no done"),
    ("p {a,b} > x", f"3: {BRACES}"),
    ("p x{1..3}y > x", f"3: {BRACES}"),
    ("p {a..c..2} {{a},b} > x", f"3: {BRACES}", f"13: {BRACES}"),
    ("p > {a,b}", f"5: {BRACES}"),
    ("NAME=value p > x", f"1: `NAME=value` {SETS}"),
    ("NAME+=value p > x", f"1: `NAME+=value` {SETS}"),
    ("a[0]=b p > x", f"1: `a[0]=b` {SETS}"),
    ("p | a\\\n=b q > x", f"5: `a\\␊=b` {SETS}"),
    ("~/bin/p > x", f"1: {TILDE}"),
    ("p ~ > x", f"3: {TILDE}"),
    ("p --config=~/x a:\\\n~ > x", f"3: {TILDE}", f"16: {TILDE}"),
    ("p 'abc > x", "3: this ' is never closed"),
    ('p "abc > x', '3: this " is never closed'),
    ("p ${MYPOD > x", "3: this `${` is never closed"),
    ("p $(a 'b) > x", "3: this `$(a 'b) > x` is never closed"),
    ("p \\", "3: this \\ is never closed"),
    ("p $UNSET > x", f"3: {UNSET.format('UNSET')}"),
    ('p "$UNSET" > x', f"4: {UNSET.format('UNSET')}"),
    ('jq ".a | $x" > x', f"10: {JQ}"),
    ('/usr/bin/jq "${x}" > x', f"14: {JQ}"),
    ("jq .$x > x", f"5: {UNSET.format('x')}"),
    ('jq "$x" | p "$b" > x', f"5: {JQ}", f"14: {UNSET.format('b')}"),
    ("p $BROKEN > x", "3: the value of $BROKEN is not UTF-8 text; no program can take it"),
    ("p $BLANKS > x", f"3: {HOLDS.format('BLANKS', '$BLANKS')}"),
    ("p a${BLANKS}b > x", f"4: {HOLDS.format('{BLANKS}', '${BLANKS}')}"),
    ("p ${UNSET:-a b} > x", f"3: {HOLDS.format('{UNSET:-a b}', '${UNSET:-a b}')}"),
    ("$BLANKS p > x", f"1: {HOLDS.format('BLANKS', '$BLANKS')}"),
    ("p $EMPTY > x", f"3: {EMPTY.format('$EMPTY')}"),
    ("p $EMPTY${EMPTY} > x", f"3: {EMPTY.format('$EMPTY${EMPTY}')}"),
    ("p ${UNSET:-} > x", f"3: {EMPTY.format('${UNSET:-}')}"),
    ("$EMPTY p > x", f"1: {EMPTY.format('$EMPTY')}"),
    ("p $1 $2 > x", f"3: `$1` {PARAMETER}", f"6: `$2` {PARAMETER}"),
    ('p $@ "$*" > x', f"3: `$@` {PARAMETER}", f"7: `$*` {PARAMETER}"),
    *((f"p ${sign} > x", f"3: `${sign}` {PARAMETER}") for sign in "?#!-$"),
    *((f"p {word} > x", f"3: {NAMES}") for word in (
        "${#MYPOD}", "${MYPOD%y}", "${MYPOD-y}", "${MYPOD:=y}", "${MYPOD:?y}", "${MYPOD:+y}", "${MYPOD/a/b}",
        "${!MYPOD}", "${1}", "${}", "${MYPOD:-'a'}", '${MYPOD:-"a"}', "${MYPOD:-$MYNS}", "${MYPOD:-${MYNS}}",
        "${MYPOD:-\\a}", "${MYPOD:-~}", "${MYPOD:-a(b}", "${MYPOD:-{a}", "${MYPOD:-a\tb}",
    )),
    ('p "${MYPOD:-$MYNS}" > x', f"4: {NAMES}"),
    ("p $MY\\\nPOD > x", "3: a name goes on in the next line; write it in one, or as ${NAME}"),
    ('p "$\\\nMYPOD" > x', "4: a name goes on in the next line; write it in one, or as ${NAME}"),
    ("p >\\\n> x", "3: `>\\␊>` goes on in the next line; join it"),
    ("p 2\\\n> y > x", "3: `2\\␊>` goes on in the next line; join it"),
    ("p <name> > x", "3: `<name>`: a placeholder? Replace it by what it stands for"),
    ("p pod/<pod name> > x", "7: `<pod name>`: a placeholder? Replace it by what it stands for"),
    ("p \udcff > x", f"3: `\ufffd` {BYTES}"),
    ("p a\0b > x", f"3: `a␀b` {BYTES}"),
    ("\ufeffp > x", f"1: `\ufffdp` {BYTES}"),
]  # fmt: skip


@pytest.mark.parametrize("line_and_messages", REFUSED, ids=lambda pair: repr(pair[0]))
def test_what_a_shell_would_do_is_refused_with_place_and_way_out(line_and_messages: tuple[str, ...]) -> None:
    line, *messages = line_and_messages
    at_first = [text for text in refusals(line) if not text.startswith("2:") or "\\\n" not in line]
    # The ways out that bash is are tested in test_ways_out.
    ways_out = re.compile("; (?:ready to paste|the line above|use bash).*", re.DOTALL)
    texts = [ways_out.sub("", text) for text in at_first]
    texts = [text.split("? ready to paste")[0] + "?" if "? ready" in text else text for text in texts]
    assert texts == [f"1:{message}" for message in messages]


def test_a_refused_line_does_not_hide_the_problems_of_the_next() -> None:
    text = "p; q > x\np 'a\nb'; c > y\np $UNSET > z"
    assert [refusal[:4] for refusal in refusals(text)] == ["1:2:", "3:3:", "4:3:"]


def test_reading_ends_at_a_quote_that_is_never_closed() -> None:
    text = "p > x\np $UNSET 'a > y\np >> z\n"
    assert refusals(text) == [f"2:3: {UNSET.format('UNSET')}", "2:10: this ' is never closed"]


def test_a_refused_operator_hides_nothing_else_in_its_line() -> None:
    text = "p 2> err $1 ~ | q $UNSET | kubectl get -w || r {a,b} > ../x"
    assert [refusal.split(" ")[0] for refusal in refusals(text)] == [
        "1:3:", "1:10:", "1:13:", "1:19:", "1:40:", "1:43:", "1:48:", "1:56:"
    ]  # fmt: skip


def test_a_command_over_several_lines_is_one_line() -> None:
    text = "for i in a b; do  # why\n  if p; then\n    echo 'x\ny' done\n  fi\ndone > x\nq > y\n"
    (refusal,) = refusals(text)
    assert refusal.startswith("1:1: `for` is part of a shell's language")
    assert [task.output for task in found(text).tasks] == ["y"]


def test_a_variable_that_the_line_sets_itself_is_not_missed() -> None:
    assert not any("not set" in refusal for refusal in refusals("a=1; p $a > x"))
    assert not any("not set" in refusal for refusal in refusals("for a in 1; do p $a; done > x"))
    assert any("$b is not set" in refusal for refusal in refusals("a=1; p $b > x"))
    assert refusals("p a=1 $a > x") == [f"1:7: {UNSET.format('a')}"]


def test_an_unset_variable_stands_as_it_is_written_where_it_may_be_unset() -> None:
    (task,) = load('kubectl get $A "${A}-$MYPOD" ${B:-c} $EMPTY"" > $A.json', allow_unset=True)
    (stage,) = task.stages
    assert stage.argv == ("kubectl", "get", "$A", "${A}-web-1", "c", "")
    assert stage.unset == {2, 3}
    assert task.output == "$A.json"
    assert found("$A p > x", allow_unset=True).stages == []
    assert [stage.argv for stage in found("jq .[$A] | p > x", allow_unset=True).stages] == [("jq",), ("p",)]


def test_bash_is_no_way_out_for_a_value_that_no_program_can_take() -> None:
    assert refusals("p $BROKEN > x") == [
        "1:3: the value of $BROKEN is not UTF-8 text; no program can take it"
    ]


def test_a_stage_says_whether_a_value_of_the_environment_is_in_it() -> None:
    (task,) = load("p '$x' \\$x | q $MYPOD | r ${NO:-word} \"$EMPTY\" | s > x")
    assert [stage.expanded for stage in task.stages] == [False, True, False, False]


def test_standard_error_that_is_thrown_away_is_a_property_of_its_stage() -> None:
    (task,) = load("p a 2>/dev/null b | 2>  /dev/null q | r > x 2>\\\n/dev/null")
    assert [(stage.argv, stage.quiet) for stage in task.stages] == [
        (("p", "a", "b"), True),
        (("q",), True),
        (("r",), True),
    ]
    assert not load("p '2>/dev/null' 2 > x")[0].stages[0].quiet


def test_control_characters_do_not_reach_the_terminal() -> None:
    (problem,) = found("p \x1b[31m\x9b\u202e\x7f >> x").problems
    assert str(problem).split("\n")[1:] == ["    p ␛[31m\ufffd\ufffd␡ >> x", "               ^"]


def test_a_long_line_is_clipped_around_the_caret() -> None:
    (problem,) = found("p " + "a" * 5000 + " $UNSET " + "b" * 5000 + " > x").problems
    _, shown, caret = str(problem).split("\n")
    assert shown == "    …" + "a" * 78 + " $UNSET " + "b" * 72 + "…"
    assert shown[caret.index("^") :].startswith("$UNSET")
    (problem,) = found("p " + "a" * 5000 + " $UNSET > x").problems
    assert str(problem).split("\n")[1] == "    …" + "a" * 148 + " $UNSET > x"


def test_tabs_keep_the_caret_in_place() -> None:
    (problem,) = found("p\t>> x").problems
    assert str(problem).split("\n")[1:] == ["    p\t>> x", "     \t^"]


def test_values_of_the_environment_are_in_no_message() -> None:
    lines = [
        "@every $SECRET p > a", "@mode $SECRET p > b", "@on-missing ${SECRET} p > c", "p | $SECRET | > d",
        "p $SECRET; > e", "p > ../$SECRET", "p > $SECRET/.", "$SECRET -w >", 'p "$SECRET$NO" > f',
        "a=$SECRET p > g", "kubectl -w $SECRET > h", "@watch p $SECRET > i", "p $SECRET $BLANKS > $SECRET",
    ]  # fmt: skip
    for line in lines:
        text = "\n".join(map(str, found(line).problems))
        assert text, line
        assert "hunter2" not in text


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
    lines = "\n".join(f"p {word} > x" for word in words)
    refused = {problem.where.line for problem in found(lines).problems if "braces" in problem.text}
    pairs = enumerate(zip(words, answers, strict=True), 1)
    return [word for line, (word, answer) in pairs if answer != f"1 {word}" and line not in refused]


@pytest.mark.slow
def test_no_braces_that_bash_expands_are_missed(tmp_path: Path) -> None:
    assert not braces_disagree("{},.a1", 4, tmp_path)


@pytest.mark.slow
def test_no_longer_braces_that_bash_expands_are_missed(tmp_path: Path) -> None:
    assert not braces_disagree("{},.a1", 7, tmp_path)
