"""Properties syntax, rule by rule. That the rules are Java's is tested against Java in
tests/integration/config_java."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.config.java_properties import PropertiesSyntaxError, parse_properties


@pytest.mark.parametrize("line", [b"a=b", b"a:b", b"a b", b"  a = b", b"a\t:\tb", b"a\fb", b"a  b", b"a =b"])
def test_equals_colon_or_blanks_end_a_key(line: bytes) -> None:
    assert parse_properties(line) == {"a": "b"}


def test_only_the_first_separator_separates() -> None:
    assert parse_properties(b"a==b\nc = = d\ne:=f") == {"a": "=b", "c": "= d", "e": "=f"}


def test_a_lone_key_has_an_empty_value_and_a_lone_separator_an_empty_key() -> None:
    assert parse_properties(b"a\n=b") == {"a": "", "": "b"}


def test_blanks_after_a_value_belong_to_it() -> None:
    assert parse_properties(b"a=b  \n") == {"a": "b  "}


def test_escaped_separators_belong_to_the_key() -> None:
    assert parse_properties(rb"a\ b\=c\:d=e") == {"a b=c:d": "e"}


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_counts(end: bytes) -> None:
    assert parse_properties(end.join([b"a=1", b"", b"# no", b"b=2"]) + end) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("mark", [b"#", b"!", b"  #"])
def test_comments_are_skipped_and_cannot_be_continued(mark: bytes) -> None:
    assert parse_properties(mark + b" text \\\na=1") == {"a": "1"}


def test_a_mark_inside_a_line_is_no_comment() -> None:
    assert parse_properties(b"a=1 # one") == {"a": "1 # one"}


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_odd_backslash_at_the_end_continues_the_line_without_leading_blanks(end: bytes) -> None:
    assert parse_properties(b"a=1,\\" + end + b"   2,\\" + end + b"\t3") == {"a": "1,2,3"}


def test_an_even_number_of_backslashes_does_not_continue() -> None:
    assert parse_properties(b"a=1\\\\\nb=2") == {"a": "1\\", "b": "2"}


def test_a_continuation_may_begin_with_a_comment_mark() -> None:
    assert parse_properties(b"a=1\\\n#2") == {"a": "1#2"}


def test_a_continued_line_that_is_still_empty_may_turn_out_a_comment() -> None:
    assert parse_properties(b"\\\n# text\na=1") == {"a": "1"}


def test_a_blank_line_ends_a_continuation() -> None:
    assert parse_properties(b"a=1\\\n\nb=2") == {"a": "1", "b": "2"}


def test_escapes_and_other_backslashes() -> None:
    assert parse_properties(rb"a=\t\n\r\f\\\q\"") == {"a": '\t\n\r\f\\q"'}


def test_unicode_escapes_and_their_surrogate_pairs() -> None:
    assert parse_properties(rb"a=\u00e9\u20AC\ud83d\ude00") == {"a": "é€😀"}


def test_bytes_are_latin_1() -> None:
    assert parse_properties("ä=ÿ".encode("latin-1")) == {"ä": "ÿ"}


@pytest.mark.parametrize("escape", [rb"\u12", rb"\u12g4", rb"\u", rb"\u 123"])
def test_a_broken_unicode_escape_is_refused_with_its_line(escape: bytes) -> None:
    with pytest.raises(PropertiesSyntaxError) as raised:
        parse_properties(b"# one\na=1\nb=1\\\n" + escape)
    assert raised.value.line_number == 3


def test_the_later_of_two_equal_keys_wins() -> None:
    assert parse_properties(b"a=1\nb=2\na=3") == {"a": "3", "b": "2"}


@given(st.binary())
def test_any_bytes_are_entries_or_a_syntax_error(data: bytes) -> None:
    try:
        entries = parse_properties(data)
    except PropertiesSyntaxError as error:
        assert error.line_number >= 1
    else:
        assert all(isinstance(text, str) for entry in entries.items() for text in entry)


def _escape(text: str) -> bytes:
    """Every UTF-16 unit as an escape: the one form that is safe everywhere."""
    units = text.encode("utf-16-be", "surrogatepass")
    return b"".join(b"\\u%04x" % int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))


@given(st.dictionaries(st.text(), st.text()))
def test_what_is_escaped_comes_back(entries: dict[str, str]) -> None:
    lines = [_escape(key) + b"=" + _escape(value) for key, value in entries.items()]
    assert parse_properties(b"\n".join(lines)) == entries


_WORDS = st.text(alphabet="abc.", min_size=1)
_SEPARATORS = st.sampled_from(["=", ":", " ", " = "])
_LINE_ENDS = st.sampled_from(["\n", "\r\n"])


@given(st.dictionaries(_WORDS, _WORDS), _SEPARATORS, _LINE_ENDS)
def test_layout_does_not_change_the_meaning(entries: dict[str, str], separator: str, end: str) -> None:
    lines = [f"  {key}{separator}\\{end}   {value}" for key, value in entries.items()]
    assert parse_properties(end.join(["# head", *lines]).encode()) == entries
