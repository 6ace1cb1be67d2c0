"""RE2's syntax, its errors in Go's words (regexp/syntax), and matching that no expression makes slow."""

from __future__ import annotations

import gzip
import re
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minik8s.api import automaton, generate_unicode, regex


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("a[b", "missing closing ]: `[b`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("(([a-z]{1,1000})*){1,1000}b", "invalid repeat count: `{1,1000}`"),
        ("((a{10}){10}){11}?", "invalid repeat count: `{11}?`"),
        ("(a{100}|b{2,})((c{10,}){101}d){0}", "invalid repeat count: `{101}`"),
        ("(" * 30 + "a" + "{2,})" * 30, "invalid repeat count: `{2,}`"),
        (
            "([a-z]{1000}|[a-y]{1000})(c{1000}){0,1}" * 9,
            f"expression too large: `{'([a-z]{1000}|[a-y]{1000})(c{1000}){0,1}' * 9}`",
        ),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("\\y", "invalid escape sequence: `\\y`"),
        ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(" * 500 + "a" + ")" * 500, f"expression nests too deeply: `{'(' * 500}a{')' * 500}`"),
        ("(?i)" * 500, f"expression nests too deeply: `{'(?i)' * 399}`"),
        ("[a-z]|" * 3000, f"expression too large: `{'[a-z]|' * 3000}`"),
    ],
)
def test_errors_are_told_as_go_tells_them(expression: str, message: str) -> None:
    with pytest.raises(regex.RegexError) as raised:
        regex.check(expression)
    assert str(raised.value) == f"error parsing regexp: {message}"


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("^a$", "a\n", False),
        ("(?i)^ABC$", "abc", True),
        ("a(?i)b", "aB", True),
        ("a(?i)b", "AB", False),
        ("^[[:alpha:]]+$", "abc", True),
        ("^[[:^alpha:]]+$", "abc", False),
        (r"^\p{Lu}\pL*$", "Äbc", True),
        (r"^\PL$", "1", True),
        (r"\Aa\.b\z", "a.b", True),
        (r"^\Qa.b\E$", "a.b", True),
        ("^a{,2}$", "a{,2}", True),
        ("(?P<x>a)b", "ab", True),
        (r"^\d$", "\u0663", False),
        ("^.$", "\n", False),
        ("(?s)^.$", "\n", True),
        ("(?m)^b$", "a\nb\nc", True),
        (r"\bfoo\b", "a foo b", True),
        ("[]a]", "]", True),
        ("[a-]", "-", True),
        ("^*a", "ba", True),
        (r"\b+a$?", "ba", False),
        (r"^(\z){2}$", "", True),
        ("((a{5}){5}){5}", "a" * 125, True),
    ],
)
def test_expressions_mean_what_they_mean_in_re2(expression: str, text: str, found: bool) -> None:
    assert regex.matcher(expression)(text) is found
    assert automaton.Automaton(regex._translated(expression)).search(text) is found


def test_the_table_of_characters() -> None:
    written = orjson.loads(gzip.decompress(generate_unicode.FILE.read_bytes()))
    if written["version"] == unicodedata.unidata_version:
        assert written == generate_unicode.generate(), "python -m minik8s.api.generate_unicode"
    for name, text in (("L", "aß中"), ("Nd", "5٣"), ("Latin", "éﬀ"), ("Han", "中"), ("Old_Italic", "𐌀"), ("C", "\n\ue000")):
        assert regex.matcher(rf"^\p{{{name}}}+$")(text)
        assert not regex.matcher(rf"^\p{{{name}}}$")("!")
    for name in ("version", "X", "Klingon"):
        with pytest.raises(regex.RegexError):
            regex.check(rf"\p{{{name}}}")


PIECES = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", "^", "$", r"\b", r"\w", "(a|b)", "(ab|a)", "(?i:B)"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "*?"])
EXPRESSIONS = st.recursive(
    st.tuples(PIECES, REPEATS).map("".join),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join).map(lambda text: f"({text})*" if len(text) < 12 else text)
    ),
    max_leaves=4,
)


@given(EXPRESSIONS, st.text("abB \n", max_size=8))
def test_the_automaton_finds_what_re_finds(expression: str, text: str) -> None:
    try:
        translated = regex._translated(expression)
    except regex.RegexError:
        return
    assert automaton.Automaton(translated).search(text) is (re.search(translated, text, re.ASCII) is not None)


@pytest.mark.parametrize("expression", ["^(a+)+$", "(a|aa)+$", "^(a*)*b", "a*a*a*a*b", "(x+x+)+y"])
@pytest.mark.timeout(60)  # what goes back takes for ever
def test_no_expression_is_slow(expression: str) -> None:
    regex.matcher(expression)("a" * 5000 + "!")
    regex.matcher(expression)("x" * 5000)


@pytest.mark.skipif(regex.re2 is not None, reason="RE2 finds anything in time")
@pytest.mark.parametrize("expression", ["^(a+)+$", "^(a|a)*$", "a*a*a*b"])
def test_what_could_take_too_long_to_find_is_refused(expression: str) -> None:
    """`matcher` says whether, in linear time; where it is only `re` says."""
    text = "a" * 400 + "!"
    assert not regex.matcher(expression)(text)
    with pytest.raises(regex.RegexError, match="too expensive"):
        regex.finder(expression, text)
    assert regex.finder(expression, "aab")
    assert regex.finder("[0-9]+[.][0-9]+[.][0-9]+", "v1.22.3-x" * 5).search("v1.22.3-x").group() == "1.22.3"
