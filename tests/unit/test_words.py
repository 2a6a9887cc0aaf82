"""Words, quotes and variables, and everything of a shell that a task line does not have."""

from __future__ import annotations

import pytest

from tests.unit.loading import argvs, load, placed, refusal

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
    ('p $EMPTY "$EMPTY" > x', ("p", "", "")),
    ("p ${UNSET:-a b} ${UNSET:-'a b'} ${UNSET:-\"a b\"} > x", ("p", "a b", "a b", "a b")),
    ('p "${UNSET:-a b}" "${UNSET:-"a b"}" > x', ("p", "a b", "a b")),
    (
        "p ${EMPTY:-$MYPOD} ${MYPOD:-$UNSET} ${UNSET:-${EMPTY:-x}y} ${UNSET:-} > x",
        ("p", "web-1", "web-1", "xy", ""),
    ),
    ("p $ a$ \"$\" '$' $/ $. \"$'a'\" > x", ("p", "$", "a$", "$", "$", "$/", "$.", "$'a'")),
    ("p *.? [a-z]* > x", ("p", "*.?", "[a-z]*")),
    (
        "p {.status.phase} {} {a} {a,b a,b} {1..} {.a},{.b} > x",
        ("p", "{.status.phase}", "{}", "{a}", "{a,b", "a,b}", "{1..}", "{.a},{.b}"),
    ),
    ("p '{a,b}' {a\\,b} \"{1..3}\" > x", ("p", "{a,b}", "{a,b}", "{1..3}")),
    ("p a#b \\#c '#d' > x # e", ("p", "a#b", "#c", "#d")),
    ("p a~b '~' \\~ a=b --c=d > x", ("p", "a~b", "~", "~", "a=b", "--c=d")),
    ("p if then ! [[ { } > x", ("p", "if", "then", "!", "[[", "{", "}")),
    ("'if' a > x", ("if", "a")),
    ("p \u00a0\u2028ü漢🙂 > x", ("p", "\u00a0\u2028ü漢🙂")),
    ("p @watch > x", ("p", "@watch")),
]


@pytest.mark.parametrize(("line", "argv"), WORDS)
def test_words_are_what_sh_makes_of_them(line: str, argv: tuple[str, ...]) -> None:
    assert argvs(line) == [argv]


REFUSED = [
    (
        'p "${MYPOD:-$""}" > x',
        13,
        "shells differ about `$` in a default word that is in double quotes; leave it out",
    ),
    (
        'p "${MYPOD:-a<(b}" > x',
        14,
        "shells differ about `<` in a default word that is in double quotes; leave it out",
    ),
    (
        "p ${MYPOD:-\\\x01} > x",
        12,
        "shells differ about `\\` in a default word; put the word in double quotes",
    ),
    ("p >> x", 3, "`>>` appends, but an output is always replaced as a whole; write > PATH"),
    ("p < in > x", 3, "`<` reads a file into a stage; name the file in its words, or use bash -c '… < …'"),
    ("p <in", 3, "`<` reads a file into a stage; name the file in its words, or use bash -c '… < …'"),
    ("p <<EOF > x", 3, "`<<` reads a file into a stage; name the file in its words, or use bash -c '… << …'"),
    (
        "p <<< word > x",
        3,
        "`<<<` reads a file into a stage; name the file in its words, or use bash -c '… <<< …'",
    ),
    ("p <> f > x", 3, "`<>` reads a file into a stage; name the file in its words, or use bash -c '… <> …'"),
    (
        "p 2> /dev/null > x",
        3,
        "`2>` redirects, but standard error goes to the log; leave it out, or use bash -c '… 2> …'",
    ),
    (
        "p 2>&1 | q > x",
        3,
        "`2>&` redirects, but standard error goes to the log; leave it out, or use bash -c '… 2>& …'",
    ),
    (
        "p > x 2>&1",
        7,
        "`2>&` redirects, but standard error goes to the log; leave it out, or use bash -c '… 2>& …'",
    ),
    (
        "p 12>y > x",
        3,
        "`12>` redirects, but standard error goes to the log; leave it out, or use bash -c '… 12> …'",
    ),
    (
        "p {fd}> x",
        3,
        "`{fd}>` redirects, but standard error goes to the log; leave it out, or use bash -c '… {fd}> …'",
    ),
    (
        "p &> x",
        3,
        "`&>` redirects, but standard error goes to the log; leave it out, or use bash -c '… &> …'",
    ),
    ("p >| x", 3, "`>|` overrides a setting of a shell, and there is none; write > PATH"),
    ("p |& q > x", 3, "`|&` sends standard error down the pipe; write |, or use bash -c '… 2>&1' as a stage"),
    ("p && q > x", 3, "`&&` joins commands, but a task is one pipeline; use bash -c '… && …' as a stage"),
    ("p || q > x", 3, "`||` joins commands, but a task is one pipeline; use bash -c '… || …' as a stage"),
    ("p ; q > x", 3, "`;` joins commands, but a task is one pipeline; use bash -c '… ; …' as a stage"),
    ("p > x;", 6, "`;` joins commands, but a task is one pipeline; use bash -c '… ; …' as a stage"),
    ("p & > x", 3, "`&` joins commands, but a task is one pipeline; use bash -c '… & …' as a stage"),
    (
        "p $(date) > x",
        3,
        "Kubernetes left this unexpanded; is date in the container's env? (a command needs bash -c '…')",
    ),
    (
        'p "$(date)" > x',
        4,
        "Kubernetes left this unexpanded; is date in the container's env? (a command needs bash -c '…')",
    ),
    (
        "p $(MYPOD) > x",
        3,
        "Kubernetes left this unexpanded; is MYPOD in the container's env? (a command needs bash -c '…')",
    ),
    (
        'p "$(MYPOD)" > x',
        4,
        "Kubernetes left this unexpanded; is MYPOD in the container's env? (a command needs bash -c '…')",
    ),
    (
        "p `date` > x",
        3,
        "a backtick runs a command, which needs a shell; use bash -c '…' as a stage, or write '`'",
    ),
    (
        'p "`date`" > x',
        4,
        "a backtick runs a command, which needs a shell; use bash -c '…' as a stage, or write '`'",
    ),
    ("p $((1+2)) > x", 3, "$((…)) is arithmetic, which needs a shell; use bash -c '…' as a stage"),
    ("p $[1+2] > x", 3, "$[ is arithmetic in bash but not in sh; write '$['"),
    (
        "( p ) > x",
        1,
        "`(` groups commands, which needs a shell; quote the word, or use bash -c '…' as a stage",
    ),
    (
        "p (a) > x",
        3,
        "`(` groups commands, which needs a shell; quote the word, or use bash -c '…' as a stage",
    ),
    (
        "((p)) > x",
        1,
        "`((` groups commands, which needs a shell; quote the word, or use bash -c '…' as a stage",
    ),
    (
        "p <(q) > x",
        3,
        "`<(` groups commands, which needs a shell; quote the word, or use bash -c '…' as a stage",
    ),
    ("{ p; } > x", 1, "`{` is part of a shell's language; quote the word, or use bash -c '… { …'"),
    (
        "p {a,b} > x",
        3,
        "bash makes several words of these braces, sh does not; write the words or quote the braces",
    ),
    (
        "p x{1..3}y > x",
        4,
        "bash makes several words of these braces, sh does not; write the words or quote the braces",
    ),
    (
        "p {a..c..2} > x",
        3,
        "bash makes several words of these braces, sh does not; write the words or quote the braces",
    ),
    (
        "p > {a,b}",
        5,
        "bash makes several words of these braces, sh does not; write the words or quote the braces",
    ),
    ("NAME=value p > x", 1, "`NAME=value` sets a variable, which needs a shell; write env before it"),
    ("NAME+=value p > x", 1, "`NAME+=value` sets a variable, which needs a shell; write env before it"),
    ("a[0]=b p > x", 1, "`a[0]=b` sets a variable, which needs a shell; write env before it"),
    ("~/bin/p > x", 1, "~ is a home directory in a shell; write the path, or '~'"),
    ("p ~ > x", 3, "~ is a home directory in a shell; write the path, or '~'"),
    ("p --config=~/x > x", 12, "~ is a home directory in a shell; write the path, or '~'"),
    ("p PATH=a:~/b > x", 10, "~ is a home directory in a shell; write the path, or '~'"),
    ("p 'abc > x", 3, "this ' is never closed"),
    ('p "abc > x', 3, 'this " is never closed'),
    (
        "p ${MYPOD > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    ("p ${MYPOD:-abc > x", 3, "this ${ is never closed"),
    ("p $UNSET > x", 3, "$UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default"),
    ('p "$UNSET" > x', 4, "$UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default"),
    ('jq ".a | $x" > x', 10, "$x is not set; if it is a variable of jq, put the jq program in single quotes"),
    (
        '/usr/bin/jq "${x}" > x',
        14,
        "$x is not set; if it is a variable of jq, put the jq program in single quotes",
    ),
    ("jq .$x > x", 5, "$x is not set; is it in the container's env? ${x:-word} gives a default"),
    ("p $BROKEN > x", 3, "the value of $BROKEN is not UTF-8 text; no program can be given it"),
    ("p $1 > x", 3, "$1 is a parameter of a shell, and there is none; write '$1'"),
    ('p $@ "$*" > x', 3, "$@ is a parameter of a shell, and there is none; write '$@'"),
    ("p $# > x", 3, "$# is a parameter of a shell, and there is none; write '$#'"),
    ("p $? > x", 3, "$? is a parameter of a shell, and there is none; write '$?'"),
    ("p $$ > x", 3, "$$ is a parameter of a shell, and there is none; write '$$'"),
    ("p $! > x", 3, "$! is a parameter of a shell, and there is none; write '$!'"),
    ("p $- > x", 3, "$- is a parameter of a shell, and there is none; write '$-'"),
    (
        "p ${#MYPOD} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD%y} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD-y} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD:=y} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD:?y} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD:+y} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${MYPOD/a/b} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${!MYPOD} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${1} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    (
        "p ${} > x",
        3,
        "only $NAME, ${NAME} and ${NAME:-word} are known; for others use bash -c '…' as a stage",
    ),
    ("p $'a' > x", 3, "$'…' means something in bash only; write the characters themselves in '…'"),
    ('p $"a" > x', 3, '$"…" means something in bash only; write "…"'),
    ("! p > x", 1, "`!` is part of a shell's language; quote the word, or use bash -c '… ! …'"),
    ("p | ! q > x", 5, "`!` is part of a shell's language; quote the word, or use bash -c '… ! …'"),
    ("if p > x", 1, "`if` is part of a shell's language; quote the word, or use bash -c '… if …'"),
    ("time p > x", 1, "`time` is part of a shell's language; quote the word, or use bash -c '… time …'"),
    ("[[ p ]] > x", 1, "`[[` is part of a shell's language; quote the word, or use bash -c '… [[ …'"),
    ("for > x", 1, "`for` is part of a shell's language; quote the word, or use bash -c '… for …'"),
    ("} > x", 1, "`}` is part of a shell's language; quote the word, or use bash -c '… } …'"),
    ("%1 > x", 1, "`%1` is a job of a shell, and there is none; quote the word"),
    ("p \\", 3, "the text ends with a backslash; remove it, or write '\\'"),
    ("p ${MYPOD:-a(b} > x", 13, "shells differ about `(` in a default word; put the word in double quotes"),
    ("p ${MYPOD:-~} > x", 12, "shells differ about `~` in a default word; put the word in double quotes"),
    ("p ${MYPOD:-{a} > x", 12, "shells differ about `{` in a default word; put the word in double quotes"),
    (
        "p \"${MYPOD:-'a'}\" > x",
        13,
        "shells differ about `'` in a default word that is in double quotes; leave it out",
    ),
    (
        'p "${MYPOD:-"{a"}" > x',
        13,
        'shells differ about `"` in a default word that is in double quotes; leave it out',
    ),
]


@pytest.mark.parametrize(("line", "column", "message"), REFUSED)
def test_what_a_shell_would_do_is_refused_with_place_and_way_out(
    line: str, column: int, message: str
) -> None:
    assert refusal(line) == placed(line.replace("\x01", "␁"), column, message)


def test_comments_blank_lines_and_line_ends_after_a_pipe_are_as_in_sh() -> None:
    text = "# first\n\n  # second\np a |\n\n  # within\n  q b \\\n  c > x  # last\n\n"
    assert argvs(text) == [("p", "a"), ("q", "b", "c")]


def test_a_hash_in_a_continued_word_starts_no_comment() -> None:
    assert argvs("p a\\\n#b > x") == [("p", "a#b")]


def test_the_value_of_a_variable_is_not_read_again() -> None:
    environ = {"A": "$B `c` 'd' | > {1,2} ~ *"}
    assert argvs('p $A "$A" > x', environ=environ) == [("p", environ["A"], environ["A"])]


def test_every_unset_variable_that_would_be_used_is_named() -> None:
    line = "p ${UNSET} ${MYPOD:-$ALSO} ${UNSET:-$ALSO} > x"
    assert refusal(line) == "\n".join(
        placed(
            line,
            column,
            f"${name} is not set; is it in the container's env? ${{{name}:-word}} gives a default",
        )
        for column, name in ((3, "UNSET"), (37, "ALSO"))
    )


def test_a_program_of_jq_in_double_quotes_is_told_of_single_ones_in_its_own_stage_only() -> None:
    line = 'jq "$a" | p "$b" > x'
    assert refusal(line) == "\n".join(
        [
            placed(line, 5, "$a is not set; if it is a variable of jq, put the jq program in single quotes"),
            placed(line, 14, "$b is not set; is it in the container's env? ${b:-word} gives a default"),
        ]
    )


def test_only_the_first_refused_operator_of_a_line_is_reported() -> None:
    line = "p && q; (r) > x"
    message = "`&&` joins commands, but a task is one pipeline; use bash -c '… && …' as a stage"
    assert refusal(line) == placed(line, 3, message)


def test_a_refused_line_does_not_hide_the_problems_of_the_next() -> None:
    text = "p; q > x\np 'a\nb'; c > y\np $UNSET > z"
    joins = "`;` joins commands, but a task is one pipeline; use bash -c '… ; …' as a stage"
    unset = "$UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default"
    assert refusal(text) == "\n".join(
        [placed(text, 2, joins), placed(text, 3, joins, line=3), placed(text, 3, unset, line=4)]
    )


def test_a_lost_quote_is_found_where_it_was_lost_and_the_next_task_is_read() -> None:
    text = "kubectl get a | jq '.b > x\nkubectl get c | jq '.d' > y\nkubectl get e | jq '.f' >> z\n"
    assert refusal(text) == "\n".join(
        [
            placed(text, 20, "this ' is open when the next task starts; close it"),
            placed(
                text, 25, "`>>` appends, but an output is always replaced as a whole; write > PATH", line=3
            ),
        ]
    )


def test_an_operator_split_by_a_continuation_is_one_operator() -> None:
    line = "p >\\\n> x"
    message = "`>>` appends, but an output is always replaced as a whole; write > PATH"
    assert refusal(line) == placed(line, 3, message)


def test_a_name_that_goes_on_in_the_next_line_is_refused() -> None:
    line = "p $MY\\\nPOD > x"
    assert refusal(line) == placed(
        line, 6, "the name $MY goes on in the next line; put it in one, or write ${MY}"
    )


def test_a_variable_may_end_at_a_continuation() -> None:
    assert argvs("p $MYPOD\\\n  -n $MYNS > x") == [("p", "web-1", "-n", "shop")]


def test_deep_nesting_is_refused_and_the_next_line_is_read() -> None:
    text = "p " + "${X:-" * 21 + "}" * 21 + " > x\np >> y"
    assert refusal(text) == "\n".join(
        [
            placed(text, 103, "${…} is nested over 20 deep; simplify it"),
            placed(
                text, 3, "`>>` appends, but an output is always replaced as a whole; write > PATH", line=2
            ),
        ]
    )


def test_windows_line_ends_are_one_problem() -> None:
    text = "p a > x\r\nq $UNSET > y\r\n"
    shown = text.replace("\r", "")
    assert refusal(text) == "\n".join(
        [
            "tasks:1:8: the line ends in CR LF; save with LF line ends\n    p a > x␍\n           ^",
            placed(
                shown,
                3,
                "$UNSET is not set; is it in the container's env? ${UNSET:-word} gives a default",
                line=2,
            ),
        ]
    )


@pytest.mark.parametrize(
    ("text", "column", "came"),
    [
        ("p a\0b > x", 4, "a NUL character came"),
        ("p \udcff > x", 3, "a byte that is not UTF-8 came"),
        ("\ufeffp > x", 1, "a byte order mark came; save without it"),
    ],
)
def test_what_is_not_text_is_refused(text: str, column: int, came: str) -> None:
    shown = text.replace("\0", "␀").replace("\udcff", "\ufffd").replace("\ufeff", "\ufffd")
    assert refusal(text) == placed(shown, column, f"expected text, but {came}")


def test_control_characters_of_a_task_file_do_not_reach_the_terminal() -> None:
    error = refusal("p \x1b[31m\x9b\u202e\x7f >> x")
    assert error.split("\n")[1:] == ["    p ␛[31m\ufffd\ufffd␡ >> x", "               ^"]


def test_a_long_line_is_clipped_around_the_caret() -> None:
    line = "p " + "a" * 5000 + " $UNSET " + "b" * 5000 + " > x"
    _, shown, caret = refusal(line).split("\n")
    assert shown == "    …" + "a" * 78 + " $UNSET " + "b" * 72 + "…"
    assert shown[caret.index("^") :].startswith("$UNSET")


def test_tabs_keep_the_caret_in_place() -> None:
    assert refusal("p\t>> x").split("\n")[1:] == ["    p\t>> x", "     \t^"]


def test_values_of_the_environment_are_in_no_error() -> None:
    lines = [
        "@every $SECRET p > x",
        "@mode $SECRET p > x",
        "@on-missing ${SECRET} p > z",
        "p | $SECRET | > x",
    ]
    lines += [
        "p $SECRET; > y",
        "p > ../$SECRET",
        "p > $SECRET",
        "q > $SECRET",
        "$SECRET -w >",
        'p "$SECRET$NO" > w',
    ]
    assert "hunter2" not in refusal("\n".join(lines))


def test_all_tasks_of_a_good_file_are_read() -> None:
    assert [task.output for task in load("p > a\n\n# b\nq |\n r > c\n")] == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        (
            "i\\\nf p > x",
            1,
            1,
            "`i\\␊f` is part of a shell's language; quote the word, or use bash -c '… if …'",
        ),
        ("a\\\n=b p > x", 1, 1, "`a\\␊=b` sets a variable, which needs a shell; write env before it"),
        ("p a:\\\n~ > x", 2, 1, "~ is a home directory in a shell; write the path, or '~'"),
        (
            "p 2\\\n> x",
            1,
            3,
            "`2>` redirects, but standard error goes to the log; leave it out, or use bash -c '… 2> …'",
        ),
        (
            "p {a\\\n,b} > x",
            1,
            3,
            "bash makes several words of these braces, sh does not; write the words or quote the braces",
        ),
    ],
)
def test_a_continuation_within_a_word_hides_nothing(text: str, line: int, column: int, message: str) -> None:
    assert refusal(text) == placed(text, column, message, line=line)
