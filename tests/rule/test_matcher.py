"""Matchers as Alertmanager reads and means them, in linear time."""

import pytest

from streams.rule.matcher import LabelMatcher, all_hold, mean_everything, read_matcher


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tool="search"', LabelMatcher.of("tool", "search")),
        ("tool = search", LabelMatcher.of("tool", "search")),
        ('tool!="a=b"', LabelMatcher.of("tool", "a=b", equal=False)),
        ("tool=~web_.*|search", LabelMatcher.of("tool", "web_.*|search", regex=True)),
        ('tool!~"x"', LabelMatcher.of("tool", "x", regex=True, equal=False)),
        (r'tool="say \"hi\"\\\n"', LabelMatcher.of("tool", 'say "hi"\\\n')),
        ("tool=", LabelMatcher.of("tool", "")),
    ],
)
def test_a_matcher_is_read_and_written_back(text: str, expected: LabelMatcher) -> None:
    read = read_matcher(text)

    assert expected == read
    assert expected == read_matcher(str(read))


@pytest.mark.parametrize("text", ["", "tool", "=x", 'tool="x', "tool=~(", r"tool=~(a)\1", "tool=~(?i)a", 'a b="c"'])
def test_what_is_no_matcher_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_matcher(text)


def test_a_missing_label_is_empty_and_an_expression_means_the_whole_value() -> None:
    labels = {"tool": "web_search"}

    assert read_matcher("team=").holds(labels)
    assert read_matcher("team!=a").holds(labels)
    assert not read_matcher("team=~.+").holds(labels)
    assert not read_matcher("tool=~web").holds(labels)
    assert read_matcher("tool!~web").holds(labels)
    assert all_hold((read_matcher("tool=~web.*"), read_matcher("team=")), labels)
    assert not all_hold((read_matcher("tool=~web.*"), read_matcher("team=a")), labels)


def test_what_needs_no_label_means_everything() -> None:
    assert mean_everything((read_matcher("a="), read_matcher("b=~.*"), read_matcher("c!=x")))
    assert not mean_everything((read_matcher("a="), read_matcher("b=x")))


def test_a_hostile_expression_takes_no_longer_than_its_text() -> None:
    """One that takes an engine that backtracks longer than the universe has lasted."""
    assert not read_matcher("tool=~(a*)*(a|a)*b").holds({"tool": "a" * 5_000})
